/* worker.c: one worker of the digits demo, in C. Computes gradients of a small network on its shard
 * of the data and leaves the optimizing to adamd. worker.py does the same in Python.
 *
 * Prints "ready" and waits for a line on standard input, so that all workers begin at once; then
 * "progress SENT STEP LOSS" from time to time and "done SENT FIRST_STEP LAST_STEP" at the end. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adamd_client.h"

enum { PIXELS = 64, HIDDEN = 32, CLASSES = 10, HELD_OUT = 5, REPORT = 10, MAX_ROWS = 10000 };

typedef struct settings {
    const char *url, *optimizer, *data;
    long shard, shards, steps, batch, seed, interval_ms;
} settings;

typedef struct dataset {
    float (*pixels)[PIXELS];
    int *labels;
    size_t rows;
} dataset;

/* Parameters or gradients of a network with one hidden layer; the weights lie as torch's Linear has
 * them: [out, in]. */
typedef struct network {
    float hidden_weight[HIDDEN][PIXELS], hidden_bias[HIDDEN];
    float output_weight[CLASSES][HIDDEN], output_bias[CLASSES];
} network;

enum { TENSORS = 4 };

/* The same four names for parameters and gradients. */
static void name_tensors(network *net, adamd_tensor tensors[TENSORS])
{
    tensors[0] =
        (adamd_tensor){"hidden.weight", ADAMD_FLOAT32, 2, {HIDDEN, PIXELS}, net->hidden_weight};
    tensors[1] = (adamd_tensor){"hidden.bias", ADAMD_FLOAT32, 1, {HIDDEN}, net->hidden_bias};
    tensors[2] =
        (adamd_tensor){"output.weight", ADAMD_FLOAT32, 2, {CLASSES, HIDDEN}, net->output_weight};
    tensors[3] = (adamd_tensor){"output.bias", ADAMD_FLOAT32, 1, {CLASSES}, net->output_bias};
}

/* One row: 64 pixels of 0..16 and a label. */
static bool parse_row(char *line, float pixels[PIXELS], int *label)
{
    char *at = line;
    for (int i = 0; i <= PIXELS; i++) {
        char *end = NULL;
        long value = strtol(at, &end, 10);
        char wanted = i < PIXELS ? ',' : '\n';
        if (end == at || *end != wanted || value < 0 || value > (i < PIXELS ? 16 : CLASSES - 1)) {
            return false;
        }
        if (i < PIXELS) {
            pixels[i] = (float)value / 16;
        } else {
            *label = (int)value;
        }
        at = end + 1;
    }
    return true;
}

/* Every fifth row is held out; of the others, this worker's are every shards-th. */
static bool load_shard(const settings *set, dataset *data)
{
    FILE *file = fopen(set->data, "r");
    if (file == NULL) {
        (void)fprintf(stderr, "digits_worker: %s: %s\n", set->data, strerror(errno));
        return false;
    }
    data->pixels = calloc(MAX_ROWS, sizeof *data->pixels);
    data->labels = calloc(MAX_ROWS, sizeof *data->labels);
    bool good = data->pixels != NULL && data->labels != NULL;
    char line[1024];
    long row = 0;
    long kept = 0;
    while (good && fgets(line, sizeof line, file) != NULL && row < MAX_ROWS) {
        good = parse_row(line, data->pixels[data->rows], &data->labels[data->rows]);
        if (!good) {
            (void)fprintf(stderr,
                          "digits_worker: %s:%ld: expected 64 pixels of 0 to 16 and a label\n",
                          set->data, row + 1);
        }
        if (row++ % HELD_OUT != HELD_OUT - 1 && kept++ % set->shards == set->shard) {
            data->rows++;
        }
    }
    (void)fclose(file);
    if (good && data->rows == 0) {
        (void)fprintf(stderr, "digits_worker: %s: no rows for shard %ld of %ld\n", set->data,
                      set->shard, set->shards);
    }
    return good && data->rows > 0;
}

/* Adds the gradient of one example's cross-entropy to `grad` and returns the loss. */
static double backpropagate(const network *net, const float *pixels, int label, float scale,
                            network *grad)
{
    float hidden[HIDDEN];
    float output[CLASSES];
    float above[HIDDEN] = {0};
    for (int h = 0; h < HIDDEN; h++) {
        float sum = net->hidden_bias[h];
        for (int p = 0; p < PIXELS; p++) {
            sum += net->hidden_weight[h][p] * pixels[p];
        }
        hidden[h] = sum > 0 ? sum : 0;
    }
    float top = -INFINITY;
    for (int c = 0; c < CLASSES; c++) {
        output[c] = net->output_bias[c];
        for (int h = 0; h < HIDDEN; h++) {
            output[c] += net->output_weight[c][h] * hidden[h];
        }
        top = output[c] > top ? output[c] : top;
    }
    float total = 0;
    for (int c = 0; c < CLASSES; c++) {
        output[c] = expf(output[c] - top);
        total += output[c];
    }
    for (int c = 0; c < CLASSES; c++) {
        float error = (output[c] / total - (c == label ? 1.0F : 0.0F)) * scale;
        grad->output_bias[c] += error;
        for (int h = 0; h < HIDDEN; h++) {
            grad->output_weight[c][h] += error * hidden[h];
            above[h] += error * net->output_weight[c][h];
        }
    }
    for (int h = 0; h < HIDDEN; h++) {
        float error = hidden[h] > 0 ? above[h] : 0;
        grad->hidden_bias[h] += error;
        for (int p = 0; p < PIXELS; p++) {
            grad->hidden_weight[h][p] += error * pixels[p];
        }
    }
    return -log((double)(output[label] / total) + 1e-30);
}

/* splitmix64: the same examples on every machine. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The mean gradient of a random minibatch; returns its mean loss. */
static double minibatch(const network *net, const dataset *data, long batch, uint64_t *random,
                        network *grad)
{
    double loss = 0;
    memset(grad, 0, sizeof *grad);
    for (long i = 0; i < batch; i++) {
        size_t row = (size_t)(next_random(random) % data->rows);
        loss += backpropagate(net, data->pixels[row], data->labels[row], 1.0F / (float)batch, grad);
    }
    return loss / (double)batch;
}

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (ms > 0 && nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

static bool failed(const char *what, const adamd_error *error)
{
    (void)fprintf(stderr, "digits_worker: %s: %s\n", what, error->message);
    return false;
}

static bool train(adamd_client *client, const settings *set, const dataset *data)
{
    network net;
    network grad;
    adamd_tensor params[TENSORS];
    adamd_tensor grads[TENSORS];
    adamd_error error;
    name_tensors(&net, params);
    name_tensors(&grad, grads);
    if (adamd_get_params(client, set->optimizer, params, TENSORS, NULL, &error) != ADAMD_OK) {
        return failed("the first parameters", &error);
    }
    (void)printf("ready\n");
    char line[64];
    if (fgets(line, sizeof line, stdin) == NULL) {
        (void)fprintf(stderr, "digits_worker: the start signal never came\n");
        return false;
    }
    adamd_step_options options = {.worker = "c"};
    adamd_result result = {0};
    uint64_t random = (uint64_t)set->seed;
    uint64_t first = 0;
    double loss = 0;
    for (long sent = 1; sent <= set->steps; sent++) {
        loss += minibatch(&net, data, set->batch, &random, &grad);
        if (adamd_step(client, set->optimizer, grads, TENSORS, params, &options, &result, &error) !=
            ADAMD_OK) {
            return failed("a step", &error);
        }
        first = sent == 1 ? result.step : first;
        if (sent % REPORT == 0) {
            (void)printf("progress %ld %llu %.6f\n", sent, (unsigned long long)result.step,
                         loss / REPORT);
            loss = 0;
        }
        pause_ms(set->interval_ms);
    }
    (void)printf("done %ld %llu %llu\n", set->steps, (unsigned long long)first,
                 (unsigned long long)result.step);
    return true;
}

/* Every option is needed: the conductor gives them all. */
static bool parse_arguments(int argc, char **argv, settings *set)
{
    static const char *const names[] = {"url",   "optimizer", "data", "shard",      "shards",
                                        "steps", "batch",     "seed", "interval-ms"};
    enum { N = sizeof names / sizeof names[0], TEXTS = 3 };
    struct option options[N + 1] = {0};
    const char *values[N] = {0};
    long numbers[N] = {0};
    for (int i = 0; i < N; i++) {
        options[i] = (struct option){names[i], required_argument, NULL, i};
    }
    int which = 0;
    while ((which = getopt_long(argc, argv, "", options, NULL)) >= 0 && which < N) {
        values[which] = optarg;
    }
    bool good = which == -1 && optind == argc;
    for (int i = 0; i < N && good; i++) {
        char *end = NULL;
        good = values[i] != NULL;
        numbers[i] = good && i >= TEXTS ? strtol(values[i], &end, 10) : 0;
        good = good && (i < TEXTS || (end != values[i] && *end == '\0' && numbers[i] >= 0));
        if (!good) {
            (void)fprintf(stderr, "digits_worker: --%s is '%s', expected a %s\n", names[i],
                          values[i] != NULL ? values[i] : "",
                          i < TEXTS ? "value" : "number from 0 on");
        }
    }
    *set = (settings){values[0],  values[1],  values[2],  numbers[3], numbers[4],
                      numbers[5], numbers[6], numbers[7], numbers[8]};
    if (good && (set->shard >= set->shards || set->steps < 1 || set->batch < 1)) {
        (void)fprintf(stderr,
                      "digits_worker: expected shard < shards, and steps and batch from 1 on\n");
        good = false;
    }
    return good;
}

int main(int argc, char **argv)
{
    settings set;
    dataset data = {0};
    adamd_client *client = NULL;
    adamd_error error;
    /* A line at a time: the conductor reads along. */
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    bool good = parse_arguments(argc, argv, &set) && load_shard(&set, &data);
    if (good && adamd_open(set.url, NULL, &client, &error) != ADAMD_OK) {
        good = failed("the client", &error);
    }
    good = good && train(client, &set, &data);
    adamd_close(client);
    free(data.pixels);
    free(data.labels);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
