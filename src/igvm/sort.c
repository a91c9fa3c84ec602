/*
 * Ranges by address. A radix sort: a file may have millions of them in any order, and what it takes to read one must
 * not depend on that order.
 */
#include "igvm_internal.h"

#include <stdlib.h>

#define DIGIT_BITS 11u
#define DIGITS (1u << DIGIT_BITS)

static uint32_t digit(const struct igvm_range *range, unsigned shift)
{
    return (uint32_t)(range->gpa >> shift) & (DIGITS - 1);
}

/** distribute() - from @from to @to by the digit at @shift, equal ones in their order. */
static void distribute(const struct igvm_range *from, struct igvm_range *to, size_t n,
                       unsigned shift)
{
    size_t starts[DIGITS] = {0};
    for (size_t i = 0; i < n; i++)
        starts[digit(&from[i], shift)]++;
    size_t start = 0;
    for (uint32_t d = 0; d < DIGITS; d++) {
        size_t count = starts[d];
        starts[d] = start;
        start += count;
    }
    for (size_t i = 0; i < n; i++)
        to[starts[digit(&from[i], shift)]++] = from[i];
}

bool igvm_sort_ranges(struct igvm_range *ranges, size_t n)
{
    bool sorted = true;
    uint64_t differ = 0; /* the bits in which any two differ */
    for (size_t i = 1; i < n; i++) {
        sorted = sorted && ranges[i - 1].gpa <= ranges[i].gpa;
        differ |= ranges[i - 1].gpa ^ ranges[i].gpa;
    }
    if (sorted)
        return true;
    struct igvm_range *other = malloc(n * sizeof(*other)), *from = ranges, *to = other;
    if (!other)
        return false;
    for (unsigned shift = (unsigned)__builtin_ctzll(differ); shift < 64 && differ >> shift;
         shift += DIGIT_BITS) {
        distribute(from, to, n, shift);
        struct igvm_range *swap = from;
        from = to;
        to = swap;
    }
    if (from != ranges)
        memcpy(ranges, from, n * sizeof(*ranges));
    free(other);
    return true;
}
