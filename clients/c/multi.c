/* multi.c: many steps in flight over one multi handle of libcurl. Each has a client of its own,
 * whose connections the multi handle keeps. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST_POLL_MS 60000

typedef enum slot_state { FREE, RUNNING, WAITING, DONE } slot_state;

typedef struct slot {
    slot_state state;
    adamd_client *client;
    adamdc_step step;
    adamdc_run run;
    adamd_error error;
    adamd_status status;
    uint64_t wake_at; /* WAITING: when it is sent again */
    void *tag;
    struct slot *next; /* of the free ones, or of those that are done */
} slot;

struct adamd_multi {
    CURLM *curl;
    char *url;
    adamd_client_options options;
    slot **slots;
    size_t n, capacity;
    size_t in_flight, waiting;
    slot *free, *done, *last_done;
};

adamd_status adamd_multi_open(const char *url, const adamd_client_options *options,
                              unsigned max_connections, adamd_multi **multi, adamd_error *error)
{
    static const adamd_client_options none;
    adamd_client *probe = NULL;
    if (multi == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "adamd_multi_open without a place");
    }
    *multi = NULL;
    adamd_status status = adamd_open(url, options, &probe, error); /* whether the URL is one */
    adamd_close(probe);
    if (status != ADAMD_OK) {
        return status;
    }
    adamd_multi *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return adamdc_error_no_memory(error, sizeof *made);
    }
    made->options = options != NULL ? *options : none;
    made->url = strdup(url);
    made->curl = curl_multi_init();
    if (made->url == NULL || made->curl == NULL) {
        adamd_multi_close(made);
        return adamdc_error_no_memory(error, strlen(url));
    }
    if (max_connections > 0) {
        (void)curl_multi_setopt(made->curl, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)max_connections);
    }
    *multi = made;
    return ADAMD_OK;
}

void adamd_multi_close(adamd_multi *multi)
{
    if (multi == NULL) {
        return;
    }
    for (size_t i = 0; i < multi->n; i++) {
        slot *s = multi->slots[i];
        if (s->state == RUNNING) {
            uint64_t ignored = 0;
            (void)curl_multi_remove_handle(multi->curl, s->client->easy);
            (void)adamdc_run_tried(&s->run, CURLE_ABORTED_BY_CALLBACK, &s->status, &ignored);
        }
        if (s->state == RUNNING || s->state == WAITING) {
            adamdc_run_end(&s->run);
        }
        adamd_close(s->client);
        free(s);
    }
    free(multi->slots);
    if (multi->curl != NULL) {
        (void)curl_multi_cleanup(multi->curl);
    }
    free(multi->url);
    free(multi);
}

/* A new slot among the free ones. */
static adamd_status add_slot(adamd_multi *multi, adamd_error *error)
{
    if (multi->n == ADAMD_MAX_IN_FLIGHT) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT,
                                "adamd_multi_step: %zu steps in flight, expected at most %d",
                                multi->in_flight, ADAMD_MAX_IN_FLIGHT);
    }
    if (multi->n == multi->capacity) {
        size_t capacity = multi->capacity > 0 ? 2 * multi->capacity : 16;
        slot **slots = realloc(multi->slots, capacity * sizeof *slots);
        if (slots == NULL) {
            return adamdc_error_no_memory(error, capacity * sizeof *slots);
        }
        multi->slots = slots;
        multi->capacity = capacity;
    }
    slot *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return adamdc_error_no_memory(error, sizeof *s);
    }
    adamd_status status = adamd_open(multi->url, &multi->options, &s->client, error);
    if (status != ADAMD_OK) {
        free(s);
        return status;
    }
    multi->slots[multi->n++] = s;
    s->next = multi->free;
    multi->free = s;
    return ADAMD_OK;
}

/* Sends a slot's step. */
static adamd_status send_slot(adamd_multi *multi, slot *s)
{
    adamd_status status = adamdc_run_try(&s->run);
    if (status != ADAMD_OK) {
        return status;
    }
    curl_easy_setopt(s->client->easy, CURLOPT_PRIVATE, s);
    CURLMcode code = curl_multi_add_handle(multi->curl, s->client->easy);
    if (code != CURLM_OK) {
        uint64_t ignored = 0;
        (void)adamdc_run_tried(&s->run, CURLE_FAILED_INIT, &status, &ignored);
        return adamdc_error_set(&s->error, ADAMD_NO_MEMORY, "curl_multi_add_handle: %s",
                                curl_multi_strerror(code));
    }
    s->state = RUNNING;
    return ADAMD_OK;
}

/* Puts a slot among those that are done. */
static void finish_slot(adamd_multi *multi, slot *s, adamd_status status)
{
    adamdc_run_end(&s->run);
    s->state = DONE;
    s->status = status;
    s->next = NULL;
    if (multi->last_done != NULL) {
        multi->last_done->next = s;
    } else {
        multi->done = s;
    }
    multi->last_done = s;
}

adamd_status adamd_multi_step(adamd_multi *multi, const char *name, const adamd_tensor *grads,
                              size_t n, const adamd_tensor *params_out,
                              const adamd_step_options *options, void *tag, adamd_error *error)
{
    if (multi == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "adamd_multi_step without a multi");
    }
    adamd_status status = multi->free == NULL ? add_slot(multi, error) : ADAMD_OK;
    slot *s = multi->free;
    if (status != ADAMD_OK || s == NULL) {
        return status;
    }
    s->tag = tag;
    status = adamdc_step_make(s->client, name, grads, n, params_out, options, &s->step, error);
    if (status != ADAMD_OK) {
        return status;
    }
    status =
        adamdc_run_begin(&s->run, &s->step.transfer, &s->step.call, &s->step.outcome, &s->error);
    status = status == ADAMD_OK ? send_slot(multi, s) : status;
    if (status != ADAMD_OK) {
        adamdc_run_end(&s->run);
        if (error != NULL) {
            *error = s->error;
        }
        return status;
    }
    multi->free = s->next;
    multi->in_flight++;
    return ADAMD_OK;
}

/* What libcurl has brought to an end. */
static void take_ended(adamd_multi *multi)
{
    int left = 0;
    for (CURLMsg *said; (said = curl_multi_info_read(multi->curl, &left)) != NULL;) {
        slot *s = NULL;
        uint64_t wait_ms = 0;
        adamd_status status = ADAMD_OK;
        CURLcode code = said->data.result; /* gone with the handle */
        if (said->msg != CURLMSG_DONE ||
            curl_easy_getinfo(said->easy_handle, CURLINFO_PRIVATE, (char **)&s) != CURLE_OK) {
            continue;
        }
        (void)curl_multi_remove_handle(multi->curl, s->client->easy);
        if (adamdc_run_tried(&s->run, code, &status, &wait_ms)) {
            s->state = WAITING;
            s->wake_at = adamdc_now_ms() + wait_ms;
            multi->waiting++;
        } else {
            finish_slot(multi, s, status);
        }
    }
}

/* Sends again what has waited long enough. Returns how long the next has to wait, -1: none has. */
static int64_t wake(adamd_multi *multi)
{
    int64_t next = -1;
    uint64_t now = adamdc_now_ms();
    for (size_t i = 0; i < multi->n && multi->waiting > 0; i++) {
        slot *s = multi->slots[i];
        if (s->state != WAITING) {
            continue;
        }
        if (s->wake_at > now) {
            int64_t left = (int64_t)(s->wake_at - now);
            next = next < 0 || left < next ? left : next;
            continue;
        }
        multi->waiting--;
        adamd_status status = send_slot(multi, s);
        if (status != ADAMD_OK) {
            finish_slot(multi, s, status);
        }
    }
    return next;
}

/* Hands over the first that is done. */
static void take_done(adamd_multi *multi, adamd_done *done)
{
    slot *s = multi->done;
    multi->done = s->next;
    multi->last_done = multi->done != NULL ? multi->last_done : NULL;
    done->tag = s->tag;
    done->status = s->status;
    memset(&done->result, 0, sizeof done->result);
    memset(&done->error, 0, sizeof done->error);
    if (s->status == ADAMD_OK) {
        done->status = adamdc_step_result(&s->step, &done->result, &s->error);
    }
    if (done->status != ADAMD_OK) {
        done->error = s->error;
    }
    s->state = FREE;
    s->next = multi->free;
    multi->free = s;
    multi->in_flight--;
}

bool adamd_multi_next(adamd_multi *multi, int timeout_ms, adamd_done *done)
{
    uint64_t end = adamdc_now_ms() + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
    while (multi->in_flight > 0) {
        int running = 0;
        (void)curl_multi_perform(multi->curl, &running);
        take_ended(multi);
        int64_t wait = wake(multi);
        if (multi->done != NULL) {
            take_done(multi, done);
            return true;
        }
        uint64_t now = adamdc_now_ms();
        if (timeout_ms >= 0 && now >= end) {
            return false;
        }
        wait = wait < 0 || wait > LONGEST_POLL_MS ? LONGEST_POLL_MS : wait;
        if (timeout_ms >= 0 && (int64_t)(end - now) < wait) {
            wait = (int64_t)(end - now);
        }
        (void)curl_multi_poll(multi->curl, NULL, 0, (int)wait, NULL);
    }
    return false;
}

size_t adamd_multi_in_flight(const adamd_multi *multi)
{
    return multi->in_flight;
}
