/* table.c: results as a table and as JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

#define MAX_LINES 256

typedef struct line {
    const char *name, *unit, *peer;
    double value, peer_value, target;
} line;

struct bench_table {
    size_t n;
    line lines[MAX_LINES];
};

bench_table *bench_table_create(void)
{
    bench_table *t = calloc(1, sizeof *t);
    if (t == NULL) {
        bench_fail("no memory");
    }
    return t;
}

void bench_table_add(bench_table *t, const char *name, double value, const char *unit,
                     const char *peer, double peer_value, double target)
{
    if (t->n == MAX_LINES) {
        bench_fail("more than %d results", MAX_LINES);
    }
    t->lines[t->n++] = (line){name, unit, peer, value, peer_value, target};
}

static const char *verdict(const line *l)
{
    return l->target <= 0 ? "" : l->value / l->peer_value <= l->target ? "met" : "MISSED";
}

/* A file to which objects can be added: a new one, or where the array of a file that an earlier
 * program wrote ends. */
static FILE *open_array(const char *path)
{
    FILE *f = fopen(path, "r+");
    if (f == NULL) {
        return fopen(path, "w");
    }
    (void)fseek(f, 0, SEEK_END);
    if (ftell(f) > 2) {
        (void)fseek(f, -2, SEEK_END); /* before "]\n" */
    }
    return f;
}

void bench_table_end(bench_table *t, const char *json)
{
    printf("%-44s %12s %-5s %-34s %12s %7s %7s\n", "what", "adamd", "", "beside", "", "ratio",
           "target");
    for (size_t i = 0; i < t->n; i++) {
        const line *l = &t->lines[i];
        printf("%-44s %12.4g %-5s %-34s %12.4g %7.2f %7.2f %s\n", l->name, l->value, l->unit,
               l->peer, l->peer_value, l->value / l->peer_value, l->target, verdict(l));
    }
    FILE *f = json != NULL ? open_array(json) : NULL;
    if (json != NULL && f == NULL) {
        bench_fail("cannot write %s", json);
    }
    for (size_t i = 0; f != NULL && i < t->n; i++) {
        const line *l = &t->lines[i];
        (void)fprintf(f,
                      "%s{\"name\": \"%s\", \"value\": %g, \"unit\": \"%s\", \"peer\": \"%s\", "
                      "\"peer_value\": %g, \"ratio\": %g, \"target\": %g, \"met\": %s}",
                      i > 0 || ftell(f) > 0 ? ",\n " : "[", l->name, l->value, l->unit, l->peer,
                      l->peer_value, l->value / l->peer_value, l->target,
                      l->target > 0 && l->value / l->peer_value > l->target ? "false" : "true");
    }
    if (f != NULL) {
        (void)fputs("]\n", f);
        (void)fclose(f);
    }
    free(t);
}
