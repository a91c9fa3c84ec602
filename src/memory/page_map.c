#include "memory/page_map.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

#define WORD_BITS 64

int page_map_init(struct page_map *map, uint64_t pages)
{
    uint64_t words = pages / WORD_BITS + (pages % WORD_BITS != 0);
    *map = (struct page_map){.pages = pages, .words = calloc(words ? words : 1, sizeof(uint64_t))};
    return map->words ? 0 : -ENOMEM;
}

void page_map_release(struct page_map *map)
{
    free(map->words);
    *map = (struct page_map){0};
}

/** mask_from() - the bits of @from's word from @from on, up to @end. */
static uint64_t mask_from(uint64_t from, uint64_t end)
{
    uint64_t first = from % WORD_BITS;
    uint64_t n = MIN(WORD_BITS - first, end - from);
    uint64_t ones = n == WORD_BITS ? UINT64_MAX : BIT64(n) - 1;
    return ones << first;
}

uint64_t page_map_next(const struct page_map *map, uint64_t from, uint64_t end, bool value)
{
    while (from < end) {
        uint64_t word = map->words[from / WORD_BITS];
        uint64_t hits = (value ? word : ~word) & mask_from(from, end);
        if (hits)
            return align_down(from, WORD_BITS) + (uint64_t)__builtin_ctzll(hits);
        from = align_down(from, WORD_BITS) + WORD_BITS;
    }
    return end;
}

uint64_t page_map_set(struct page_map *map, uint64_t from, uint64_t end, bool value)
{
    uint64_t changed = 0;
    while (from < end) {
        uint64_t *word = &map->words[from / WORD_BITS];
        uint64_t bits = (value ? ~*word : *word) & mask_from(from, end);
        /* What is as asked is not written: a zero page that was never touched stays unallocated. */
        if (bits)
            *word ^= bits;
        changed += (uint64_t)__builtin_popcountll(bits);
        from = align_down(from, WORD_BITS) + WORD_BITS;
    }
    map->n_set = value ? map->n_set + changed : map->n_set - changed;
    return changed;
}
