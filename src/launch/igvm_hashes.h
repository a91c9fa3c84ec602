/* Kernel hashes in a plan whose pages are there: its firmware, or somebody who knows it, says where it looks for them. */
#ifndef HUSK_LAUNCH_IGVM_HASHES_H
#define HUSK_LAUNCH_IGVM_HASHES_H

#include "launch/plan.h"
#include "snp/kernel_hashes.h"

enum hashes_place {
    HASHES_NO_PLACE, /* no firmware that names one ends at 4 GiB */
    HASHES_PLACED,   /* written where nothing was */
    HASHES_SAME,     /* the file has these hashes */
    HASHES_OTHER,    /* the file has others, which stay */
};

/**
 * plan_place_hashes() - put @hashes where the firmware in @plan looks for them, unless the file has some there.
 * @gpa: where that is; if it is not 0 before, it is taken for that.
 * @replace: put them there in any case.
 *
 * The page keeps its place in the order, and becomes a NORMAL one; where the plan has no page it is added at the end.
 *
 * Return: enum hashes_place; -EINVAL if the place is in a page that cannot hold them, -ENOMEM, -errno.
 */
int plan_place_hashes(struct plan *plan, const uint8_t hashes[KERNEL_HASHES_BYTES], uint64_t *gpa,
                      bool replace, struct error *err);

#endif
