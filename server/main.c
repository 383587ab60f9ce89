/* main.c: start, signals, drain, end. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "codec_json.h"
#include "http.h"
#include "inspect.h"
#include "listen.h"
#include "log.h"
#include "recover.h"
#include "version.h"

#define EXIT_START    2 /* could not start */
#define TRIM_SECONDS  5 /* between looks for what nobody uses */
#define DRAIN_TICK_MS 10
#define OTHER_FILES   64 /* descriptors beside connections */
#define SCRATCH_HEAD  64 /* keeps the alignment */

static void *state_alloc(void *context, size_t bytes)
{
    return memory_get_zeroed(context, bytes);
}

static void state_release(void *context, void *block, size_t bytes)
{
    memory_put(context, block, bytes);
}

/* A reused buffer, which is named in front of what is given out. */
static void *scratch_alloc(void *context, size_t bytes)
{
    buffer *b = buffer_get(context, SCRATCH_HEAD + bytes);
    if (b == NULL) {
        return NULL;
    }
    memcpy(b->data, &b, sizeof b);
    return memset(b->data + SCRATCH_HEAD, 0, bytes);
}

static void scratch_release(void *context, void *block, size_t bytes)
{
    (void)context;
    (void)bytes;
    buffer *b;
    memcpy(&b, (char *)block - SCRATCH_HEAD, sizeof b);
    buffer_drop(b);
}

static int fail(const char *message)
{
    (void)fprintf(stderr, "adamd: %s\n", message);
    return EXIT_START;
}

/* As many descriptors as connections need, if the hard limit lets. */
static void raise_file_limit(const config *c)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return;
    }
    const rlim_t wanted = (rlim_t)c->max_connections + OTHER_FILES;
    if (files.rlim_cur < wanted) {
        files.rlim_cur = wanted < files.rlim_max ? wanted : files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_cur < wanted) {
            log_write(LOG_WARN, "only %llu file descriptors for %u connections",
                      (unsigned long long)files.rlim_cur, c->max_connections);
        }
    }
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL); /* inherited by every thread: main alone takes them */
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Waits until nothing is in flight. False: a second signal came, or the time was up. */
static bool drain(http_server *http, const config *c, const sigset_t *signals)
{
    const struct timespec tick = {.tv_nsec = DRAIN_TICK_MS * 1000000L};
    const long most = (long)c->timeout * 1000 / DRAIN_TICK_MS;
    for (long i = 0; http_in_flight(http) > 0; i++) {
        if (i >= most || sigtimedwait(signals, NULL, &tick) > 0) {
            return false;
        }
    }
    return true;
}

static void wait_for_signal(api_context *ctx, const sigset_t *signals)
{
    const struct timespec tick = {.tv_sec = TRIM_SECONDS};
    while (sigtimedwait(signals, NULL, &tick) < 0) {
        registry_trim(ctx->registry);
        buffer_pool_trim(ctx->buffers);
        memory_trim(ctx->memory);
    }
}

/* What is on disk, into the registry, while requests are refused. */
static bool recover(api_context *ctx)
{
    static recovery found;
    char error[1024];
    if (ctx->store == NULL) {
        return true;
    }
    const bool done = recover_all(ctx, &found);
    if (!done || found.cut) {
        log_write(done ? LOG_WARN : LOG_ERROR, "%s%s",
                  done ? "the end of the journal is cut off: " : "", found.report);
    }
    if (!done || !store_begin(ctx->store, found.end, found.least, error, sizeof error)) {
        (void)fail(done ? error : "the data directory cannot be recovered; see above");
        return false;
    }
    log_write(LOG_INFO, "recovered %zu optimizers from %s, %zu records, %.0f MiB", found.optimizers,
              store_dir(ctx->store), found.records, (double)found.bytes / 1048576);
    atomic_store(&ctx->recovering, false);
    return true;
}

static int serve(api_context *ctx, executor *jobs, const sigset_t *signals)
{
    char error[256];
    unsigned port = ctx->config->port;
    const int listen_socket = listen_open(ctx->config->host, &port, error, sizeof error);
    if (listen_socket < 0) {
        return fail(error);
    }
    http_server *http = http_start(ctx, jobs, listen_socket, error, sizeof error);
    if (http == NULL) {
        return fail(error);
    }
    if (!recover(ctx)) {
        http_stop(http);
        return EXIT_START;
    }
    const bool v6 = strchr(ctx->config->host, ':') != NULL;
    (void)printf(v6 ? "adamd %s listening on http://[%s]:%u\n"
                    : "adamd %s listening on http://%s:%u\n",
                 ADAMD_VERSION, ctx->config->host, port);
    (void)fflush(stdout);
    log_write(LOG_INFO, "adamd %s, kernel %s, %u threads, %zu MiB of memory", ADAMD_VERSION,
              adam_kernel_name(), ctx->config->threads, ctx->config->max_memory >> 20);

    wait_for_signal(ctx, signals);
    log_write(LOG_INFO, "draining: %u requests in flight", http_in_flight(http));
    atomic_store(&ctx->draining, true);
    api_end_waits(ctx);
    if (!drain(http, ctx->config, signals)) {
        log_write(LOG_WARN, "stopped with %u requests in flight", http_in_flight(http));
        _exit(1); /* their connections may be suspended, so nothing can be taken down in order */
    }
    if (ctx->store != NULL) {
        store_settle(ctx->store);
    }
    http_stop(http);
    log_write(LOG_INFO, "stopped");
    return 0;
}

/* Opens the data directory, if there is one, and does what the command line says. */
static int run(api_context *ctx, executor *jobs, const sigset_t *signals)
{
    char error[1024];
    const config *c = ctx->config;
    if (c->data_dir == NULL) {
        return serve(ctx, jobs, signals);
    }
    const store_parts parts = {.config = c,
                               .memory = ctx->memory,
                               .buffers = ctx->buffers,
                               .registry = ctx->registry,
                               .jobs = jobs,
                               .pool = ctx->pool};
    ctx->store = store_open(&parts, error, sizeof error);
    if (ctx->store == NULL) {
        return fail(error);
    }
    ctx->recover_at = recover_at;
    ctx->load = recover_load;
    atomic_store(&ctx->recovering, true);
    const int status = c->check || c->replay != NULL ? inspect(ctx) : serve(ctx, jobs, signals);
    store_close(ctx->store);
    return status;
}

int main(int argc, char **argv)
{
    config c;
    char error[256];
    sigset_t signals;
    adam_error kernel_error;
    const config_result result = config_read(argc, argv, &c, error, sizeof error);
    if (result != CONFIG_RUN) {
        return result == CONFIG_SHOWN ? 0 : fail(error);
    }
    if (adam_kernel_check(&kernel_error) != ADAM_OK) {
        return fail(kernel_error.message);
    }
    log_begin((log_level)c.log_level, (log_format)c.log_format);
    json_init();
    (void)mallopt(M_MXFAST, 0); /* its fast bins would be merged before every block over 1 KiB */
    raise_file_limit(&c);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is a full disk to the journal */
    block_signals(&signals);

    int status = EXIT_START;
    api_context ctx = {.config = &c, .memory = memory_create(c.max_memory)};
    ctx.buffers = ctx.memory != NULL ? buffer_pool_create(ctx.memory) : NULL;
    ctx.allocator = (adam_allocator){state_alloc, state_release, ctx.memory};
    ctx.scratch = (adam_allocator){scratch_alloc, scratch_release, ctx.buffers};
    executor *jobs = executor_create(c.threads);
    ctx.jobs = jobs;
    ctx.ticker = ticker_create();
    if (ctx.ticker != NULL && jobs != NULL) {
        ctx.streams = stream_hub_create(ctx.ticker, c.heartbeat);
        ctx.alarms = alarm_clock_create(ctx.ticker, jobs);
    }
    if (ctx.buffers != NULL && jobs != NULL) {
        ctx.registry = registry_create(ctx.memory, jobs, ctx.buffers, c.history);
    }
    if (ctx.registry == NULL || ctx.streams == NULL || ctx.alarms == NULL ||
        adam_pool_create(c.threads, &ctx.pool) != ADAM_OK) {
        (void)fail("no memory or threads to start");
    } else {
        status = run(&ctx, jobs, &signals);
    }
    alarm_clock_stop(ctx.alarms); /* it gives jobs, and jobs set alarms */
    executor_free(jobs);
    alarm_clock_free(ctx.alarms);
    stream_hub_free(ctx.streams);
    ticker_free(ctx.ticker);
    adam_pool_free(ctx.pool);
    registry_free(ctx.registry);
    buffer_pool_free(ctx.buffers);
    memory_free(ctx.memory);
    return status;
}
