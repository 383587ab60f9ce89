/* options.c: hyperparameters, their defaults and ranges. Knows no state. */
#include "adam/optimizer.h"

#include <math.h>

#include "error.h"
#include "optimizer_internal.h"

const char *adam_algorithm_name(adam_algorithm algorithm)
{
    return algorithm == ADAM_ALGORITHM_ADAMW ? "adamw" : "adam";
}

void adam_options_default(adam_algorithm algorithm, adam_options *options)
{
    *options = (adam_options){
        .lr = 1e-3,
        .betas = {0.9, 0.999},
        .eps = 1e-8,
        .weight_decay = algorithm == ADAM_ALGORITHM_ADAMW ? 1e-2 : 0.0,
        .bias_correction = true,
    };
}

void adam_grad_options_default(adam_grad_options *options)
{
    *options =
        (adam_grad_options){.grad_scale = 1.0, .max_grad_norm = INFINITY, .clip_value = INFINITY};
}

static adam_status check_not_negative(const char *name, double value, adam_error *error)
{
    if (isfinite(value) && value >= 0.0) {
        return ADAM_OK;
    }
    return adam_error_set(error, ADAM_INVALID_OPTION, "%s is %s, expected a finite number >= 0",
                          name, ADAM_DIGITS(value));
}

adam_status adam_options_check(const adam_options *options, adam_error *error)
{
    adam_status st = check_not_negative("lr", options->lr, error);
    if (st == ADAM_OK) {
        st = check_not_negative("eps", options->eps, error);
    }
    if (st == ADAM_OK) {
        st = check_not_negative("weight_decay", options->weight_decay, error);
    }
    for (int i = 0; st == ADAM_OK && i < 2; i++) {
        if (!(options->betas[i] >= 0.0 && options->betas[i] < 1.0)) {
            st = adam_error_set(error, ADAM_INVALID_OPTION,
                                "betas[%d] is %s, expected a number >= 0 and < 1", i,
                                ADAM_DIGITS(options->betas[i]));
        }
    }
    return st;
}

double adam_grad_unscale(const adam_grad_options *options)
{
    return (double)(float)(1.0 / (double)(float)options->grad_scale);
}

adam_status adam_grad_options_check(const adam_grad_options *options, adam_error *error)
{
    if (!(options->grad_scale > 0.0) || !isnormal((float)adam_grad_unscale(options))) {
        return adam_error_set(error, ADAM_INVALID_OPTION,
                              "grad_scale is %s, expected a number > 0 whose inverse is a normal "
                              "float32",
                              ADAM_DIGITS(options->grad_scale));
    }
    if (!(options->max_grad_norm >= 0.0)) {
        return adam_error_set(error, ADAM_INVALID_OPTION,
                              "max_grad_norm is %s, expected a finite number >= 0",
                              ADAM_DIGITS(options->max_grad_norm));
    }
    if (!(options->clip_value > 0.0)) {
        return adam_error_set(error, ADAM_INVALID_OPTION,
                              "clip_value is %s, expected a finite number > 0",
                              ADAM_DIGITS(options->clip_value));
    }
    return ADAM_OK;
}
