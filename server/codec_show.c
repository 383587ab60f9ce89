/* codec_show.c: optimizers as JSON. */
#include "codec_show.h"

#include <math.h>
#include <string.h>

#include "codec_grad_options.h"
#include "codec_numbers.h"
#include "codec_options.h"

static bool shows_data(show_data data, uint64_t numel)
{
    return data == SHOW_DATA_ALL || (data == SHOW_DATA_SMALL && numel <= SHOW_DATA_MAX);
}

static void add_name_and_type(text *t, const adam_tensor *tensor)
{
    text_add_string(t, "{\"name\": ");
    json_add_string(t, tensor->name, tensor->name_len);
    text_add_string(t, ", \"shape\": ");
    json_add_shape(t, tensor->rank, tensor->shape);
    text_add_format(t, ", \"dtype\": \"%s\"", adam_dtype_name(tensor->dtype));
}

void show_tensor(text *t, const adam_tensor *tensor, show_data data)
{
    uint64_t numel = 0;
    (void)adam_shape_numel(tensor->rank, tensor->shape, &numel);
    add_name_and_type(t, tensor);
    if (shows_data(data, numel)) {
        text_add_string(t, ", \"data\": ");
        json_add_tensor(t, tensor);
    }
    text_add(t, "}", 1);
}

/* A line for each parameter and one for the options: it is read by people, with curl. */
void show_group(text *t, const adam_optimizer *o, size_t group, show_data data)
{
    const adam_group_view g = adam_optimizer_group(o, group);
    text_add_string(t, "{\"params\": [");
    for (size_t i = 0; i < g.n_params; i++) {
        text_add_string(t, i > 0 ? ",\n   " : "\n   ");
        const adam_param_view p = adam_optimizer_param(o, g.first_param + i);
        show_tensor(t, &p.tensor, data);
    }
    text_add_string(t, "],\n  ");
    group_options_add(t, &g);
    text_add(t, "}", 1);
}

void show_param_groups(text *t, const adam_optimizer *o, show_data data)
{
    text_add(t, "[", 1);
    for (size_t i = 0; i < adam_optimizer_group_count(o); i++) {
        text_add_string(t, i > 0 ? ",\n " : "");
        show_group(t, o, i, data);
    }
    text_add(t, "]", 1);
}

void show_tensors(text *t, const adam_tensor *tensors, size_t n)
{
    text_add(t, "{", 1);
    for (size_t i = 0; i < n && !t->failed; i++) {
        text_add_string(t, i > 0 ? ", " : "");
        json_add_string(t, tensors[i].name, tensors[i].name_len);
        text_add_string(t, ": ");
        json_add_tensor(t, &tensors[i]);
    }
    text_add(t, "}", 1);
}

static double element(const void *data, adam_dtype dtype, uint64_t i)
{
    if (dtype == ADAM_FLOAT64) {
        return ((const double *)data)[i];
    }
    return ((const float *)data)[i];
}

/* {"min", "max", "mean", "norm", "data"} of one moment. A NaN anywhere makes all four NaN. */
static void add_moment(text *t, const adam_param_view *p, const void *moment, show_data data)
{
    double min = INFINITY;
    double max = -INFINITY;
    double sum = 0;
    double squares = 0;
    bool nan = false;
    for (uint64_t i = 0; i < p->numel; i++) {
        const double x = element(moment, p->tensor.dtype, i);
        min = x < min ? x : min;
        max = x > max ? x : max;
        sum += x;
        squares += x * x;
        nan = nan || isnan(x);
    }
    if (p->numel == 0) {
        text_add_string(t, "{\"min\": null, \"max\": null, \"mean\": null");
    } else {
        text_add_string(t, "{\"min\": ");
        json_add_number(t, p->tensor.dtype, nan ? NAN : min);
        text_add_string(t, ", \"max\": ");
        json_add_number(t, p->tensor.dtype, nan ? NAN : max);
        text_add_string(t, ", \"mean\": ");
        json_add_double(t, sum / (double)p->numel);
    }
    text_add_string(t, ", \"norm\": ");
    json_add_double(t, sqrt(squares));
    if (shows_data(data, p->numel)) {
        adam_tensor tensor = p->tensor;
        tensor.data = (void *)moment; /* printed, not written to */
        text_add_string(t, ", \"data\": ");
        json_add_tensor(t, &tensor);
    }
    text_add(t, "}", 1);
}

void show_state(text *t, const adam_optimizer *o, size_t param, show_data data)
{
    const adam_param_view p = adam_optimizer_param(o, param);
    add_name_and_type(t, &p.tensor);
    text_add_format(t, ", \"step\": %llu, \"exp_avg\": ", (unsigned long long)p.step);
    add_moment(t, &p, p.exp_avg, data);
    text_add_string(t, ", \"exp_avg_sq\": ");
    add_moment(t, &p, p.exp_avg_sq, data);
    if (p.max_exp_avg_sq != NULL) {
        text_add_string(t, ", \"max_exp_avg_sq\": ");
        add_moment(t, &p, p.max_exp_avg_sq, data);
    }
    text_add(t, "}", 1);
}

void show_norms(text *t, double grad_norm, double param_norm, double update_norm, double clip_coef)
{
    text_add_string(t, "\"grad_norm\": ");
    json_add_double(t, grad_norm);
    text_add_string(t, ", \"param_norm\": ");
    json_add_double(t, param_norm);
    text_add_string(t, ", \"update_norm\": ");
    json_add_double(t, update_norm);
    text_add_string(t, ", \"clip_coef\": ");
    json_add_double(t, clip_coef);
}

void show_stats(text *t, const adam_step_stats *stats)
{
    show_norms(t, stats->grad_norm, stats->param_norm, stats->update_norm, stats->clip_coef);
    text_add_string(t, stats->skipped ? ", \"skipped\": true" : ", \"skipped\": false");
    text_add_string(t, ", \"converted\": ");
    text_add_uint(t, stats->converted);
}

void show_group_stats(text *t, const adam_group_stats *groups, size_t n, double clip_coef)
{
    text_add(t, "[", 1);
    for (size_t i = 0; i < n; i++) {
        text_add_string(t, i > 0 ? ", {" : "{");
        show_norms(t, groups[i].grad_norm, groups[i].param_norm, groups[i].update_norm, clip_coef);
        text_add(t, "}", 1);
    }
    text_add(t, "]", 1);
}

void show_summary(text *t, const char *name, const optimizer_info *info)
{
    text_add_format(t,
                    "{\"name\": \"%s\", \"algorithm\": \"%s\", \"step\": %llu, \"skipped\": %llu, "
                    "\"epoch\": %llu, "
                    "\"param_groups\": %zu, \"params\": %zu, \"numel\": %llu, \"bytes\": %zu, "
                    "\"defaults\": {",
                    name, adam_algorithm_name(info->algorithm), (unsigned long long)info->step,
                    (unsigned long long)info->skipped, (unsigned long long)info->epoch,
                    info->groups, info->params, (unsigned long long)info->numel, info->bytes);
    options_add(t, &info->defaults);
    text_add_string(t, "}, ");
    grad_options_add(t, &info->grad_options);
    text_add_string(t, ", ");
    training_add(t, &info->training);
    text_add(t, "}", 1);
}
