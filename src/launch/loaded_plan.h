/* A launch plan as it lies in memory: what is measured and imported is what was loaded, not what a file has become since. */
#ifndef HUSK_LAUNCH_LOADED_PLAN_H
#define HUSK_LAUNCH_LOADED_PLAN_H

#include "launch/plan.h"

/** plan_place_fn - where @gpa is mapped. @len: bytes wanted; fewer on return if the mapping ends before. NULL: nowhere. */
typedef void *plan_place_fn(void *opaque, uint64_t gpa, uint64_t *len);

/**
 * plan_loaded() - @loaded becomes @plan with all bytes of its private runs where @place says they are mapped.
 *
 * Neighbours of one kind whose mappings are neighbours too become one run, of whole pages; so @loaded has as few runs as can be
 * imported at once. It borrows everything from @plan: plan_loaded_release() is for it, and @plan must live longer.
 *
 * Return: 0; -EFAULT naming the run that lies nowhere; -ENOMEM.
 */
int plan_loaded(struct plan *loaded, const struct plan *plan, plan_place_fn *place, void *opaque,
                struct error *err);

void plan_loaded_release(struct plan *loaded);

#endif
