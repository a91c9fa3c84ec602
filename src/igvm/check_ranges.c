/* Addresses that are given twice. */
#include "igvm_internal.h"

#include <inttypes.h>
#include <stdlib.h>

bool igvm_check_ranges(const struct igvm_file *file, struct igvm_range *ranges, size_t n,
                       IgvmResult code, struct igvm_reporter *reporter)
{
    if (!igvm_sort_ranges(ranges, n))
        return false;
    /* For each bit of the mask: where the ranges so far end, and which one reaches furthest. */
    uint64_t end[32] = {0};
    uint32_t last[32] = {0};
    for (size_t i = 0; i < n; i++) {
        const struct igvm_range *range = &ranges[i];
        bool told = false;
        for (uint32_t bits = range->mask; bits; bits &= bits - 1) {
            unsigned bit = (unsigned)__builtin_ctz(bits);
            if (range->gpa < end[bit] && !told) {
                told = true;
                if (igvm_report_counted(reporter, code))
                    continue;
                /* The later of the two in the file is the one at fault. */
                uint32_t first = MIN(last[bit], range->header);
                struct igvm_header header = igvm_at(file, MAX(last[bit], range->header));
                struct igvm_header other = igvm_at(file, first);
                igvm_report(reporter, &header, code,
                            "its range shares address 0x%" PRIx64 " with header %" PRIu32
                            " (%s) on platform mask 0x%" PRIx32,
                            range->gpa, other.number, igvm_type_name(other.type), 1u << bit);
                told = true;
            }
            if (range->gpa + range->bytes > end[bit]) {
                end[bit] = range->gpa + range->bytes;
                last[bit] = range->header;
            }
        }
    }
    return true;
}
