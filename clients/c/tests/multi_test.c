/* multi_test.c: steps on 64 optimizers in flight from one thread, against a real server, whose
 * binary is the one argument, and against none. */
#include <string.h>

#include "adamd_client.h"
#include "check.h"
#include "server.h"

#define OPTIMIZERS 64
#define STEPS      20
#define ELEMENTS   1000

typedef struct model {
    char name[16];
    float values[ELEMENTS], grads[ELEMENTS];
    adamd_tensor params, gradient;
    uint64_t step;
} model;

static model models[OPTIMIZERS];

static void begin(adamd_multi *multi, model *m)
{
    adamd_error error;
    for (int i = 0; i < ELEMENTS; i++) {
        m->grads[i] = m->values[i] * 0.5F + (float)i;
    }
    CHECK_STATUS(adamd_multi_step(multi, m->name, &m->gradient, 1, &m->params, NULL, m, &error),
                 ADAMD_OK, &error);
}

/* Each model's next step begins when the one before is done; all are in flight together. */
static void train(adamd_multi *multi)
{
    size_t most = 0;
    int steps = 0;
    adamd_done done;
    for (int k = 0; k < OPTIMIZERS; k++) {
        begin(multi, &models[k]);
    }
    most = adamd_multi_in_flight(multi);
    while (adamd_multi_next(multi, 20000, &done)) {
        model *m = done.tag;
        CHECK_STATUS(done.status, ADAMD_OK, &done.error);
        CHECK(done.status != ADAMD_OK || done.result.step == ++m->step);
        steps++;
        if (done.status == ADAMD_OK && m->step < STEPS) {
            begin(multi, m);
        }
    }
    CHECK(most == OPTIMIZERS && steps == OPTIMIZERS * STEPS && adamd_multi_in_flight(multi) == 0);
}

/* What the steps, one after the other, give on a twin of the first. */
static void check_twin(adamd_client *client)
{
    adamd_error error;
    float values[ELEMENTS] = {0};
    float grads[ELEMENTS];
    adamd_tensor params = {"w", ADAMD_FLOAT32, 1, {ELEMENTS}, values};
    adamd_tensor gradient = {"w", ADAMD_FLOAT32, 1, {ELEMENTS}, grads};
    CHECK_STATUS(adamd_create(client, "twin", NULL, &params, 1, &error), ADAMD_OK, &error);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < ELEMENTS; i++) {
            grads[i] = values[i] * 0.5F + (float)i;
        }
        CHECK_STATUS(adamd_step(client, "twin", &gradient, 1, &params, NULL, NULL, &error),
                     ADAMD_OK, &error);
    }
    CHECK(same_bytes(values, models[0].values, sizeof values));
}

static void check_refused(adamd_multi *multi)
{
    adamd_error error;
    adamd_done done;
    model *m = &models[0];
    CHECK_STATUS(adamd_multi_step(multi, "nobody", &m->gradient, 1, &m->params, NULL, NULL, &error),
                 ADAMD_OK, &error);
    CHECK(adamd_multi_next(multi, -1, &done) && done.status == ADAMD_REFUSED);
    CHECK(strcmp(adamd_error_code(&done.error), "no-such-optimizer") == 0);
    CHECK_STATUS(adamd_multi_step(multi, "", &m->gradient, 1, &m->params, NULL, NULL, &error),
                 ADAMD_INVALID_ARGUMENT, &error);
    CHECK(!adamd_multi_next(multi, 0, &done));
    begin(multi, m); /* given up in flight, below */
}

/* Nobody listens: every step is tried three times, all at once, and then told of. */
static void check_no_server(void)
{
    adamd_error error;
    adamd_multi *multi = NULL;
    adamd_client_options options = {.max_retries = 2};
    adamd_done done;
    int told = 0;
    CHECK_STATUS(adamd_multi_open("http://127.0.0.1:1", &options, 0, &multi, &error), ADAMD_OK,
                 &error);
    for (int k = 0; k < 8; k++) {
        begin(multi, &models[k]);
    }
    while (adamd_multi_next(multi, -1, &done)) {
        told++;
        CHECK(done.status == ADAMD_TRANSPORT &&
              strstr(done.error.message, "tried 3 times") != NULL);
    }
    CHECK(told == 8);
    begin(multi, &models[0]);
    (void)adamd_multi_next(multi, 1, &done); /* it waits for its second try when it is given up */
    adamd_multi_close(multi);
    CHECK_STATUS(adamd_multi_open("nonsense://", NULL, 0, &multi, &error), ADAMD_INVALID_ARGUMENT,
                 &error);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s PATH-OF-ADAMD\n", argv[0]);
        return EXIT_FAILURE;
    }
    server srv = {0};
    adamd_client *client = NULL;
    adamd_multi *multi = NULL;
    adamd_error error;
    start_server(&srv, argv[1], NULL);
    CHECK_STATUS(adamd_open(srv.url, NULL, &client, &error), ADAMD_OK, &error);
    CHECK_STATUS(adamd_multi_open(srv.url, NULL, 0, &multi, &error), ADAMD_OK, &error);
    for (int k = 0; k < OPTIMIZERS; k++) {
        model *m = &models[k];
        (void)snprintf(m->name, sizeof m->name, "m%d", k);
        m->params = (adamd_tensor){"w", ADAMD_FLOAT32, 1, {ELEMENTS}, m->values};
        m->gradient = (adamd_tensor){"w", ADAMD_FLOAT32, 1, {ELEMENTS}, m->grads};
        CHECK_STATUS(adamd_create(client, m->name, NULL, &m->params, 1, &error), ADAMD_OK, &error);
    }
    train(multi);
    check_twin(client);
    check_refused(multi);
    adamd_multi_close(multi);
    adamd_close(client);
    int status = stop_server(&srv, SIGTERM);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_no_server();
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
