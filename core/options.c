/* options.c: hyperparameters, their defaults and ranges. Knows no state. */
#include "adam/optimizer.h"

#include <math.h>

#include "error.h"

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
    };
}

static adam_status check_not_negative(const char *name, double value, adam_error *error)
{
    if (isfinite(value) && value >= 0.0) {
        return ADAM_OK;
    }
    return adam_error_set(error, ADAM_INVALID_OPTION, "%s is %.17g, expected a finite number >= 0",
                          name, value);
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
                                "betas[%d] is %.17g, expected a number >= 0 and < 1", i,
                                options->betas[i]);
        }
    }
    return st;
}
