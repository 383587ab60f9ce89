/* name_pattern.c: regular expressions over names. The only file that knows PCRE2.
 *
 * A pattern comes from a client, so three things have an end: its length, its memory (PCRE2 takes
 * all of it from the budget, through a general context) and its work. PCRE2's match limit alone
 * does not bound the work, since it counts anew from every place of a subject where a match may
 * begin; so a callout before each item of the pattern counts over a whole request. JIT code has no
 * callouts and is not used. */
#include "name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_HEADER    ((size_t)16) /* in front of each block: its size; keeps the alignment */
#define MESSAGE_BYTES   256
#define REPEAT_PER_STEP ((uint64_t)64)   /* bytes of a name that one repeat runs through, and */
#define CLASS_PER_STEP  ((uint64_t)1024) /* those times a class's bytes: what a further step is */
#define PATTERN_OPTIONS (PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT)

struct name_pattern {
    memory *memory;
    const char *regex, *where;
    size_t length;
    bool has_class; /* in brackets: there are longer ones than an item of any other kind */
    pcre2_general_context *general;
    pcre2_compile_context *compiling;
    pcre2_match_context *matching;
    pcre2_match_data *data;
    pcre2_code *code;
    uint64_t cost;       /* of one item tried against the name at hand */
    uint64_t spent;      /* on that name */
    name_effort *effort; /* of that request */
};

/* ---- memory ---- */

static void *take_block(PCRE2_SIZE bytes, void *budget)
{
    char *block = memory_get(budget, bytes + BLOCK_HEADER);
    if (block == NULL) {
        return NULL;
    }
    *(size_t *)(void *)block = bytes + BLOCK_HEADER;
    return block + BLOCK_HEADER;
}

static void give_block(void *place, void *budget)
{
    if (place != NULL) {
        char *block = (char *)place - BLOCK_HEADER;
        memory_put(budget, block, *(size_t *)(void *)block);
    }
}

/* ---- work ---- */

/* What to count for an item tried against a name of that length: it may run through all of it, and
 * compare each character with all of a class in brackets. */
static uint64_t cost_of(const name_pattern *p, size_t length)
{
    return 1 + (p->has_class ? length * p->length / CLASS_PER_STEP : length / REPEAT_PER_STEP);
}

/* Counts an item that is about to be tried; an error ends the match. */
static int count_step(pcre2_callout_block *block, void *pattern)
{
    name_pattern *p = pattern;
    (void)block;
    p->spent += p->cost;
    if (p->spent > NAME_PATTERN_NAME_STEPS || p->spent > p->effort->left) {
        return PCRE2_ERROR_CALLOUT;
    }
    return 0;
}

/* ---- refusals ---- */

static codec_status no_memory(const char *where, codec_error *error)
{
    return codec_fail(error, CODEC_NO_MEMORY, "no memory for the regex of %s", where);
}

/* What PCRE2 says about one of its codes. */
static const char *message_of(int code, char *room)
{
    if (pcre2_get_error_message(code, (PCRE2_UCHAR *)room, MESSAGE_BYTES) < 0) {
        return "a reason that PCRE2 has no words for";
    }
    return room;
}

/* Whether an error of a match is one of our limits. */
static bool is_limit(int code)
{
    return code == PCRE2_ERROR_CALLOUT || code == PCRE2_ERROR_MATCHLIMIT ||
           code == PCRE2_ERROR_DEPTHLIMIT || code == PCRE2_ERROR_HEAPLIMIT;
}

/* A match that ended in an error: it took too much, or cannot be made. */
static codec_status match_failed(const name_pattern *p, int code, const char *name, size_t length,
                                 codec_error *error)
{
    char room[MESSAGE_BYTES];
    if (code == PCRE2_ERROR_NOMEMORY) {
        return no_memory(p->where, error);
    }
    if (code == PCRE2_ERROR_CALLOUT && p->spent > p->effort->left) {
        return codec_fail(
            error, CODEC_LIMIT,
            "the regexes of the param groups take more than %llu steps over all names, "
            "used up by '" CODEC_NAME_FORMAT
            "' of %s: make them simpler, or name parameters in lists",
            (unsigned long long)NAME_PATTERN_ALL_STEPS, CODEC_NAME(p->regex, p->length), p->where);
    }
    if (is_limit(code)) {
        codec_fail(error, CODEC_LIMIT,
                   "regex '" CODEC_NAME_FORMAT "' of %s takes too long over '" CODEC_NAME_FORMAT
                   "' (%s); nested repeats such as (a+)+ do that",
                   CODEC_NAME(p->regex, p->length), p->where, CODEC_NAME(name, length),
                   code == PCRE2_ERROR_CALLOUT ? "too many steps" : message_of(code, room));
    } else {
        codec_fail(error, CODEC_INVALID_VALUE,
                   "regex '" CODEC_NAME_FORMAT "' of %s fails over '" CODEC_NAME_FORMAT "': %s",
                   CODEC_NAME(p->regex, p->length), p->where, CODEC_NAME(name, length),
                   message_of(code, room));
    }
    codec_error_param(error, name, length);
    return error->status;
}

/* ---- patterns ---- */

static bool make_contexts(name_pattern *p)
{
    p->general = pcre2_general_context_create(take_block, give_block, p->memory);
    if (p->general == NULL) {
        return false;
    }
    p->compiling = pcre2_compile_context_create(p->general);
    p->matching = pcre2_match_context_create(p->general);
    if (p->compiling == NULL || p->matching == NULL) {
        return false;
    }
    /* the same everywhere, however PCRE2 was built */
    (void)pcre2_set_newline(p->compiling, PCRE2_NEWLINE_LF);
    (void)pcre2_set_bsr(p->compiling, PCRE2_BSR_UNICODE);
    (void)pcre2_set_parens_nest_limit(p->compiling, NAME_PATTERN_MAX_PARENS);
    (void)pcre2_set_match_limit(p->matching, NAME_PATTERN_MAX_TRIES);
    (void)pcre2_set_depth_limit(p->matching, NAME_PATTERN_MAX_DEPTH);
    (void)pcre2_set_heap_limit(p->matching, NAME_PATTERN_MAX_KIB);
    (void)pcre2_set_callout(p->matching, count_step, p);
    return true;
}

codec_status name_pattern_compile(memory *m, const char *regex, size_t length, const char *where,
                                  name_pattern **out, codec_error *error)
{
    if (length > NAME_PATTERN_MAX_BYTES) {
        return codec_fail(error, CODEC_LIMIT, "the regex of %s has %zu bytes, at most %d", where,
                          length, NAME_PATTERN_MAX_BYTES);
    }
    name_pattern *p = memory_get_zeroed(m, sizeof *p);
    if (p == NULL) {
        return no_memory(where, error);
    }
    p->memory = m;
    p->regex = regex;
    p->length = length;
    p->where = where;
    p->has_class = memchr(regex, '[', length) != NULL;
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE offset = 0;
    if (make_contexts(p)) {
        p->code =
            pcre2_compile((PCRE2_SPTR)regex, length, PATTERN_OPTIONS, &code, &offset, p->compiling);
        /* one pair: only whether it matches is asked */
        p->data = p->code != NULL ? pcre2_match_data_create(1, p->general) : NULL;
    }
    if (p->data != NULL) {
        *out = p;
        return CODEC_OK;
    }
    char room[MESSAGE_BYTES];
    const bool memory_short =
        p->code != NULL || code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED;
    const codec_status st =
        memory_short
            ? no_memory(where, error)
            : codec_fail(error, CODEC_INVALID_VALUE,
                         "regex '" CODEC_NAME_FORMAT "' of %s is refused by PCRE2 at "
                         "byte %zu: %s",
                         CODEC_NAME(regex, length), where, (size_t)offset, message_of(code, room));
    name_pattern_free(p);
    return st;
}

void name_pattern_free(name_pattern *p)
{
    if (p == NULL) {
        return;
    }
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->matching);
    pcre2_compile_context_free(p->compiling);
    pcre2_general_context_free(p->general);
    memory_put(p->memory, p, sizeof *p);
}

codec_status name_pattern_match(name_pattern *p, const char *name, size_t length,
                                name_effort *effort, bool *matches, codec_error *error)
{
    p->cost = cost_of(p, length);
    p->spent = p->cost; /* a match that fails at once is work too */
    p->effort = effort;
    const int rc = p->spent > effort->left
                       ? PCRE2_ERROR_CALLOUT
                       : pcre2_match(p->code, (PCRE2_SPTR)name, length, 0, 0, p->data, p->matching);
    *matches = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        return match_failed(p, rc, name, length, error);
    }
    effort->left -= p->spent < effort->left ? p->spent : effort->left;
    return CODEC_OK;
}
