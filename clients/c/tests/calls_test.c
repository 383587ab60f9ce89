/* calls_test.c: the calls that speak JSON, files, events, waits and what is on disk, against a real
 * server, whose binary is the one argument. */
#include <ftw.h>
#include <pthread.h>
#include <string.h>

#include "adamd_client.h"
#include "check.h"
#include "server.h"

static char directory[] = "/tmp/adamd-client-XXXXXX";

static const char *in_directory(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", directory, name);
    return path[turn];
}

static adamd_client *connect_to(const server *srv)
{
    adamd_client *client = NULL;
    adamd_error error;
    adamd_client_options options = {.max_retries = 1};
    CHECK_STATUS(adamd_open(srv->url, &options, &client, &error), ADAMD_OK, &error);
    return client;
}

/* Checks that a call brought text with these words in it. */
#define CHECK_TEXT(call, words)                                    \
    do {                                                           \
        char *json = NULL;                                         \
        size_t length = 0;                                         \
        CHECK_STATUS(call, ADAMD_OK, &error);                      \
        CHECK(json != NULL && strlen(json) == length);             \
        if (json != NULL && strstr(json, words) == NULL) {         \
            (void)fprintf(stderr, "no %s in:\n%s\n", words, json); \
            CHECK(false);                                          \
        }                                                          \
        free(json);                                                \
    } while (0)

static float w[3] = {1, 2, 3};
static double b[2] = {0.5, -0.5};
static const adamd_tensor params[] = {{"n/w", ADAMD_FLOAT32, 1, {3}, w},
                                      {"b", ADAMD_FLOAT64, 1, {2}, b}};

static void step(adamd_client *client, const char *name)
{
    adamd_error error;
    float gw[3] = {1, -1, 1};
    double gb[2] = {1, 1};
    adamd_tensor grads[] = {params[0], params[1]};
    grads[0].data = gw;
    grads[1].data = gb;
    adamd_step_options options = {.worker = "two", .minimal = true};
    CHECK_STATUS(adamd_step(client, name, grads, 2, NULL, &options, NULL, &error), ADAMD_OK,
                 &error);
}

static void check_reading(adamd_client *client)
{
    adamd_error error;
    CHECK_STATUS(adamd_livez(client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_readyz(client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_create(client, "a", "{\"defaults\": {\"lr\": 0.5}}", params, 2, &error),
                 ADAMD_OK, &error);
    CHECK_TEXT(
        adamd_create_json(client, "b", "{\"params\": {\"w\": [1, 2]}}", &json, &length, &error),
        "\"name\": \"b\"");
    step(client, "a");
    CHECK_TEXT(adamd_list(client, NULL, NULL, 0, &json, &length, &error), "\"name\": \"b\"");
    CHECK_TEXT(adamd_list(client, "a", NULL, 1, &json, &length, &error), "\"next\": null");
    CHECK_TEXT(adamd_list(client, NULL, "a", 1, &json, &length, &error), "\"name\": \"b\"");
    CHECK_TEXT(adamd_summary(client, "a", &json, &length, &error), "\"step\": 1");
    CHECK_TEXT(adamd_param_groups(client, "a", "none", &json, &length, &error), "\"lr\": 0.5");
    CHECK_TEXT(adamd_state(client, "a", "n/w", "none", &json, &length, &error), "\"exp_avg\"");
    CHECK_TEXT(adamd_digest(client, "a", &json, &length, &error), "\"digest\"");
    CHECK_TEXT(adamd_history(client, "a", 5, &json, &length, &error), "\"worker\": \"two\"");
    CHECK_TEXT(adamd_workers(client, "a", &json, &length, &error), "\"name\": \"two\"");
    CHECK_TEXT(adamd_round(client, "a", &json, &length, &error), "\"mode\"");
    float one[3];
    adamd_tensor tensor = {"n/w", ADAMD_FLOAT32, 1, {3}, one};
    CHECK_STATUS(adamd_get_param(client, "a", NULL, &tensor, &error), ADAMD_OK, &error);
    CHECK(one[0] > 0.4F && one[0] < 0.6F);
    uint16_t half[3];
    adamd_tensor narrow = {"n/w", ADAMD_BFLOAT16, 1, {3}, half};
    CHECK_STATUS(adamd_get_param(client, "a", NULL, &narrow, &error), ADAMD_OK, &error);
    CHECK(half[0] == 0x3f00);
    CHECK_STATUS(adamd_summary(client, "a", NULL, NULL, &error), ADAMD_INVALID_ARGUMENT, &error);
    CHECK_STATUS(adamd_get_param(client, "a", NULL, &(adamd_tensor){.name = ""}, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
}

static void check_changing(adamd_client *client)
{
    adamd_error error;
    char *none = NULL;
    char text[64];
    CHECK_TEXT(adamd_configure(client, "a", "{\"max_grad_norm\": 2}", &json, &length, &error),
               "\"max_grad_norm\": 2");
    CHECK_TEXT(adamd_patch_param_group(client, "a", 0, "{\"lr\": 0.25}", &json, &length, &error),
               "\"lr\": 0.25");
    CHECK_TEXT(adamd_changes(client, "a", 1, &json, &length, &error), "param_groups[0].lr");
    CHECK_STATUS(adamd_patch_param_group(client, "a", 7, "{\"lr\": 1}", &none, NULL, &error),
                 ADAMD_REFUSED, &error);
    CHECK(none == NULL && strcmp(adamd_error_code(&error), "no-such-group") == 0);
    CHECK(adamd_error_member(&error, "status", text, sizeof text) && strcmp(text, "404") == 0);
    CHECK(adamd_error_member(&error, "title", text, sizeof text) && text[0] != '\0');
    CHECK(!adamd_error_member(&error, "param", text, sizeof text) && text[0] == '\0');
    float more[1] = {7};
    adamd_tensor added = {"more", ADAMD_FLOAT32, 1, {1}, more};
    CHECK_STATUS(adamd_add_param_group(client, "a", "{\"lr\": 0.125}", &added, 1, &error), ADAMD_OK,
                 &error);
    CHECK_STATUS(adamd_add_param_group(client, "b",
                                       "{\"params\": [{\"name\": \"v\", \"data\": 1}]}", NULL, 0,
                                       &error),
                 ADAMD_OK, &error);
    CHECK_TEXT(adamd_param_groups(client, "a", NULL, &json, &length, &error), "\"lr\": 0.125");
    CHECK_STATUS(adamd_remove_worker(client, "a", "two", &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_remove_worker(client, "a", "two", &error), ADAMD_REFUSED, &error);
    CHECK_STATUS(adamd_drop_round(client, "a", &error), ADAMD_OK, &error);
    float short_one[2] = {0};
    adamd_tensor wrong = {"n/w", ADAMD_FLOAT32, 1, {2}, short_one};
    CHECK_STATUS(adamd_step(client, "a", &wrong, 1, &wrong, NULL, NULL, &error), ADAMD_REFUSED,
                 &error);
    CHECK(strcmp(adamd_error_code(&error), "shape-mismatch") == 0);
    CHECK(adamd_error_member(&error, "param", text, sizeof text) && strcmp(text, "n/w") == 0);
    CHECK(adamd_error_member(&error, "expected_shape", text, sizeof text) &&
          strcmp(text, "[3]") == 0);
}

static void check_files(adamd_client *client)
{
    adamd_error error;
    adamd_file *file = NULL;
    size_t n = 0;
    const char *state = in_directory("state.safetensors");
    CHECK_STATUS(adamd_save_state_dict(client, "b", state, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_load_state_dict(client, "b", "everything", state, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_load_state_dict(client, "b", "half", state, &error), ADAMD_INVALID_ARGUMENT,
                 &error);
    unsigned char *bytes = NULL;
    size_t length = 0;
    CHECK_STATUS(adamd_get_state_dict(client, "b", &bytes, &length, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_put_state_dict(client, "b", "params", bytes, length, &error), ADAMD_OK,
                 &error);
    free(bytes);
    const char *path = in_directory("params.safetensors");
    CHECK_STATUS(adamd_save_params(client, "a", NULL, path, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_file_open(path, &file, &error), ADAMD_OK, &error);
    const adamd_tensor *tensors = adamd_file_tensors(file, &n);
    CHECK(n == 3 && adamd_file_metadata(file, "step") != NULL);
    CHECK_STATUS(adamd_file_write(in_directory("copy"), tensors, n,
                                  &(adamd_metadata){"made by", "a test"}, 1, &error),
                 ADAMD_OK, &error);
    adamd_file_close(file);
    CHECK_STATUS(adamd_file_open(in_directory("copy"), &file, &error), ADAMD_OK, &error);
    CHECK(strcmp(adamd_file_metadata(file, "made by"), "a test") == 0);
    adamd_file_close(file);
    CHECK_STATUS(adamd_load_params(client, "a", in_directory("copy"), &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_load_params(client, "a", in_directory("none"), &error), ADAMD_FILE, &error);
    CHECK_STATUS(adamd_file_open("/dev/null", &file, &error), ADAMD_FILE, &error);
    CHECK(file == NULL);
    CHECK_STATUS(adamd_save_params(client, "none", NULL, in_directory("x"), &error), ADAMD_REFUSED,
                 &error);
    CHECK(access(in_directory("x"), F_OK) != 0 && access(in_directory("x.part"), F_OK) != 0);
    CHECK_STATUS(adamd_save_params(client, "a", NULL, "/nowhere/x", &error), ADAMD_FILE, &error);
}

static void check_disk(adamd_client *client)
{
    adamd_error error;
    CHECK_TEXT(adamd_snapshot(client, "b", &json, &length, &error), "\"lsn\"");
    CHECK_TEXT(adamd_rollback(client, "b", 0, &json, &length, &error), "\"step\": 0");
    CHECK_TEXT(adamd_fork(client, "b", "c", NULL, &json, &length, &error), "\"name\": \"c\"");
    CHECK_TEXT(adamd_fork(client, "b", "d", &(uint64_t){0}, &json, &length, &error), "\"d\"");
    char *json = NULL;
    CHECK_STATUS(adamd_rollback(client, "b", 99, &json, NULL, &error), ADAMD_REFUSED, &error);
    CHECK(json == NULL && strcmp(adamd_error_code(&error), "no-such-step") == 0);
}

/* Steps "e" a little later, then removes it. */
static void *later(void *context)
{
    adamd_client *client = connect_to(context);
    adamd_error error;
    for (int i = 0; i < 2; i++) {
        (void)usleep(200000);
        step(client, "e");
    }
    (void)usleep(200000);
    CHECK_STATUS(adamd_delete(client, "e", &error), ADAMD_OK, &error);
    adamd_close(client);
    return NULL;
}

static bool gather(void *context, const adamd_event *event)
{
    char *said = context;
    if (event != NULL && strlen(said) < 200) {
        (void)sprintf(said + strlen(said), "%s%s ", event->type, event->id);
    }
    return true;
}

static bool stop_at_once(void *context, const adamd_event *event)
{
    (void)event;
    ++*(int *)context;
    return false;
}

static void check_events(adamd_client *client, server *srv)
{
    adamd_error error;
    pthread_t thread;
    char said[256] = "";
    int calls = 0;
    bool changed = true;
    uint64_t at = 0;
    adamd_tensor into[] = {params[0], params[1]};
    CHECK_STATUS(adamd_create(client, "e", NULL, params, 2, &error), ADAMD_OK, &error);
    char etag[ADAMD_MAX_ETAG];
    (void)strcpy(etag, adamd_last_etag(client));
    CHECK_STATUS(adamd_wait_params(client, "e", etag, 1, into, 2, &changed, NULL, &error), ADAMD_OK,
                 &error);
    CHECK(!changed);
    CHECK_STATUS(adamd_events(client, "e", NULL, stop_at_once, &calls, &error), ADAMD_OK, &error);
    CHECK(calls == 1);
    CHECK(pthread_create(&thread, NULL, later, srv) == 0);
    CHECK_STATUS(adamd_wait_params(client, "e", etag, 10, into, 2, &changed, &at, &error), ADAMD_OK,
                 &error);
    CHECK(changed && at == 1);
    CHECK_STATUS(adamd_events(client, "e", "0", gather, said, &error), ADAMD_OK, &error);
    CHECK(strcmp(said, "step1 step2 removed ") == 0);
    (void)pthread_join(thread, NULL);
    CHECK_STATUS(adamd_events(client, "e", NULL, gather, said, &error), ADAMD_REFUSED, &error);
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *at)
{
    (void)about;
    (void)kind;
    (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    if (argc != 2 || mkdtemp(directory) == NULL) {
        (void)fprintf(stderr, "usage: %s PATH-OF-ADAMD\n", argv[0]);
        return EXIT_FAILURE;
    }
    server srv = {0};
    start_server(&srv, argv[1], in_directory("data"));
    adamd_client *client = connect_to(&srv);
    check_reading(client);
    check_changing(client);
    check_files(client);
    check_disk(client);
    check_events(client, &srv);
    adamd_close(client);
    int status = stop_server(&srv, SIGTERM);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
