#include "launch/memory_map.h"

#include "base/bytes.h"
#include "igvm/igvm_defs.h"

#include <stdlib.h>

static int compare_ranges(const void *a, const void *b)
{
    const struct memory_map_range *x = a, *y = b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static int compare_entries(const void *a, const void *b)
{
    uint64_t x = load_le64(a), y = load_le64(b);
    return x < y ? -1 : x > y;
}

static void add(struct buf *out, uint64_t gpa, uint64_t end, uint16_t type)
{
    if (gpa >= end)
        return;
    buf_append_le64(out, gpa / PAGE_BYTES);
    buf_append_le64(out, (end - gpa) / PAGE_BYTES);
    buf_append_le16(out, type);
    buf_append_le16(out, 0); /* flags */
    buf_append_le32(out, 0);
}

/** join() - whole pages, by address, none on another. Returns how many are left. */
static size_t join(struct memory_map_range *ranges, size_t n)
{
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t end = align_up(ranges[i].gpa + ranges[i].len, PAGE_BYTES);
        ranges[i].gpa = align_down(ranges[i].gpa, PAGE_BYTES);
        ranges[i].len = end - ranges[i].gpa;
    }
    qsort(ranges, n, sizeof(*ranges), compare_ranges);
    for (size_t i = 0; i < n; i++) {
        struct memory_map_range *last = left ? &ranges[left - 1] : NULL;
        if (last && ranges[i].gpa <= last->gpa + last->len)
            last->len = MAX(last->gpa + last->len, ranges[i].gpa + ranges[i].len) - last->gpa;
        else
            ranges[left++] = ranges[i];
    }
    return left;
}

void memory_map_build(struct buf *out, const struct memory_map_range *ram, size_t n_ram,
                      struct memory_map_range *reserved, size_t n_reserved)
{
    size_t start = out->len, n = n_reserved ? join(reserved, n_reserved) : 0;
    for (size_t i = 0; i < n; i++)
        add(out, reserved[i].gpa, reserved[i].gpa + reserved[i].len,
            IGVM_MEMORY_MAP_ENTRY_TYPE_PLATFORM_RESERVED);
    for (size_t i = 0; i < n_ram; i++) {
        uint64_t gpa = ram[i].gpa, end = ram[i].gpa + ram[i].len;
        for (size_t j = 0; j < n; j++) {
            if (reserved[j].gpa + reserved[j].len <= gpa || reserved[j].gpa >= end)
                continue;
            add(out, gpa, reserved[j].gpa, IGVM_MEMORY_MAP_ENTRY_TYPE_MEMORY);
            gpa = reserved[j].gpa + reserved[j].len;
        }
        add(out, gpa, end, IGVM_MEMORY_MAP_ENTRY_TYPE_MEMORY);
    }
    if (!buf_failed(out) && out->len > start)
        qsort(out->data + start, (out->len - start) / sizeof(IGVM_VHS_MEMORY_MAP_ENTRY),
              sizeof(IGVM_VHS_MEMORY_MAP_ENTRY), compare_entries);
}
