/*
 * Direct kernel boot: a plan from a kernel file. bzImage is entered at its 64-bit entry point (Linux boot protocol,
 * Documentation/arch/x86/boot.rst), an ELF file with a PVH note at that entry (Xen's x86/HVM direct boot ABI).
 */
#ifndef HUSK_X86_BOOT_H
#define HUSK_X86_BOOT_H

#include "base/buf.h"
#include "base/error.h"
#include "launch/plan.h"

#include <stdint.h>

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };

struct e820_entry {
    uint64_t base;
    uint64_t len;
    uint32_t type; /* enum e820_type */
};

#define E820_MAX 16

struct e820_map {
    struct e820_entry entries[E820_MAX];
    unsigned n;
};

/** e820_build() - the memory map of a guest with @ram_bytes of RAM (a multiple of 4 KiB, at least 2 MiB).
 * RAM goes below the hole up to LAYOUT_LOW_RAM_LIMIT, the rest from LAYOUT_HIGH_RAM_BASE.
 */
void e820_build(struct e820_map *map, uint64_t ram_bytes);

/** layout_low_ram() - how much of @ram_bytes lies below the hole. */
uint64_t layout_low_ram(uint64_t ram_bytes);

/** layout_low_ram_q35() - the same on the q35 platform, whose firmware may put ECAM at 2.75 GiB. */
uint64_t layout_low_ram_q35(uint64_t ram_bytes);

struct boot_params_in {
    const char *kernel;    /* path */
    const char *initramfs; /* path, NULL for none */
    const char *cmdline;   /* "" for none */
    uint32_t vcpus;        /* present at start; all but number 0 wait for a SIPI */
    uint64_t ram_bytes;
    const struct buf *acpi;   /* tables to place at LAYOUT_ACPI, RSDP first; NULL for none */
    const struct buf *smbios; /* entry point and tables for LAYOUT_SMBIOS; NULL for none */
};

/**
 * boot_plan_kernel() - append to @plan the kernel, initramfs, command line, boot structures, tables and
 * the state of each vCPU.
 *
 * Return: 0, or -errno with a sentence that names the file and what is wrong with it (-ENOEXEC: not a kernel that can
 * be booted; -E2BIG: does not fit the guest's RAM or what the kernel takes; -ENODATA: the file is shorter than its
 * header says, or empty).
 */
int boot_plan_kernel(struct plan *plan, const struct boot_params_in *in, struct error *err);

#endif
