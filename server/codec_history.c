/* codec_history.c: records of steps and changes, a line of JSON each. */
#include "codec_history.h"

#include <time.h>

#include "codec_numbers.h"
#include "codec_show.h"

void show_time(text *t, int64_t time_ms)
{
    const int64_t rest = ((time_ms % 1000) + 1000) % 1000;
    const time_t seconds = (time_t)((time_ms - rest) / 1000);
    struct tm parts;
    char day[32];
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        text_add_string(t, "null");
        return;
    }
    text_add_format(t, "\"%s.%03dZ\"", day, (int)rest);
}

void show_step(text *t, const step_record *r)
{
    text_add_format(t, "{\"step\": %llu, \"time\": ", (unsigned long long)r->step);
    show_time(t, r->time_ms);
    text_add_string(t, ", \"worker\": ");
    if (r->worker_length > 0) {
        json_add_string(t, r->worker, r->worker_length);
    } else {
        text_add_string(t, "null");
    }
    text_add_format(t, ", \"skipped\": %s, ", r->skipped ? "true" : "false");
    show_norms(t, r->grad_norm, r->param_norm, r->update_norm, r->clip_coef);
    text_add_string(t, ", \"param_groups\": [");
    for (size_t i = 0; i < r->n_groups && !t->failed; i++) {
        const group_record *g = &r->groups[i];
        text_add_string(t, i > 0 ? ", {\"lr\": " : "{\"lr\": ");
        json_add_double(t, g->lr);
        text_add(t, ", ", 2);
        show_norms(t, g->grad_norm, g->param_norm, g->update_norm, r->clip_coef);
        text_add(t, "}", 1);
    }
    text_add_string(t, "]}");
}

void show_change(text *t, const change_record *r)
{
    text_add_string(t, "{\"time\": ");
    show_time(t, r->time_ms);
    text_add_format(t, ", \"step\": %llu, \"what\": ", (unsigned long long)r->step);
    json_add_string(t, r->what, r->what_length);
    text_add_string(t, ", \"from\": ");
    text_add(t, r->from, r->from_length);
    text_add_string(t, ", \"to\": ");
    text_add(t, r->to, r->to_length);
    text_add(t, "}", 1);
}
