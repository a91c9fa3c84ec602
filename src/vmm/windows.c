#include "vmm/windows.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "igvm/igvm.h"
#include "x86/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Addresses that need memory and are no RAM, and who says so: a run, or a range. */
struct need {
    uint64_t gpa, end;
    const struct plan_run *run;
    const struct plan_range *range;
    bool readonly;
};

struct needs {
    const struct windows_in *in;
    struct need *list;
    size_t n;
};

/* Pieces that one run or range leaves beside two regions of RAM. */
#define PIECES_MAX 3

/* Where the guest's processors do not see memory, or KVM needs it for itself. */
static const struct {
    uint64_t gpa, len;
    const char *what;
} taken[] = {
    {LAYOUT_IOAPIC, PAGE_BYTES, "the I/O APIC is"},
    {LAYOUT_LAPIC, MIB(1), "the local APICs are"},
    {LAYOUT_KVM_IDENTITY_MAP, LAYOUT_KVM_TSS + 3 * PAGE_BYTES - LAYOUT_KVM_IDENTITY_MAP,
     "KVM keeps pages of its own"},
};

/** name_header() - put the header that asks for memory at @gpa in front of @err. */
static int name_header(const struct need *need, uint64_t gpa, struct error *err)
{
    uint32_t header =
        need->run ? plan_run_directive(need->run, gpa - need->run->gpa) : need->range->directive;
    uint32_t type = need->run ? need->run->directive_type : need->range->directive_type;
    return header ? error_context(err, "header %" PRIu32 " (%s)", header, igvm_type_name(type))
                  : error_context(err, "%s", need->run ? need->run->origin : igvm_type_name(type));
}

static int check(const struct needs *needs, const struct need *need, struct error *err)
{
    if (need->end > needs->in->limit) {
        error_set(err, -EINVAL, "0x%" PRIx64 " is more than this processor can address",
                  need->end - 1);
        return name_header(need, MAX(need->gpa, needs->in->limit), err);
    }
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
        if (ranges_overlap(need->gpa, need->end - need->gpa, taken[i].gpa, taken[i].len)) {
            uint64_t gpa = MAX(need->gpa, taken[i].gpa);
            error_set(err, -EINVAL, "0x%" PRIx64 " cannot be memory: there %s", gpa, taken[i].what);
            return name_header(need, gpa, err);
        }
    return 0;
}

/** add() - what of @need is no RAM. */
static int add(struct needs *needs, struct need need, struct error *err)
{
    const struct {
        uint64_t base, end;
    } ram[] = {{0, needs->in->low_ram},
               {LAYOUT_HIGH_RAM_BASE, LAYOUT_HIGH_RAM_BASE + needs->in->high_ram},
               {UINT64_MAX, UINT64_MAX}};
    for (size_t i = 0; i < ARRAY_SIZE(ram) && need.gpa < need.end; i++) {
        struct need piece = need;
        piece.end = MIN(need.end, ram[i].base);
        if (piece.gpa < piece.end) {
            needs->list[needs->n++] = piece;
            int ret = check(needs, &piece, err);
            if (ret < 0)
                return ret;
        }
        need.gpa = MAX(need.gpa, ram[i].end);
    }
    return 0;
}

static int add_all(struct needs *needs, struct error *err)
{
    const struct plan *plan = needs->in->plan;
    int ret = 0;
    for (size_t i = 0; i < plan->n_runs && ret == 0; i++) {
        const struct plan_run *run = &plan->runs[i];
        struct need need = {
            .gpa = run->gpa, .end = align_up(run->gpa + run->len, PAGE_BYTES), .run = run};
        need.readonly = !needs->in->igvm;
        if (needs->in->igvm || need.end == GIB(4))
            ret = add(needs, need, err);
    }
    for (size_t i = 0; i < plan->n_ranges && ret == 0; i++) {
        const struct plan_range *range = &plan->ranges[i];
        struct need need = {.gpa = range->gpa,
                            .end = align_up(range->gpa + range->len, PAGE_BYTES),
                            .range = range};
        ret = add(needs, need, err);
    }
    return ret;
}

static int compare(const void *a, const void *b)
{
    const struct need *x = a, *y = b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/** join() - neighbours, and what overlaps: required memory may hold pages that are loaded. */
static int join(struct memory_windows *windows, const struct needs *needs, struct error *err)
{
    *windows = (struct memory_windows){0};
    for (size_t i = 0; i < needs->n; i++) {
        const struct need *need = &needs->list[i];
        struct memory_window *last = windows->n ? &windows->at[windows->n - 1] : NULL;
        uint64_t end = last ? last->gpa + last->len : 0;
        if (last && need->gpa <= end) {
            last->len = MAX(end, need->end) - last->gpa;
            continue;
        }
        if (windows->n == MEMORY_WINDOWS_MAX) {
            error_set(err, -E2BIG, "0x%" PRIx64 " is the %dth place outside of RAM, one too many",
                      need->gpa, MEMORY_WINDOWS_MAX + 1);
            return name_header(need, need->gpa, err);
        }
        windows->at[windows->n++] = (struct memory_window){
            .gpa = need->gpa, .len = need->end - need->gpa, .readonly = need->readonly};
    }
    return 0;
}

int windows_find(struct memory_windows *windows, const struct windows_in *in, struct error *err)
{
    struct needs needs = {.in = in};
    _cleanup_free_ struct need *list =
        calloc(in->plan->n_runs + in->plan->n_ranges + 1, PIECES_MAX * sizeof(*list));
    if (!list)
        return error_set(err, -ENOMEM, "out of memory for the guest's memory map");
    needs.list = list;
    int ret = add_all(&needs, err);
    if (ret < 0)
        return ret;
    qsort(needs.list, needs.n, sizeof(*needs.list), compare);
    return join(windows, &needs, err);
}

uint64_t windows_end(const struct memory_windows *windows, uint64_t from, uint64_t to)
{
    uint64_t end = from;
    for (unsigned i = 0; windows && i < windows->n; i++) {
        const struct memory_window *window = &windows->at[i];
        if (window->gpa >= from && window->gpa < to)
            end = MAX(end, window->gpa + window->len);
    }
    return end;
}
