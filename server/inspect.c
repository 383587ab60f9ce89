/* inspect.c: --check and --replay. */
#include "inspect.h"

#include <stdio.h>

#include "recover.h"
#include "state_digest.h"

#define PAGE 64

static int complain(const char *why)
{
    (void)fprintf(stderr, "adamd: %s\n", why);
    return 1;
}

/* Prints an optimizer in a line. False: no memory. */
static bool print_line(const instance *inst)
{
    char digest[STATE_DIGEST_SIZE];
    const adam_optimizer *o = inst->optimizer;
    if (!state_digest(o, digest)) {
        return false;
    }
    (void)printf("%s  step %llu  epoch %llu  %llu elements  %s\n", inst->name,
                 (unsigned long long)adam_optimizer_step_count(o),
                 (unsigned long long)instance_info((instance *)inst).epoch,
                 (unsigned long long)adam_optimizer_numel(o), digest);
    return true;
}

/* Reads every snapshot, not only the newest. Returns how many are damaged. */
static size_t check_snapshots(api_context *ctx)
{
    snapshot_list files = {0};
    snapshot_error error;
    size_t damaged = 0;
    if (snapshot_list_read(store_dir(ctx->store), NULL, &files, &error) != SNAPSHOT_OK) {
        return (size_t)complain(error.message);
    }
    for (size_t i = 0; i < files.n; i++) {
        problem p;
        instance *inst = recover_load(ctx, &files.entries[i], &p);
        if (inst == NULL) {
            damaged += (size_t)complain(p.detail);
        }
        instance_drop(inst);
    }
    (void)printf("%zu snapshots, %zu damaged\n", files.n, damaged);
    snapshot_list_drop(&files);
    return damaged;
}

static int check(api_context *ctx, const recovery *found)
{
    instance *page[PAGE];
    char after[REGISTRY_MAX_NAME + 1] = "";
    bool more = true;
    bool printed = true;
    const size_t damaged = check_snapshots(ctx);
    (void)printf("%zu records in the journal, %.1f MiB, up to %llu\n", found->records,
                 (double)found->bytes / 1048576, (unsigned long long)found->end);
    if (found->cut) {
        (void)printf("the end of the journal is torn: %s\n", found->report);
    }
    while (more) {
        const size_t n = registry_page(ctx->registry, "", after, PAGE, page, &more);
        for (size_t i = 0; i < n; i++) {
            (void)snprintf(after, sizeof after, "%s", page[i]->name);
            printed = print_line(page[i]) && printed;
            instance_drop(page[i]);
        }
    }
    return printed && damaged == 0 ? 0 : 1;
}

static int replay_to(api_context *ctx)
{
    const config *c = ctx->config;
    problem p;
    instance *inst = registry_hold(ctx->registry, c->replay);
    if (inst == NULL) {
        return complain("there is no optimizer of that name in the data directory");
    }
    instance *then = c->to == SIZE_MAX ? instance_hold(inst) : recover_at(ctx, inst, c->to, &p);
    const int status = then == NULL       ? complain(p.detail)
                       : print_line(then) ? 0
                                          : complain("no memory");
    instance_drop(then);
    instance_drop(inst);
    return status;
}

int inspect(api_context *ctx)
{
    static recovery found;
    if (!recover_all(ctx, &found)) {
        return complain(found.report);
    }
    return ctx->config->check ? check(ctx, &found) : replay_to(ctx);
}
