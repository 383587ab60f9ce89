/* watch.c: the steps of an optimizer as they come: on a terminal a line that lives, elsewhere a
 * line each. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "adamctl.h"

#define LONGEST_SPARKLINE 60
#define RATE_STEPS        64 /* that the rate is of */
#define NARROWEST         40 /* columns of a terminal */

typedef struct watch {
    const ctl_context *ctl;
    bool live;
    uint64_t left; /* events to go */
    double norms[LONGEST_SPARKLINE];
    double times[RATE_STEPS]; /* when each of the last steps was, by the server */
    uint64_t seen;
} watch;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Seconds of the "2026-11-24T18:20:00.123Z" that the server gave a step; 0 where it is no such. */
static double time_of(const cJSON *step)
{
    struct tm t = {0};
    double fraction = 0;
    const char *rest = strptime(ctl_text_of(step, "time"), "%Y-%m-%dT%H:%M:%S", &t);
    if (rest == NULL) {
        return 0;
    }
    if (*rest == '.') {
        fraction = strtod(rest, NULL);
    }
    return (double)timegm(&t) + fraction;
}

static size_t columns(void)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return !known ? 80 : size.ws_col < NARROWEST ? NARROWEST : size.ws_col;
}

/* The last norms as bars between the least and the largest of them. */
static void print_sparkline(const watch *w, size_t most)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    size_t n = w->seen < LONGEST_SPARKLINE ? (size_t)w->seen : LONGEST_SPARKLINE;
    n = n < most ? n : most;
    double least = 0;
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        double norm = w->norms[(w->seen - n + i) % LONGEST_SPARKLINE];
        least = i == 0 || norm < least ? norm : least;
        largest = i == 0 || norm > largest ? norm : largest;
    }
    for (size_t i = 0; i < n; i++) {
        double norm = w->norms[(w->seen - n + i) % LONGEST_SPARKLINE];
        double place = largest > least ? (norm - least) / (largest - least) : 0;
        (void)fputs(bars[(size_t)(place * 7.999)], stdout);
    }
}

/* Steps a second over the last ones; 0 where there are too few. */
static double rate_of(const watch *w)
{
    uint64_t n = w->seen < RATE_STEPS ? w->seen : RATE_STEPS;
    if (n < 2) {
        return 0;
    }
    double last = w->times[(w->seen - 1) % RATE_STEPS];
    double first = w->times[(w->seen - n) % RATE_STEPS];
    return last > first ? (double)(n - 1) / (last - first) : 0;
}

/* A norm that is not finite is a string in JSON. */
static double norm_of(const cJSON *step, const char *name, char text[24])
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(step, name);
    if (cJSON_IsNumber(value)) {
        (void)snprintf(text, 24, "%.4g", value->valuedouble);
        return value->valuedouble;
    }
    (void)snprintf(text, 24, "%s", cJSON_IsString(value) ? value->valuestring : "-");
    ctl_clean(text);
    return 0;
}

static void print_step(watch *w, const adamd_event *event, const cJSON *step)
{
    char grad[24];
    char param[24];
    char update[24];
    char line[160];
    double norm = norm_of(step, "grad_norm", grad);
    (void)norm_of(step, "param_norm", param);
    (void)norm_of(step, "update_norm", update);
    w->norms[w->seen % LONGEST_SPARKLINE] = norm;
    w->times[w->seen % RATE_STEPS] = time_of(step);
    w->seen++;
    int used = snprintf(line, sizeof line, "step %.0f%s  %.1f/s  grad %s  param %s  update %s  ",
                        ctl_number_of(step, "step"),
                        strcmp(event->type, "skipped") == 0 ? " (skipped)" : "", rate_of(w), grad,
                        param, update);
    size_t room = columns();
    if (!w->live) {
        (void)printf("%s", line);
        print_sparkline(w, 20);
        (void)putchar('\n');
    } else {
        (void)printf("\r\033[K%.*s", (int)room - 1, line);
        print_sparkline(w, (size_t)used + 1 < room ? room - 1 - (size_t)used : 0);
    }
    (void)fflush(stdout);
}

static bool on_event(void *context, const adamd_event *event)
{
    watch *w = context;
    if (event == NULL) {
        return !interrupted;
    }
    if (w->ctl->options.json != NULL) {
        (void)printf("{\"event\": \"%s\", \"data\": %s}\n", event->type, event->data);
        (void)fflush(stdout);
    } else {
        cJSON *data = cJSON_Parse(event->data);
        if (strcmp(event->type, "step") == 0 || strcmp(event->type, "skipped") == 0) {
            print_step(w, event, data);
        } else if (strcmp(event->type, "gap") == 0) {
            (void)printf("%safter step %.0f some steps are no longer there\n", w->live ? "\n" : "",
                         ctl_number_of(data, "last_event_id"));
        } else if (strcmp(event->type, "removed") == 0) {
            (void)printf("%s%s was removed", w->live ? "\n" : "", w->ctl->argv[0]);
            (void)fputs(w->live ? "" : "\n", stdout);
        } /* others are a later server's */
        cJSON_Delete(data);
    }
    return !interrupted && --w->left > 0;
}

int ctl_watch(ctl_context *ctl)
{
    watch w = {
        .ctl = ctl, .live = ctl_is_terminal() && ctl->options.json == NULL, .left = UINT64_MAX};
    uint64_t from = 0;
    if (!ctl_number("--count", ctl->options.count, 1, UINT64_MAX - 1, &w.left) ||
        !ctl_number("--from", ctl->options.from, 0, UINT64_C(1) << 53, &from)) {
        return CTL_USAGE;
    }
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    adamd_status status =
        adamd_events(ctl->client, ctl->argv[0], ctl->options.from, on_event, &w, &ctl->error);
    if (w.live && w.seen > 0) {
        (void)putchar('\n');
    }
    return status == ADAMD_OK ? CTL_OK : ctl_failed(ctl, status);
}
