/* client.c: opens and closes a client. Sends nothing. */
#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_status;

static void init_curl(void)
{
    curl_status = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Splits `url` into what libcurl connects to and the path that stands before every request's. */
static adamd_status split_url(adamd_client *client, const char *url, adamd_error *error)
{
    adamd_status status = ADAMD_OK;
    char *path = NULL;
    char *query = NULL;
    char *whole = NULL;
    CURLU *parsed = curl_url();
    if (parsed == NULL) {
        return adamdc_error_no_memory(error, strlen(url));
    }
    CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url, 0);
    if (code != CURLUE_OK) {
        status = adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                  "'%s' is not a URL like http://127.0.0.1:2326: %s", url,
                                  curl_url_strerror(code));
        goto out;
    }
    if (curl_url_get(parsed, CURLUPART_QUERY, &query, 0) == CURLUE_OK) {
        status =
            adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "'%s' has a query, expected none", url);
        goto out;
    }
    if (curl_url_get(parsed, CURLUPART_PATH, &path, 0) != CURLUE_OK ||
        curl_url_set(parsed, CURLUPART_PATH, "/", 0) != CURLUE_OK ||
        curl_url_set(parsed, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_URL, &whole, 0) != CURLUE_OK) {
        status = adamdc_error_no_memory(error, strlen(url));
        goto out;
    }
    for (size_t n = strlen(path); n > 0 && path[n - 1] == '/'; n--) {
        path[n - 1] = '\0';
    }
    whole[strlen(whole) - 1] = '\0'; /* the slash put there above */
    client->base = strdup(path);
    client->url = strdup(whole);
    if (client->base == NULL || client->url == NULL) {
        status = adamdc_error_no_memory(error, strlen(url));
    }
out:
    curl_free(path);
    curl_free(query);
    curl_free(whole);
    curl_url_cleanup(parsed);
    return status;
}

static unsigned or_default(unsigned value, unsigned otherwise)
{
    return value != 0 ? value : otherwise;
}

static void set_limits(adamd_client *client, const adamd_client_options *options)
{
    static const adamd_client_options none;
    options = options != NULL ? options : &none;
    client->options.connect_timeout_ms = or_default(options->connect_timeout_ms, 10000);
    client->options.stall_timeout_s = or_default(options->stall_timeout_s, 120);
    client->options.timeout_ms = options->timeout_ms;
    client->options.max_retries = options->max_retries;
    client->options.max_reply = options->max_reply != 0 ? options->max_reply : (size_t)1 << 30;
    client->out_header.limit = ADAMDC_MAX_HEADER + 8;
    client->reply.limit = client->options.max_reply;
}

adamd_status adamd_open(const char *url, const adamd_client_options *options, adamd_client **client,
                        adamd_error *error)
{
    if (client == NULL || url == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "adamd_open without %s",
                                url == NULL ? "a URL" : "a place for the client");
    }
    *client = NULL;
    (void)pthread_once(&curl_once, init_curl);
    if (curl_status != CURLE_OK) {
        return adamdc_error_set(error, ADAMD_NO_MEMORY, "curl_global_init: %s",
                                curl_easy_strerror(curl_status));
    }
    adamd_client *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return adamdc_error_no_memory(error, sizeof *made);
    }
    set_limits(made, options);
    adamd_status status = split_url(made, url, error);
    if (status == ADAMD_OK) {
        made->easy = curl_easy_init();
        made->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (made->easy == NULL || made->c_locale == (locale_t)0) {
            status = adamdc_error_set(error, ADAMD_NO_MEMORY, "no memory for a libcurl handle");
        }
    }
    if (status != ADAMD_OK) {
        adamd_close(made);
        return status;
    }
    *client = made;
    return ADAMD_OK;
}

void adamd_close(adamd_client *client)
{
    if (client == NULL) {
        return;
    }
    curl_easy_cleanup(client->easy);
    if (client->c_locale != (locale_t)0) {
        freelocale(client->c_locale);
    }
    adamdc_buffer_free(&client->out_header);
    adamdc_buffer_free(&client->reply);
    free(client->url);
    free(client->base);
    free(client);
}

const char *adamd_last_etag(const adamd_client *client)
{
    return client != NULL ? client->etag : "";
}

const char *adamd_last_json(const adamd_client *client)
{
    return client != NULL && client->reply.length > 0 ? client->reply.data : "";
}
