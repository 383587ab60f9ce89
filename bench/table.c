/* table.c: results as a table and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define MAX_LINES 256

typedef struct line {
    char *name, *peer;
    const char *unit;
    double value, peer_value, target;
    bench_goal goal;
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

static char *copy(const char *s)
{
    char *own = strdup(s);
    if (own == NULL) {
        bench_fail("no memory");
    }
    return own;
}

static double ratio(const line *l)
{
    return l->value / l->peer_value;
}

/* A line without a target misses none. */
static bool is_met(const line *l)
{
    switch (l->goal) {
    case BENCH_AT_MOST: return ratio(l) <= l->target;
    case BENCH_AT_LEAST: return ratio(l) >= l->target;
    case BENCH_NO_GOAL: break;
    }
    return true;
}

static void print_head(void)
{
    printf("%-50s %10s %-5s %-38s %10s %6s  %s\n", "what", "adamd", "", "beside", "", "ratio",
           "target");
}

static void print_line(const line *l)
{
    static const char *const sign[] = {"", "<=", ">="};
    printf("%-50s %10.4g %-5s %-38s %10.4g %6.2f", l->name, l->value, l->unit, l->peer,
           l->peer_value, ratio(l));
    if (l->goal != BENCH_NO_GOAL) {
        printf("  %s %.2f %s", sign[l->goal], l->target, is_met(l) ? "met" : "MISSED");
    }
    printf("\n");
    (void)fflush(stdout);
}

void bench_table_add(bench_table *t, const char *name, double value, const char *unit,
                     const char *peer, double peer_value, bench_goal goal, double target)
{
    if (t->n == MAX_LINES) {
        bench_fail("more than %d results", MAX_LINES);
    }
    if (t->n == 0) {
        print_head();
    }
    line *l = &t->lines[t->n++];
    *l = (line){copy(name), copy(peer), unit, value, peer_value, target, goal};
    print_line(l);
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

/* A member whose value is a string: some names have quotes in them. */
static void write_string(FILE *f, const char *member, const char *string)
{
    (void)fprintf(f, "\"%s\": \"", member);
    for (const char *at = string; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            (void)fputc('\\', f);
        }
        (void)fputc(*at, f);
    }
    (void)fputs("\", ", f);
}

static void write_line(FILE *f, const line *l)
{
    (void)fputs(ftell(f) > 0 ? ",\n {" : "[{", f);
    write_string(f, "name", l->name);
    (void)fprintf(f, "\"value\": %g, ", l->value);
    write_string(f, "unit", l->unit);
    write_string(f, "peer", l->peer);
    (void)fprintf(f, "\"peer_value\": %g, \"ratio\": %g, ", l->peer_value, ratio(l));
    if (l->goal == BENCH_NO_GOAL) {
        (void)fputs("\"target\": null, \"met\": null}", f);
    } else {
        (void)fprintf(f, "\"target\": %g, \"met\": %s}", l->target, is_met(l) ? "true" : "false");
    }
}

void bench_table_end(bench_table *t, const char *json)
{
    FILE *f = json != NULL && t->n > 0 ? open_array(json) : NULL;
    if (json != NULL && t->n > 0 && f == NULL) {
        bench_fail("cannot write %s", json);
    }
    for (size_t i = 0; i < t->n; i++) {
        if (f != NULL) {
            write_line(f, &t->lines[i]);
        }
        free(t->lines[i].name);
        free(t->lines[i].peer);
    }
    if (f != NULL) {
        (void)fputs("]\n", f);
        (void)fclose(f);
    }
    free(t);
}
