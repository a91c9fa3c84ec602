/* What the kernel loaders share. Only the files that make up boot.h's functions include this. */
#ifndef HUSK_X86_BOOT_INTERNAL_H
#define HUSK_X86_BOOT_INTERNAL_H

#include "x86/boot.h"

#include <stdbool.h>
#include <stddef.h>

/* A file that the plan holds open. */
struct boot_file {
    const char *path; /* NULL: there is none */
    unsigned index;   /* in the plan's files */
    int fd;           /* the plan's */
    uint64_t size;
};

#define BOOT_HEAD_BYTES 4096

struct boot_load {
    struct plan *plan;
    const struct boot_params_in *in;
    const char *cmdline;
    uint64_t low_ram; /* end of RAM below the hole */
    struct e820_map e820;
    uint64_t rsdp; /* guest address, 0 for none */
    struct boot_file kernel, initramfs;
    uint8_t head[BOOT_HEAD_BYTES]; /* of the kernel; zero behind its end */
    size_t head_len;
    uint64_t initramfs_gpa; /* 0 for none; set by boot_add_initramfs() */
};

/** bzimage_recognise() - whether the file's start is that of an x86 Linux setup header. */
bool bzimage_recognise(const struct boot_load *load);

/** bzimage_plan() - kernel, zero page, page tables and vCPU 0 for the 64-bit entry point. Errors as boot_plan_kernel(). */
int bzimage_plan(struct boot_load *load, struct error *err);

/** elf_recognise() - whether the file's start is ELF's magic. */
bool elf_recognise(const struct boot_load *load);

/** pvh_plan() - segments, start info and vCPU 0 for the entry point of a PVH note. Errors as boot_plan_kernel(). */
int pvh_plan(struct boot_load *load, struct error *err);

/** boot_refuse_unknown() - say what a file that is no kernel looks like. Returns -ENOEXEC. */
int boot_refuse_unknown(const struct boot_load *load, struct error *err);

/**
 * boot_add_initramfs() - place the initramfs page-aligned, as high as @top lets it be and not below @bottom.
 * @top: the first address behind what it may occupy; the end of low RAM limits it further.
 * Return: 0 (also without an initramfs), -E2BIG with both sizes.
 */
int boot_add_initramfs(struct boot_load *load, uint64_t bottom, uint64_t top, struct error *err);

/** boot_add_cmdline() - place the command line; @max is the longest the kernel takes, without its NUL. */
int boot_add_cmdline(struct boot_load *load, uint64_t max, struct error *err);

/** boot_add_long_mode() - GDT, page tables that map the first 4 GiB to themselves, and vCPU 0 in 64-bit mode at @rip
 * with @rsi.
 */
int boot_add_long_mode(struct boot_load *load, uint64_t rip, uint64_t rsi, struct error *err);

/** boot_add_protected_mode() - GDT and vCPU 0 in 32-bit protected mode without paging, at @eip with @ebx. */
int boot_add_protected_mode(struct boot_load *load, uint32_t eip, uint32_t ebx, struct error *err);

#endif
