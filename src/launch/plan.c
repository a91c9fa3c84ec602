#include "launch/plan.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void plan_release(struct plan *plan)
{
    for (size_t i = 0; i < plan->n_runs; i++)
        if (plan->runs[i].source == PLAN_SOURCE_BYTES)
            free(plan->runs[i].bytes);
    for (size_t i = 0; i < plan->n_files; i++) {
        close(plan->files[i].fd);
        free(plan->files[i].path);
    }
    free(plan->runs);
    free(plan->files);
    free(plan->vcpus);
    free(plan->vmsas);
    free(plan->parameters);
    free(plan->ranges);
    free(plan->id_block);
    free(plan->id_auth);
    *plan = PLAN_INIT;
}

static int out_of_memory(struct error *err)
{
    return error_set(err, -ENOMEM, "out of memory while making the launch plan");
}

int plan_add_file(struct plan *plan, int fd, uint64_t size, const char *path, struct error *err)
{
    struct plan_file *files = reallocarray(plan->files, plan->n_files + 1, sizeof(*files));
    if (files)
        plan->files = files;
    char *copy = strdup(path);
    if (!files || !copy) {
        free(copy);
        close(fd);
        return out_of_memory(err);
    }
    plan->files[plan->n_files] = (struct plan_file){.fd = fd, .size = size, .path = copy};
    return (int)plan->n_files++;
}

/** reserve_runs() - room for @n runs more. */
static bool reserve_runs(struct plan *plan, size_t n, struct error *err)
{
    if (n <= plan->cap_runs - plan->n_runs)
        return true;
    size_t cap = MAX(plan->cap_runs * 2, MAX(plan->n_runs + n, 16));
    struct plan_run *runs = reallocarray(plan->runs, cap, sizeof(*runs));
    if (!runs) {
        out_of_memory(err);
        return false;
    }
    plan->runs = runs;
    plan->cap_runs = cap;
    return true;
}

/** add_run() - a new run at the end, its address and length checked. NULL with @err filled on failure. */
static struct plan_run *add_run(struct plan *plan, uint64_t gpa, uint64_t len, const char *origin,
                                struct error *err)
{
    uint64_t end;
    if (!is_aligned(gpa, PAGE_BYTES) || add_overflows(gpa, len, &end) ||
        end > UINT64_MAX - PAGE_BYTES) {
        error_set(err, -EINVAL, "%s cannot be placed at 0x%" PRIx64 ", length 0x%" PRIx64, origin,
                  gpa, len);
        return NULL;
    }
    if (!reserve_runs(plan, 1, err))
        return NULL;
    struct plan_run *run = &plan->runs[plan->n_runs++];
    *run = (struct plan_run){.gpa = gpa, .len = len, .type = PLAN_PAGE_NORMAL, .origin = origin};
    return run;
}

int plan_take_runs(struct plan *plan, struct plan *from, struct error *err)
{
    if (from->n_runs == 0)
        return 0;
    if (!reserve_runs(plan, from->n_runs, err))
        return -ENOMEM;
    memcpy(&plan->runs[plan->n_runs], from->runs, from->n_runs * sizeof(*from->runs));
    plan->n_runs += from->n_runs;
    from->n_runs = 0;
    return 0;
}

struct plan_run *plan_add_pages(struct plan *plan, uint64_t gpa, uint64_t len,
                                enum plan_page_type type, const char *origin, struct error *err)
{
    struct plan_run *run = add_run(plan, gpa, len, origin, err);
    if (run)
        run->type = type;
    return run;
}

void plan_run_take_bytes(struct plan_run *run, uint8_t *bytes)
{
    run->source = PLAN_SOURCE_BYTES;
    run->bytes = bytes;
}

int plan_add_bytes(struct plan *plan, uint64_t gpa, const void *bytes, uint64_t len,
                   const char *origin, struct error *err)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return out_of_memory(err);
    struct plan_run *run = add_run(plan, gpa, len, origin, err);
    if (!run) {
        free(copy);
        return err ? err->code : -EINVAL;
    }
    memcpy(copy, bytes, len);
    run->source = PLAN_SOURCE_BYTES;
    run->bytes = copy;
    return 0;
}

int plan_add_file_range(struct plan *plan, uint64_t gpa, unsigned file, uint64_t offset,
                        uint64_t len, const char *origin, struct error *err)
{
    if (file >= plan->n_files || !range_within(offset, len, plan->files[file].size))
        return error_set(err, -EINVAL, "%s lies outside of its file", origin);
    struct plan_run *run = add_run(plan, gpa, len, origin, err);
    if (!run)
        return err ? err->code : -EINVAL;
    run->source = PLAN_SOURCE_FILE;
    run->range.file = file;
    run->range.offset = offset;
    return 0;
}

void plan_vcpu_reset(struct plan_vcpu *vcpu, uint32_t index)
{
    *vcpu = (struct plan_vcpu){
        .index = index,
        .rflags = 0x2,
        .xcr0 = 0x1,
        .pat = 0x0007040600070406,
        .dr6 = 0xffff0ff0,
        .dr7 = 0x400,
        .fcw = 0x37f,
        .mxcsr = 0x1f80,
    };
}

int plan_add_vcpu(struct plan *plan, const struct plan_vcpu *vcpu, struct error *err)
{
    struct plan_vcpu *vcpus = reallocarray(plan->vcpus, plan->n_vcpus + 1, sizeof(*vcpus));
    if (!vcpus)
        return out_of_memory(err);
    plan->vcpus = vcpus;
    plan->vcpus[plan->n_vcpus++] = *vcpu;
    return 0;
}

static int compare_runs(const void *a, const void *b)
{
    const struct plan_run *x = *(const struct plan_run *const *)a;
    const struct plan_run *y = *(const struct plan_run *const *)b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

int plan_check(const struct plan *plan, uint64_t limit, struct error *err)
{
    if (plan->n_runs == 0)
        return 0;
    const struct plan_run **sorted = calloc(plan->n_runs, sizeof(struct plan_run *));
    if (!sorted)
        return out_of_memory(err);
    for (size_t i = 0; i < plan->n_runs; i++)
        sorted[i] = &plan->runs[i];
    qsort(sorted, plan->n_runs, sizeof(struct plan_run *), compare_runs);

    int ret = 0;
    for (size_t i = 0; i < plan->n_runs && ret == 0; i++) {
        const struct plan_run *run = sorted[i];
        uint64_t end = align_up(run->gpa + run->len, PAGE_BYTES);
        if (end > limit)
            ret = error_set(err, -EINVAL,
                            "%s at 0x%" PRIx64 " ends at 0x%" PRIx64
                            ", above what the guest can address",
                            run->origin, run->gpa, end);
        else if (i + 1 < plan->n_runs && sorted[i + 1]->gpa < end)
            ret = error_set(
                err, -EINVAL,
                "%s (0x%" PRIx64 ", 0x%" PRIx64 " bytes) and %s (0x%" PRIx64 ") overlap",
                run->origin, run->gpa, run->len, sorted[i + 1]->origin, sorted[i + 1]->gpa);
    }
    free(sorted);
    return ret;
}
