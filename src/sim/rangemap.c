/* Sorted runs in an array: found by binary search, replaced by one memmove. */
#include "sim/rangemap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rangemap_release(struct rangemap *map)
{
    free(map->runs);
    *map = (struct rangemap){0};
}

/** first_after() - index of the first run that ends behind @at. */
static size_t first_after(const struct rangemap *map, uint64_t at)
{
    size_t low = 0;
    size_t high = map->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (map->runs[mid].end > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static int reserve(struct rangemap *map, size_t len)
{
    if (len <= map->cap)
        return 0;
    if (len > RANGEMAP_RUNS_MAX)
        return -ENOMEM;
    size_t cap = map->cap ? map->cap * 2 : 8;
    if (cap < len)
        cap = len;
    struct rangemap_run *runs = reallocarray(map->runs, cap, sizeof(*runs));
    if (!runs)
        return -ENOMEM;
    map->runs = runs;
    map->cap = cap;
    return 0;
}

int rangemap_set(struct rangemap *map, uint64_t start, uint64_t end, uint32_t value)
{
    if (start >= end)
        return 0;
    /* The runs from first up to last, not included, are replaced by at most three. */
    size_t first = first_after(map, start);
    if (first > 0 && map->runs[first - 1].end == start && map->runs[first - 1].value == value)
        first--;
    size_t last = first;
    while (last < map->len && (map->runs[last].start < end ||
                               (map->runs[last].start == end && map->runs[last].value == value)))
        last++;

    struct rangemap_run fresh[3];
    size_t n = 0;
    struct rangemap_run middle = {start, end, value};
    struct rangemap_run tail = {0};
    if (last > first) {
        const struct rangemap_run *head = &map->runs[first];
        const struct rangemap_run *back = &map->runs[last - 1];
        if (head->start < start) {
            if (head->value == value)
                middle.start = head->start;
            else
                fresh[n++] = (struct rangemap_run){head->start, start, head->value};
        }
        if (back->end > end) {
            if (back->value == value)
                middle.end = back->end;
            else
                tail = (struct rangemap_run){end, back->end, back->value};
        }
    }
    if (value)
        fresh[n++] = middle;
    if (tail.end)
        fresh[n++] = tail;

    if (first == last && !n)
        return 0;
    size_t len = map->len - (last - first) + n;
    if (reserve(map, len))
        return -ENOMEM;
    memmove(map->runs + first + n, map->runs + last, (map->len - last) * sizeof(*map->runs));
    memcpy(map->runs + first, fresh, n * sizeof(*fresh));
    map->len = len;
    return 0;
}

uint32_t rangemap_get(const struct rangemap *map, uint64_t at, uint64_t *end)
{
    size_t i = first_after(map, at);
    uint64_t change = UINT64_MAX;
    uint32_t value = 0;
    if (i < map->len) {
        if (map->runs[i].start <= at) {
            value = map->runs[i].value;
            change = map->runs[i].end;
        } else {
            change = map->runs[i].start;
        }
    }
    if (end)
        *end = change;
    return value;
}
