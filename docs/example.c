/* example.c: the core as a library: fits a line with Adam. docs/core.md explains it and quotes its
 * output; the tests build it, run it and compare. */
#include <stdio.h>
#include <stdlib.h>

#include <adam/adam.h>

#define POINTS 4
#define STEPS  200

/* y = 2x - 1 */
static const double xs[POINTS] = {-1, 0, 1, 2};
static const double ys[POINTS] = {-3, -1, 1, 3};

/* Gradient of the mean squared error of y = slope * x + offset. */
static void gradient(double slope, double offset, double *d_slope, double *d_offset)
{
    *d_slope = 0;
    *d_offset = 0;
    for (int i = 0; i < POINTS; i++) {
        const double error = slope * xs[i] + offset - ys[i];
        *d_slope += 2 * error * xs[i] / POINTS;
        *d_offset += 2 * error / POINTS;
    }
}

static int refused(const adam_error *error)
{
    fprintf(stderr, "%s: %s\n", adam_status_text(error->status), error->message);
    return EXIT_FAILURE;
}

int main(void)
{
    /* Two scalar parameters in one group, starting at zero: no data is given. */
    adam_tensor params[2] = {
        {.name = "slope", .name_len = 5, .dtype = ADAM_FLOAT64, .rank = 0},
        {.name = "offset", .name_len = 6, .dtype = ADAM_FLOAT64, .rank = 0},
    };
    adam_group_spec group = {.params = params, .n_params = 2};
    adam_options_default(ADAM_ALGORITHM_ADAM, &group.options);
    group.options.lr = 0.1;

    adam_error error;
    adam_optimizer *optimizer;
    if (adam_optimizer_create(ADAM_ALGORITHM_ADAM, &group, 1, NULL, &optimizer, &error) !=
        ADAM_OK) {
        return refused(&error);
    }

    /* The gradients' memory is ours. With out = grads each step writes the new parameters
     * over them, so that they need not be fetched. */
    double values[2] = {0, 0};
    adam_tensor grads[2] = {params[0], params[1]};
    grads[0].data = &values[0];
    grads[1].data = &values[1];
    const adam_step_args args = {.grads = grads, .n_grads = 2, .out = grads};
    adam_step_stats stats = {0};
    for (int step = 0; step < STEPS; step++) {
        gradient(values[0], values[1], &values[0], &values[1]);
        if (adam_optimizer_step(optimizer, &args, &stats, &error) != ADAM_OK) {
            adam_optimizer_free(optimizer);
            return refused(&error);
        }
    }
    printf("after %d steps: y = %.3f x %+.3f\n", (int)stats.step, values[0], values[1]);

    /* Parameters are found by name, never by place. */
    size_t slope;
    if (adam_optimizer_find(optimizer, "slope", 5, &slope)) {
        const adam_param_view view = adam_optimizer_param(optimizer, slope);
        printf("slope took part in %d steps\n", (int)view.step);
    }

    /* A step that cannot be taken changes nothing and says why. */
    grads[1].name = "ofset";
    grads[1].name_len = 5;
    if (adam_optimizer_step(optimizer, &args, &stats, &error) != ADAM_OK) {
        printf("refused: %s\n", error.message);
    }
    adam_optimizer_free(optimizer);
    return EXIT_SUCCESS;
}
