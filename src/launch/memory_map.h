/* The guest's memory map as an IGVM file's parameter area takes it. */
#ifndef HUSK_LAUNCH_MEMORY_MAP_H
#define HUSK_LAUNCH_MEMORY_MAP_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

struct memory_map_range {
    uint64_t gpa, len; /* bytes */
};

/**
 * memory_map_build() - entries (IGVM_VHS_MEMORY_MAP_ENTRY) by address, without the empty one that ends a map.
 * @ram: whole pages, apart from each other.
 * @reserved: may lie in RAM or beside it, and on each other; what they touch of a page is reserved. Sorted on return.
 */
void memory_map_build(struct buf *out, const struct memory_map_range *ram, size_t n_ram,
                      struct memory_map_range *reserved, size_t n_reserved);

#endif
