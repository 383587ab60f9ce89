/* test_soak_rounds.c: many clients step, wait, pull, change, remove and make optimizers of all
 * modes at once, for ADAMD_SOAK_SECONDS (3): every request is answered, and none with what only a
 * fault would make of it; and beside all that, gradients with keys count once each, however often
 * and however carelessly they are sent. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crowd.h"
#include "rounds.h"

enum { CLIENTS = 16, EXACT = 4, NAMES = 5, SIZE = 3 };

typedef struct soak {
    server server;
    double until;
    atomic_uint requests, steps, held, replayed, refused, changed; /* as they were answered */
    atomic_uint exact;                                             /* keys that were taken */
} soak;

typedef struct dice {
    uint64_t seed;
    unsigned key; /* the last one that was sent, */
    unsigned name;
    char body[64]; /* and with what */
} dice;

static unsigned roll(dice *d, unsigned sides)
{
    d->seed = d->seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(d->seed >> 33) % sides;
}

/* Holds a reply to what all replies have in common. */
static void check(worker *w, int status, const char *what)
{
    soak *s = w->context;
    atomic_fetch_add(&s->requests, 1);
    if (worker_failed(w)) {
        return;
    }
    const char *type = adamd_response_header(&w->reply, "Content-Type", 0);
    const char *text = (const char *)w->reply.body;
    const bool problem = type != NULL && strcmp(type, "application/problem+json") == 0;
    if ((status >= 400) != problem || (status >= 500 && status != 503 && status != 507)) {
        worker_fail(w, "%s: status %d: %.300s", what, status, text != NULL ? text : "");
    }
    if (type != NULL && strstr(type, "json") != NULL) {
        cJSON *root = cJSON_ParseWithLength(text, w->reply.length);
        if (root == NULL) {
            worker_fail(w, "%s: not JSON: %.300s", what, text);
        }
        cJSON_Delete(root);
    }
    atomic_fetch_add(&s->steps, status == 200 && strcmp(what, "step") == 0);
    atomic_fetch_add(&s->held, status == 202);
    atomic_fetch_add(&s->refused, problem);
    atomic_fetch_add(&s->replayed,
                     adamd_response_header(&w->reply, "Idempotent-Replayed", 0) != NULL);
    if (status == 422 && strstr(text, "key-reused") != NULL) {
        worker_fail(w, "%s: a repeat was taken for something else: %.300s", what, text);
    }
}

static void path_of(char *out, size_t size, unsigned name, const char *rest)
{
    (void)snprintf(out, size, OPTIMIZERS "/soak%u%s", name, rest);
}

/* Sends a gradient: with a key, which may be the last one again, or without; with what it is based
 * on, or without. */
static void step(worker *w, dice *d)
{
    char path[96];
    char lines[3][64];
    const char *headers[6] = {"Content-Type: application/json", "Expect:", lines[0]};
    size_t n = 3;
    (void)snprintf(lines[0], sizeof lines[0], "Adam-Worker: w%zu", w->index);
    if (roll(d, 2) == 0) {
        const bool again = d->key > 0 && roll(d, 3) == 0;
        d->key += !again;
        d->name = again ? d->name : roll(d, NAMES);
        if (!again) {
            (void)snprintf(d->body, sizeof d->body, "{\"grads\": {\"w\": [%u, 1]}}", d->key);
        }
        (void)snprintf(lines[1], sizeof lines[1], "Idempotency-Key: %zu-%u", w->index, d->key);
        headers[n++] = lines[1];
        path_of(path, sizeof path, d->name, "/step");
    } else {
        static const char *const rest[] = {"/step", "/step?dtype=bf16", "/step?dtype=f64"};
        path_of(path, sizeof path, roll(d, NAMES), rest[roll(d, 3)]);
    }
    if (roll(d, 4) == 0) {
        (void)snprintf(lines[2], sizeof lines[2], "Adam-Based-On: %u", roll(d, 40));
        headers[n++] = lines[2];
    } else if (roll(d, 3) == 0) {
        headers[n++] = "Prefer: return=minimal";
    } else if (roll(d, 3) == 0) {
        headers[n++] = "Accept: application/vnd.safetensors";
    }
    const char *body = n > 3 && headers[3] == lines[1] ? d->body
                       : roll(d, 8) == 0               ? "{\"grads\": {\"w\": [1, \"NaN\"]}}"
                       : roll(d, 8) == 0 ? "{\"grads\": {\"w\": [1, 2]}, \"grad_scale\": 2}"
                                         : "{\"grads\": {\"w\": [1, 2], \"v\": [3]}}";
    check(w, worker_ask(w, "POST", path, headers, body, strlen(body)), "step");
}

static void pull(worker *w, dice *d)
{
    static const char *const star[] = {"If-None-Match: *", NULL};
    char path[96];
    path_of(path, sizeof path, roll(d, NAMES), roll(d, 3) == 0 ? "/params?wait=1" : "/params");
    check(w, worker_ask(w, "GET", path, roll(d, 2) ? star : NULL, NULL, 0), "pull");
}

static void look(worker *w, dice *d)
{
    static const char *const rest[] = {"/round", "/workers", "", "/history", "/digest", "/changes"};
    char path[96];
    path_of(path, sizeof path, roll(d, NAMES), rest[roll(d, COUNT(rest))]);
    check(w, worker_ask(w, "GET", path, NULL, NULL, 0), "look");
}

static const char *const ways[] = {
    "\"aggregation\": null, \"input\": \"gradients\"",
    "\"aggregation\": {\"mode\": \"sync\", \"workers\": 3, \"quorum\": 2, \"timeout_ms\": 40}",
    "\"aggregation\": {\"mode\": \"sync\", \"workers\": 2, \"timeout_ms\": 60, \"elastic\": true, "
    "\"reduce\": \"weighted\"}, \"nonfinite\": \"skip\"",
    "\"aggregation\": {\"mode\": \"buffered\", \"size\": 4, \"strict\": true}",
    "\"aggregation\": {\"mode\": \"async\", \"max_staleness\": 20, \"damping\": \"inverse\"}",
    "\"input\": \"weights\", \"max_consecutive_nonfinite\": 3",
};

static void make(worker *w, unsigned name, const char *way)
{
    char path[96];
    char json[256];
    path_of(path, sizeof path, name, "");
    (void)snprintf(json, sizeof json, "{\"params\": {\"w\": [1, 2], \"v\": [3]}, %s}", way);
    check(w, worker_ask_json(w, "PUT", path, json), "create");
}

static void change(worker *w, dice *d)
{
    static const char *const methods[] = {"DELETE", "DELETE", "DELETE", "PUT"};
    static const char *const rest[] = {"", "/round", "/workers/w3", "/params"};
    char path[96];
    char json[256];
    soak *s = w->context;
    const unsigned name = roll(d, NAMES);
    const unsigned what = roll(d, 8);
    int status;
    if (what >= 4) {
        path_of(path, sizeof path, name, "");
        (void)snprintf(json, sizeof json, "{%s}", ways[roll(d, COUNT(ways))]);
        status = worker_ask_json(w, "PATCH", path, json);
    } else {
        path_of(path, sizeof path, name, rest[what]);
        status = what == 3 ? worker_ask_json(w, "PUT", path, "{\"params\": {\"w\": [5, 6]}}")
                           : worker_ask(w, methods[what], path, NULL, NULL, 0);
    }
    check(w, status, "change");
    atomic_fetch_add(&s->changed, status < 300);
    if (what == 0) {
        make(w, name, ways[roll(d, COUNT(ways))]);
    }
}

static void disturb(worker *w)
{
    const soak *s = w->context;
    dice d = {.seed = 77 + w->index};
    while (now() < s->until && !worker_failed(w)) {
        const unsigned what = roll(&d, 20);
        if (what < 13) {
            step(w, &d);
        } else if (what < 15) {
            pull(w, &d);
        } else if (what < 18) {
            look(w, &d);
        } else {
            change(w, &d);
        }
    }
}

/* Sends each gradient until it is told that it was taken, and often once more; sometimes it hangs
 * up and does not know. */
static void count_exactly(worker *w)
{
    static const char *const body = "{\"grads\": {\"w\": [1]}}";
    soak *s = w->context;
    dice d = {.seed = 99 + w->index};
    for (unsigned i = 0; now() < s->until && !worker_failed(w); i++) {
        char key[64];
        const char *const headers[] = {"Content-Type: application/json", "Expect:", key, NULL};
        (void)snprintf(key, sizeof key, "Idempotency-Key: %zu-%u", w->index, i);
        if (roll(&d, 4) == 0) {
            char line[80];
            (void)snprintf(line, sizeof line, "%s\r\n", key);
            (void)close(begin_step(&s->server, "exact", line, body));
        }
        for (unsigned times = 1 + roll(&d, 3); times > 0 && !worker_failed(w); times--) {
            const int status =
                worker_ask(w, "POST", OPTIMIZERS "/exact/step", headers, body, strlen(body));
            check(w, status, "exact");
            if (status != 200 && status != 202) {
                worker_fail(w, "status %d for a good gradient", status);
            }
        }
        atomic_fetch_add(&s->exact, 1);
    }
}

static void test_soak(void **state)
{
    static const char *const options[] = {"--worker-ttl",
                                          "1",
                                          "--idempotency-ttl",
                                          "3600",
                                          "--idempotency-keys",
                                          "1000000",
                                          "--threads",
                                          "4",
                                          NULL};
    static soak s;
    static worker workers[CLIENTS];
    (void)state;
    peer p;
    const char *seconds = getenv("ADAMD_SOAK_SECONDS");
    serve(&p, options);
    create(&p, "exact",
           "{\"params\": {\"w\": [1]}, \"aggregation\": {\"mode\": \"buffered\", \"size\": 3}}");
    s.server = p.server;
    s.until = now() + (seconds != NULL ? strtod(seconds, NULL) : 3);
    for (size_t i = 0; i < CLIENTS; i++) {
        workers[i] = (worker){.run = i < EXACT ? count_exactly : disturb, .context = &s};
    }
    for (unsigned i = 0; i < NAMES; i++) {
        char name[16];
        char json[256];
        (void)snprintf(name, sizeof name, "soak%u", i);
        (void)snprintf(json, sizeof json, "{\"params\": {\"w\": [1, 2], \"v\": [3]}, %s}", ways[i]);
        create(&p, name, json);
    }
    crowd_run(p.server.url, workers, CLIENTS);
    print_message(
        "%u requests: %u steps, %u held, %u repeats, %u refused, %u changes; %u gradients "
        "once each\n",
        atomic_load(&s.requests), atomic_load(&s.steps), atomic_load(&s.held),
        atomic_load(&s.replayed), atomic_load(&s.refused), atomic_load(&s.changed),
        atomic_load(&s.exact));
    const unsigned exact = atomic_load(&s.exact);
    wait_for_held(&p, "exact", exact % SIZE);
    assert_step_of(&p, "exact", exact / SIZE);
    remove_all(&p);
    serve_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
