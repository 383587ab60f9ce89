/* workers_show.c: workers as JSON, for people and programs to read. */
#include <stdlib.h>
#include <string.h>

#include "codec_history.h"
#include "codec_numbers.h"
#include "workers.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const worker_record *)a)->name, ((const worker_record *)b)->name);
}

static void show_uint(text *t, const char *name, uint64_t value)
{
    text_add_format(t, ", \"%s\": %llu", name, (unsigned long long)value);
}

static void show_refused(text *t, const worker_record *k)
{
    const char *before = "";
    text_add_string(t, ", \"refused\": {");
    for (int i = 0; i < WORKERS_PROBLEMS; i++) {
        if (k->refused[i] > 0) {
            text_add_format(t, "%s\"%s\": %u", before, problem_slug((problem_code)i),
                            k->refused[i]);
            before = ", ";
        }
    }
    text_add_string(t, "}, \"last_refusal\": ");
    if (k->any_refused) {
        text_add_string(t, "{\"time\": ");
        show_time(t, k->refused_ms);
        text_add_format(t, ", \"code\": \"%s\"}", problem_slug(k->last_refusal));
    } else {
        text_add_string(t, "null");
    }
}

static void show_worker(text *t, const worker_record *k)
{
    text_add_string(t, "{\"name\": ");
    json_add_string(t, k->name, strlen(k->name));
    text_add_string(t, ", \"first_seen\": ");
    show_time(t, k->first_seen_ms);
    text_add_string(t, ", \"last_seen\": ");
    show_time(t, k->last_seen_ms);
    show_uint(t, "steps", k->steps);
    text_add_string(t, ", \"weight\": ");
    if (k->accepted) {
        json_add_double(t, k->weight);
    } else {
        text_add_string(t, "null");
    }
    if (k->has_staleness) {
        text_add_format(t, ", \"staleness\": {\"last\": %llu, \"max\": %llu}",
                        (unsigned long long)k->staleness, (unsigned long long)k->max_staleness);
    } else {
        text_add_string(t, ", \"staleness\": null");
    }
    show_uint(t, "nonfinite", k->nonfinite);
    show_uint(t, "consecutive_nonfinite", k->in_a_row);
    text_add_format(t, ", \"quarantined\": %s", k->in_quarantine ? "true" : "false");
    show_refused(t, k);
    text_add_string(t, "}");
}

void workers_show(workers *w, text *t)
{
    workers_copied copy;
    if (!workers_copy(w, &copy)) {
        t->failed = true;
        return;
    }
    qsort(copy.records, copy.n, sizeof *copy.records, compare_names);
    text_add_string(t, "{\"workers\": [");
    for (size_t i = 0; i < copy.n && !t->failed; i++) {
        text_add_string(t, i > 0 ? ",\n " : "\n ");
        show_worker(t, &copy.records[i]);
    }
    text_add_format(t, "], \"gone\": %u}", copy.gone);
    workers_copy_drop(w, &copy);
}
