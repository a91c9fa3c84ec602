/* What an IGVM file leaves for the loader to write: parameters, in areas that have become runs of the plan. */
#ifndef HUSK_LAUNCH_PARAMETERS_H
#define HUSK_LAUNCH_PARAMETERS_H

#include "base/buf.h"
#include "base/error.h"
#include "igvm/igvm_defs.h"
#include "launch/plan.h"

#include <stdbool.h>
#include <stdint.h>

/* The machine, as parameters tell of it. */
struct parameters_in {
    const struct buf *memory_map; /* see memory_map_build() */
    const struct buf *madt, *srat, *slit, *pptt;
    IGVM_VHS_MMIO_RANGES mmio;
    uint32_t vcpus;
    const char *cmdline;
    bool memory_is_shared; /* with the host, until the guest says otherwise */
};

/**
 * plan_fill_parameters() - write what @plan's parameters ask for into their runs.
 *
 * A run that has parameters owns its bytes afterwards: what the file has there, with the parameters on top. A parameter
 * ends with its area at the latest; a memory map must have room for the empty entry that ends it.
 *
 * Return: 0; -ENOTSUP for a parameter that nobody here can fill, -E2BIG for one that does not fit, each naming its
 * header; -ENOMEM; -errno if the file cannot be read.
 */
int plan_fill_parameters(struct plan *plan, const struct parameters_in *in, struct error *err);

#endif
