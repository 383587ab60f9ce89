/* json.c: what do a million numbers cost as JSON? The step beside the raw echo of its bytes, the
 * memory that it takes, and a number's reading and printing beside the C library's. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "body.h"
#include "harness.h"
#include "number.h"

#define NUMBERS      ((size_t)1 << 20)
#define NUMBER_TEXT  ((size_t)24) /* bytes of a number and ", ", at most */
#define TEXT_BYTES   (NUMBERS * NUMBER_TEXT + 64)
#define STEPS        15
#define WARM_UP      2
#define FEW          ((size_t)1 << 16) /* numbers that are read and printed here */
#define PASSES       15
#define MODEL_COPIES 5 /* values, two moments; gradients as read; values that are published */
#define MEMORY_GOAL  1.25

/* The i-th of some numbers that are spread as gradients are: over a few powers of ten. */
static float number_at(size_t i)
{
    uint64_t z = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    const double u = (double)(int64_t)z * 0x1p-63;
    return (float)(u * u * u * 0.1);
}

/* {"grads": {"w": [...]}}, in digits enough for any float32. */
static size_t make_step(char *out)
{
    size_t n = (size_t)sprintf(out, "{\"grads\": {\"w\": [");
    for (size_t i = 0; i < NUMBERS; i++) {
        n += (size_t)sprintf(out + n, "%s%.9g", i > 0 ? ", " : "", (double)number_at(i));
    }
    return n + (size_t)sprintf(out + n, "]}}");
}

/* Steps and echoes by turns, so that both see the same machine; then the server's peak memory. */
static void measure_step(bench_table *t, const char *adamd)
{
    double step[STEPS];
    double echo[STEPS];
    char *body = bench_map(TEXT_BYTES);
    char *reply = bench_map(TEXT_BYTES);
    const size_t bytes = make_step(body);
    size_t reply_bytes = 0;
    pid_t echo_pid;
    const int echo_socket = bench_echo_start(bytes, &echo_pid);
    bench_server server = bench_server_start(adamd, NULL);
    const int s = bench_connect("127.0.0.1", server.port);
    bench_body made = bench_body_make(NUMBERS);
    (void)bench_request(s, "PUT", "/v1/optimizers/bench", BENCH_SAFETENSORS, made.bytes,
                        made.length, reply, TEXT_BYTES, 201);
    bench_body_free(&made);
    for (int i = -WARM_UP; i < STEPS; i++) {
        const double start = bench_now();
        bench_send(echo_socket, body, bytes);
        bench_receive(echo_socket, reply, bytes);
        const double middle = bench_now();
        reply_bytes = bench_request(s, "POST", "/v1/optimizers/bench/step", "application/json",
                                    body, bytes, reply, TEXT_BYTES, 200)
                          .length;
        const double end = bench_now();
        if (i >= 0) {
            echo[i] = (middle - start) * 1e3;
            step[i] = (end - middle) * 1e3;
        }
    }
    bench_table_add(t, "JSON step, 1 M parameters", bench_median(step, STEPS), "ms",
                    "raw TCP echo of the bytes", bench_median(echo, STEPS), BENCH_NO_GOAL, 0);
    const size_t model = MODEL_COPIES * NUMBERS * sizeof(float);
    bench_table_add(t, "peak memory of that", (double)bench_peak_memory(server.pid) / 0x1p20, "MiB",
                    "body + reply + 5 x 4 bytes a parameter",
                    (double)(bytes + reply_bytes + model) / 0x1p20, BENCH_AT_MOST, MEMORY_GOAL);
    (void)close(s);
    (void)close(echo_socket);
    (void)waitpid(echo_pid, NULL, 0);
    bench_server_stop(&server);
    bench_unmap(body, TEXT_BYTES);
    bench_unmap(reply, TEXT_BYTES);
}

/* ---- a number ---- */

typedef size_t print_function(float value, char *out);
typedef const char *read_function(const char *text, const char *end, float *value);

static size_t print_by_c(float value, char *out)
{
    return (size_t)sprintf(out, "%.9g", (double)value);
}

static const char *read_by_c(const char *text, const char *end, float *value)
{
    char *after;
    (void)end;
    *value = strtof(text, &after);
    return after;
}

static float numbers[FEW];

/* Prints FEW numbers with a ',' after each; returns their bytes, and nanoseconds for each. */
static size_t time_print(print_function *print, char *out, double *ns)
{
    const double start = bench_now();
    char *to = out;
    for (size_t i = 0; i < FEW; i++) {
        to += print(numbers[i], to);
        *to++ = ',';
    }
    *ns = (bench_now() - start) * 1e9 / (double)FEW;
    return (size_t)(to - out);
}

static double time_read(read_function *read, const char *text, size_t length)
{
    const char *end = text + length;
    const char *at = text;
    const double start = bench_now();
    for (size_t i = 0; i < FEW; i++) {
        float value = 0;
        at = read(at, end, &value);
        if (at == NULL || value != numbers[i]) {
            bench_fail("number %zu is misread", i);
        }
        at++;
    }
    return (bench_now() - start) * 1e9 / (double)FEW;
}

static void measure_numbers(bench_table *t)
{
    double print[2][PASSES];
    double read[2][PASSES];
    char *text = bench_map(FEW * NUMBER_TEXT);
    for (size_t i = 0; i < FEW; i++) {
        numbers[i] = number_at(i);
    }
    for (int i = 0; i < PASSES; i++) {
        (void)time_print(number_print_f32, text, &print[0][i]);
        const size_t length = time_print(print_by_c, text, &print[1][i]);
        read[0][i] = time_read(number_take_f32, text, length);
        read[1][i] = time_read(read_by_c, text, length);
    }
    bench_table_add(t, "printing a float32", bench_median(print[0], PASSES), "ns",
                    "printf(\"%.9g\")", bench_median(print[1], PASSES), BENCH_AT_MOST, 0.5);
    bench_table_add(t, "reading a float32", bench_median(read[0], PASSES), "ns", "strtof",
                    bench_median(read[1], PASSES), BENCH_AT_MOST, 0.5);
    bench_unmap(text, FEW * NUMBER_TEXT);
}

int main(int argc, char **argv)
{
    const bench_options o = bench_options_read(argc, argv);
    bench_table *t = bench_table_create();
    measure_step(t, o.adamd);
    measure_numbers(t);
    bench_table_end(t, o.json);
    return 0;
}
