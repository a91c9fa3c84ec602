#include "launch/loaded_plan.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/** joins() - whether @next can be imported with @run, which comes right before it. */
static bool joins(const struct plan_run *run, const struct plan_run *next)
{
    return run->type == next->type && run->gpa + run->len == next->gpa &&
           run->bytes + run->len == next->bytes;
}

/** add() - @run, whole pages, to @loaded; there is room or one can be made. */
static int add(struct plan *loaded, const struct plan_run *run, struct error *err)
{
    if (loaded->n_runs > 0 && joins(&loaded->runs[loaded->n_runs - 1], run)) {
        loaded->runs[loaded->n_runs - 1].len += run->len;
        return 0;
    }
    if (loaded->n_runs == loaded->cap_runs) {
        size_t cap = MAX(2 * loaded->cap_runs, 16u);
        struct plan_run *runs = reallocarray(loaded->runs, cap, sizeof(*runs));
        if (!runs)
            return error_set(err, -ENOMEM, "out of memory for the launch");
        loaded->runs = runs;
        loaded->cap_runs = cap;
    }
    loaded->runs[loaded->n_runs++] = *run;
    return 0;
}

/** add_run() - piece by piece: RAM may end within a run, and a window go on. */
static int add_run(struct plan *loaded, const struct plan_run *run, plan_place_fn *place,
                   void *opaque, struct error *err)
{
    uint64_t whole = align_up(run->len, PAGE_BYTES);
    for (uint64_t done = 0; done < whole;) {
        uint64_t len = whole - done;
        struct plan_run piece = *run;
        piece.gpa = run->gpa + done;
        piece.source = PLAN_SOURCE_BYTES;
        piece.bytes = place(opaque, piece.gpa, &len);
        if (!piece.bytes)
            return error_set(err, -EFAULT,
                             "%s at 0x%" PRIx64 ", 0x%" PRIx64
                             " bytes, lies outside of the guest's RAM",
                             run->origin, run->gpa, run->len);
        piece.directive = plan_run_directive(run, done);
        piece.len = len;
        int ret = add(loaded, &piece, err);
        if (ret < 0)
            return ret;
        done += len;
    }
    return 0;
}

int plan_loaded(struct plan *loaded, const struct plan *plan, plan_place_fn *place, void *opaque,
                struct error *err)
{
    *loaded = *plan;
    loaded->runs = NULL;
    loaded->n_runs = loaded->cap_runs = 0;
    for (size_t i = 0; i < plan->n_runs; i++) {
        int ret = plan->runs[i].shared ? 0 : add_run(loaded, &plan->runs[i], place, opaque, err);
        if (ret < 0) {
            plan_loaded_release(loaded);
            return ret;
        }
    }
    return 0;
}

void plan_loaded_release(struct plan *loaded)
{
    free(loaded->runs);
    *loaded = PLAN_INIT;
}
