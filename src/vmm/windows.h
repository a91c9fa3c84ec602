/* Memory at guest addresses that have no RAM: a firmware image, and what an IGVM file loads or requires there. */
#ifndef HUSK_VMM_WINDOWS_H
#define HUSK_VMM_WINDOWS_H

#include "base/error.h"
#include "launch/plan.h"
#include "memory/memory.h"

#include <stdint.h>

struct windows_in {
    const struct plan *plan;
    uint64_t low_ram;  /* bytes of RAM from address 0 on */
    uint64_t high_ram; /* bytes of RAM from LAYOUT_HIGH_RAM_BASE on */
    uint64_t limit;    /* first address that the guest cannot have */
    bool
        igvm; /* every run and range of the plan needs memory, not only an image that ends at 4 GiB */
};

/**
 * windows_find() - what of @in's plan lies outside of RAM, joined to as few windows as there can be.
 *
 * An image that ends at 4 GiB is read-only, but for IGVM files: what they load is the guest's memory as any other.
 *
 * Return: 0; -EINVAL for memory where the platform has something else, or beyond the limit, -E2BIG for too many windows,
 * each naming the header that asks for it; -ENOMEM.
 */
int windows_find(struct memory_windows *windows, const struct windows_in *in, struct error *err);

/** windows_end() - the end of the last window that begins in [@from, @to); @from if there is none. @windows may be NULL. */
uint64_t windows_end(const struct memory_windows *windows, uint64_t from, uint64_t to);

#endif
