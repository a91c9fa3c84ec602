/*
 * One bit a page: which pages of a slot are shared. A list of ranges would be shorter for a friendly guest, but one that
 * shares every other page could make it grow without bound; this is 1/32768 of the slot whatever the guest does, and
 * all zero, so not even allocated, where everything is private.
 */
#ifndef HUSK_MEMORY_PAGE_MAP_H
#define HUSK_MEMORY_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct page_map {
    uint64_t *words;
    uint64_t pages;
    uint64_t n_set;
};

/** page_map_init() - @pages bits, all clear. Returns 0 or -ENOMEM. */
int page_map_init(struct page_map *map, uint64_t pages);
void page_map_release(struct page_map *map);

/** page_map_next() - the first page in [@from, @end) whose bit is @value; @end if none is. @end: at most the size. */
uint64_t page_map_next(const struct page_map *map, uint64_t from, uint64_t end, bool value);

/** page_map_set() - give the bits in [@from, @end) the value @value. Returns how many had the other one. */
uint64_t page_map_set(struct page_map *map, uint64_t from, uint64_t end, bool value);

#endif
