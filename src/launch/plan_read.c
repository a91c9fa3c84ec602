/* A plan's contents, for those who look before anything is loaded. */
#include "launch/plan.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <string.h>

static int read_run(const struct plan *plan, const struct plan_run *run, uint64_t offset, void *to,
                    uint64_t len, struct error *err)
{
    if (run->source == PLAN_SOURCE_NONE)
        return 0;
    if (run->source == PLAN_SOURCE_BYTES) {
        memcpy(to, run->bytes + offset, len);
        return 0;
    }
    const struct plan_file *file = &plan->files[run->range.file];
    int ret = fd_pread_full(file->fd, to, len, run->range.offset + offset);
    return ret < 0 ? error_set_errno(err, ret, "could not read '%s'", file->path) : 0;
}

int plan_read(const struct plan *plan, uint64_t gpa, void *to, uint64_t len, struct error *err)
{
    memset(to, 0, len);
    for (size_t i = 0; i < plan->n_runs; i++) {
        const struct plan_run *run = &plan->runs[i];
        uint64_t start = MAX(gpa, run->gpa), end = MIN(gpa + len, run->gpa + run->len);
        if (start >= end)
            continue;
        int ret =
            read_run(plan, run, start - run->gpa, (uint8_t *)to + (start - gpa), end - start, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}
