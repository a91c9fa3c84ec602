#include "launch/igvm_hashes.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "snp/firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/** find_place() - 1 if the plan's firmware names a place for hashes, 0 if not, -errno. */
static int find_place(const struct plan *plan, uint64_t *gpa, struct error *err)
{
    _cleanup_free_ uint8_t *tail = malloc(FIRMWARE_TABLES_WITHIN);
    if (!tail)
        return error_set(err, -ENOMEM, "out of memory for the firmware's tables");
    int ret =
        plan_read(plan, FIRMWARE_END - FIRMWARE_TABLES_WITHIN, tail, FIRMWARE_TABLES_WITHIN, err);
    struct firmware firmware = {0};
    struct error no_firmware;
    if (ret < 0 || firmware_read(&firmware, tail, FIRMWARE_TABLES_WITHIN, &no_firmware) < 0 ||
        firmware.hashes_len < KERNEL_HASHES_BYTES)
        return ret;
    *gpa = firmware.hashes_gpa;
    return 1;
}

/** insert_run() - a copy of the run at @index behind it; what counts runs is adjusted. */
static int insert_run(struct plan *plan, size_t index, struct error *err)
{
    struct plan_run *added = plan_add_pages(plan, 0, PAGE_BYTES, PLAN_PAGE_NORMAL, "", err);
    if (!added)
        return err->code;
    memmove(&plan->runs[index + 1], &plan->runs[index],
            (plan->n_runs - 1 - index) * sizeof(*plan->runs));
    for (size_t i = 0; i < plan->n_parameters; i++)
        plan->parameters[i].run += plan->parameters[i].run > index;
    for (size_t i = 0; i < plan->n_vmsas; i++)
        plan->vmsas[i].position += plan->vmsas[i].position > index;
    return 0;
}

/** cut() - the run at @index ends at @gpa, within it; another run goes on from there. */
static int cut(struct plan *plan, size_t index, uint64_t gpa, struct error *err)
{
    int ret = insert_run(plan, index, err);
    if (ret < 0)
        return ret;
    struct plan_run *first = &plan->runs[index], *second = &plan->runs[index + 1];
    uint64_t before = gpa - first->gpa;
    second->directive = plan_run_directive(first, before);
    second->gpa = gpa;
    second->len -= before;
    first->len = before;
    if (second->source == PLAN_SOURCE_FILE)
        second->range.offset += before;
    return 0;
}

/** isolate_page() - make the page at @gpa a run of its own. Returns its index, or -errno. */
static ssize_t isolate_page(struct plan *plan, uint64_t gpa, struct error *err)
{
    size_t i = 0;
    while (i < plan->n_runs &&
           (gpa < plan->runs[i].gpa || gpa - plan->runs[i].gpa >= plan->runs[i].len))
        i++;
    if (i == plan->n_runs)
        return plan_add_pages(plan, gpa, PAGE_BYTES, PLAN_PAGE_ZERO, "kernel hashes", err)
                   ? (ssize_t)i
                   : err->code;
    const struct plan_run *run = &plan->runs[i];
    if ((run->type != PLAN_PAGE_NORMAL && run->type != PLAN_PAGE_ZERO) || run->shared ||
        (run->directive && run->header_bytes != PAGE_BYTES))
        return error_set(err, -EINVAL,
                         "header %" PRIu32 " (%s): the kernel hashes lie in its page "
                         "0x%" PRIx64 ", which is no measured page of 4 KiB",
                         plan_run_directive(run, gpa - run->gpa), run->origin, gpa);
    int ret = 0;
    if (gpa > run->gpa)
        ret = cut(plan, i++, gpa, err);
    if (ret == 0 && plan->runs[i].len > PAGE_BYTES)
        ret = cut(plan, i, gpa + PAGE_BYTES, err);
    return ret < 0 ? ret : (ssize_t)i;
}

int plan_place_hashes(struct plan *plan, const uint8_t hashes[KERNEL_HASHES_BYTES], uint64_t *gpa,
                      bool replace, struct error *err)
{
    static const uint8_t nothing[KERNEL_HASHES_BYTES];
    uint8_t has[KERNEL_HASHES_BYTES];
    int ret = *gpa ? 1 : find_place(plan, gpa, err);
    if (ret <= 0)
        return ret < 0 ? ret : HASHES_NO_PLACE;
    ret = plan_read(plan, *gpa, has, sizeof(has), err);
    if (ret < 0)
        return ret;
    if (!replace && memcmp(has, nothing, sizeof(has)) != 0)
        return memcmp(has, hashes, sizeof(has)) == 0 ? HASHES_SAME : HASHES_OTHER;
    uint64_t page = align_down(*gpa, PAGE_BYTES);
    if (*gpa - page > PAGE_BYTES - KERNEL_HASHES_BYTES)
        return error_set(err, -EINVAL, "the kernel hashes at 0x%" PRIx64 " cross a page", *gpa);
    _cleanup_free_ uint8_t *bytes = malloc(PAGE_BYTES);
    if (!bytes)
        return error_set(err, -ENOMEM, "out of memory for the kernel hashes");
    ret = plan_read(plan, page, bytes, PAGE_BYTES, err);
    if (ret < 0)
        return ret;
    memcpy(bytes + (*gpa - page), hashes, KERNEL_HASHES_BYTES);
    ssize_t index = isolate_page(plan, page, err);
    if (index < 0)
        return (int)index;
    struct plan_run *run = &plan->runs[index];
    run->type = PLAN_PAGE_NORMAL;
    run->origin = "kernel hashes";
    plan_run_take_bytes(run, bytes);
    bytes = NULL;
    return HASHES_PLACED;
}
