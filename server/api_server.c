/* api_server.c: the server itself: what it is, whether it lives, its contract. */
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "openapi.h"
#include "version.h"

bool api_root(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    (void)rq;
    text t = {.pool = ctx->buffers};
    text_add_format(
        &t,
        "{\"name\": \"adamd\", \"version\": \"%s\", \"kernel\": \"%s\", \"optimizers\": %zu, "
        "\"memory\": {\"used_bytes\": %zu, \"limit_bytes\": %zu}, "
        "\"links\": {\"optimizers\": \"/v1/optimizers\", \"openapi\": \"/openapi.yaml\"}}",
        ADAMD_VERSION, adam_kernel_name(), registry_count(ctx->registry), memory_used(ctx->memory),
        memory_limit(ctx->memory));
    return reply_json(r, 200, &t, p);
}

bool api_livez(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    (void)rq;
    text t = {.pool = ctx->buffers};
    text_add_string(&t, "{\"status\": \"ok\"}");
    return reply_json(r, 200, &t, p);
}

/* While the server drains, the router has refused before this. */
bool api_readyz(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    const journal_status disk = ctx->store != NULL ? store_health(ctx->store) : JOURNAL_OK;
    if (disk == JOURNAL_NO_SPACE) {
        return problem_set(p, PROBLEM_DISK_FAILED, "there is no space left in the data directory");
    }
    if (disk == JOURNAL_FAILED) {
        return problem_set(p, PROBLEM_DISK_FAILED, "the data directory failed; see the log");
    }
    return api_livez(ctx, rq, r, p);
}

bool api_openapi(api_context *ctx, api_request *rq, reply *r, problem *p)
{
    (void)ctx;
    (void)rq;
    (void)p;
    r->status = 200;
    r->content_type = media_name(MEDIA_YAML);
    r->static_text = (const char *)openapi_yaml;
    r->static_length = openapi_yaml_length;
    return true;
}

void api_etag(const optimizer_info *info, char *out, size_t size)
{
    (void)snprintf(out, size, "\"e%llu-s%llu\"", (unsigned long long)info->epoch,
                   (unsigned long long)info->step);
}

void api_blame_memory(const api_context *ctx, const api_request *rq, problem *p)
{
    if (p->code == PROBLEM_OUT_OF_MEMORY && atomic_load(&ctx->transit_bytes) > rq->transit) {
        p->code = PROBLEM_BUSY;
    }
}

/* If-Match is "*" or a list of tags; a weak one never matches (RFC 9110, section 13.1.1). */
bool api_check_if_match(const char *if_match, const char *etag, problem *p)
{
    if (if_match == NULL || strcmp(if_match, "*") == 0) {
        return true;
    }
    const size_t own = strlen(etag);
    bool any = false;
    for (const char *at = if_match; *at != '\0';) {
        at += strspn(at, " \t,");
        if (*at == '\0') {
            break;
        }
        const bool weak = strncmp(at, "W/", 2) == 0;
        const char *tag = at + (weak ? 2 : 0);
        const char *close = *tag == '"' ? strchr(tag + 1, '"') : NULL;
        if (close == NULL) {
            problem_set(p, PROBLEM_MALFORMED_REQUEST,
                        "If-Match is expected as * or a list of ETags in quotes");
            strcpy(p->header, "If-Match");
            return false;
        }
        any = true;
        const size_t length = (size_t)(close - tag) + 1;
        if (!weak && length == own && memcmp(tag, etag, own) == 0) {
            return true;
        }
        at = close + 1;
    }
    problem_set(p, any ? PROBLEM_PRECONDITION_FAILED : PROBLEM_MALFORMED_REQUEST,
                any ? "If-Match does not hold: the optimizer is at %s" : "If-Match is empty", etag);
    strcpy(p->header, "If-Match");
    return false;
}

bool api_none_match_names(const char *if_none_match, const char *etag)
{
    const size_t own = strlen(etag);
    const char *at = if_none_match;
    if (strcmp(at, "*") == 0) {
        return true;
    }
    while ((at = strchr(at, '"')) != NULL) {
        const char *close = strchr(at + 1, '"');
        if (close == NULL) {
            return false;
        }
        const size_t length = (size_t)(close - at) + 1;
        if (length == own && memcmp(at, etag, own) == 0) {
            return true;
        }
        at = close + 1;
    }
    return false;
}
