/* A value for each page of a 64-bit space, kept as runs: attributes of guest memory, imported pages, bindings. */
#ifndef HUSK_SIM_RANGEMAP_H
#define HUSK_SIM_RANGEMAP_H

#include <stddef.h>
#include <stdint.h>

struct rangemap_run {
    uint64_t start;
    uint64_t end; /* first that is not part of it */
    uint32_t value;
};

/* Sorted runs with a value other than 0; neighbours differ in value or do not touch. Zero-initialised is empty. */
struct rangemap {
    struct rangemap_run *runs;
    size_t len;
    size_t cap;
};

/* More runs than this are refused, so that a hostile client cannot fill memory. */
#define RANGEMAP_RUNS_MAX 65536u

/** rangemap_release() - free the runs; the map is empty afterwards. */
void rangemap_release(struct rangemap *map);

/** rangemap_set() - give [@start, @end) a value, 0 to clear it. Returns 0 or -ENOMEM, with nothing changed. */
int rangemap_set(struct rangemap *map, uint64_t start, uint64_t end, uint32_t value);

/**
 * rangemap_get() - the value at @at.
 * @end: where the value changes next, UINT64_MAX if it does not; may be NULL.
 */
uint32_t rangemap_get(const struct rangemap *map, uint64_t at, uint64_t *end);

#endif
