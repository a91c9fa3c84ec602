#include "memory/load.h"

#include "base/fd.h"
#include "memory/huge_pages.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/** load_piece() - @len bytes of @run from @offset on, to @to. */
static int load_piece(const struct guest_memory *memory, const struct plan *plan,
                      const struct plan_run *run, uint64_t offset, void *to, uint64_t len,
                      struct error *err)
{
    if (run->source == PLAN_SOURCE_BYTES) {
        memcpy(to, run->bytes + offset, len);
        return 0;
    }
    const struct plan_file *file = &plan->files[run->range.file];
    if (memory->huge_by_hand)
        huge_pages_prepare(to, len);
    int ret = fd_pread_full(file->fd, to, len, run->range.offset + offset);
    if (ret == -ENODATA)
        return error_set(err, ret, "'%s' became shorter while it was read", file->path);
    if (ret < 0)
        return error_set_errno(err, ret, "could not read '%s'", file->path);
    return 0;
}

/** load_run() - piece by piece: RAM may end within a run, and a window go on. */
static int load_run(const struct guest_memory *memory, const struct plan *plan,
                    const struct plan_run *run, struct error *err)
{
    for (uint64_t done = 0; done < run->len;) {
        uint64_t len = run->len - done;
        void *to = memory_load_ptr(memory, run->gpa + done, &len);
        if (!to)
            return error_set(err, -EFAULT,
                             "%s at 0x%" PRIx64 ", 0x%" PRIx64
                             " bytes, lies outside of the guest's RAM",
                             run->origin, run->gpa, run->len);
        int ret =
            run->source == PLAN_SOURCE_NONE ? 0 : load_piece(memory, plan, run, done, to, len, err);
        if (ret < 0)
            return ret;
        done += len;
    }
    return 0;
}

int memory_load_plan(const struct guest_memory *memory, const struct plan *plan, struct error *err)
{
    for (size_t i = 0; i < plan->n_runs; i++) {
        int ret = load_run(memory, plan, &plan->runs[i], err);
        if (ret < 0)
            return ret;
    }
    return 0;
}
