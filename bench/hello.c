/* hello.c: libmicrohttpd's hello world, as its minimal_example has it, on as many epoll threads as
 * adamd: what a request costs at the least. Prints where it listens; SIGTERM ends it. */
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE \
    "<html><head><title>libmicrohttpd demo</title></head><body>libmicrohttpd demo</body></html>"

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload_data,
                              size_t *upload_size, void **request)
{
    static int seen;
    (void)cls;
    (void)url;
    (void)version;
    (void)upload_data;
    (void)upload_size;
    if (strcmp(method, "GET") != 0) {
        return MHD_NO;
    }
    if (*request != &seen) { /* the first call: the headers are there */
        *request = &seen;
        return MHD_YES;
    }
    *request = NULL;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(PAGE), (void *)PAGE, MHD_RESPMEM_PERSISTENT);
    const enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

int main(int argc, char **argv)
{
    const unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* its threads inherit it */
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL,
                         MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0, MHD_OPTION_END);
    if (daemon == NULL) {
        return 1;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    printf("hello listening on http://127.0.0.1:%u\n", (unsigned)info->port);
    (void)fflush(stdout);
    int number;
    (void)sigwait(&signals, &number);
    MHD_stop_daemon(daemon);
    return 0;
}
