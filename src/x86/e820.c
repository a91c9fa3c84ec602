#include "x86/boot.h"
#include "x86/layout.h"

uint64_t layout_low_ram(uint64_t ram_bytes)
{
    return MIN(ram_bytes, LAYOUT_LOW_RAM_LIMIT);
}

uint64_t layout_low_ram_q35(uint64_t ram_bytes)
{
    return ram_bytes <= LAYOUT_Q35_LOW_RAM_WHOLE ? ram_bytes : LAYOUT_Q35_LOW_RAM_SPLIT;
}

static void add(struct e820_map *map, uint64_t base, uint64_t end, enum e820_type type)
{
    if (base < end)
        map->entries[map->n++] = (struct e820_entry){base, end - base, type};
}

void e820_build(struct e820_map *map, uint64_t ram_bytes)
{
    *map = (struct e820_map){0};
    uint64_t low = layout_low_ram(ram_bytes);
    add(map, 0, LAYOUT_EBDA, E820_RAM);
    add(map, LAYOUT_EBDA, LAYOUT_ACPI, E820_RESERVED);
    add(map, LAYOUT_ACPI, LAYOUT_ACPI + LAYOUT_ACPI_MAX, E820_ACPI);
    add(map, LAYOUT_SMBIOS, LAYOUT_KERNEL, E820_RESERVED);
    add(map, LAYOUT_KERNEL, low, E820_RAM);
    /* Linux uses ECAM on bus 0 only if the memory map or ACPI reserves it; both do. */
    add(map, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_LEN, E820_RESERVED);
    add(map, LAYOUT_HIGH_RAM_BASE, LAYOUT_HIGH_RAM_BASE + (ram_bytes - low), E820_RAM);
}
