/*
 * ELF kernels with a PVH entry point: Xen's x86/HVM direct boot ABI (xen/docs/misc/pvh.pandoc, and
 * xen/include/public/arch-x86/hvm/start_info.h for the structures).
 */
#include "x86/boot_internal.h"
#include "x86/elf.h"
#include "x86/layout.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/units.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578
#define START_INFO_VERSION 1
#define NOTE_HEADER_BYTES 12
#define NOTES_MAX MIB(1) /* of all note segments together; Linux's have a few hundred bytes */

struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");

struct modlist_entry {
    uint64_t paddr, size, cmdline_paddr, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct modlist_entry) == 32, "hvm_modlist_entry");

struct memmap_entry {
    uint64_t addr, size;
    uint32_t type, reserved; /* type: E820's numbers */
} __attribute__((packed));
_Static_assert(sizeof(struct memmap_entry) == 24, "hvm_memmap_table_entry");

/* What lies at LAYOUT_PVH_START_INFO. */
struct start_page {
    struct start_info info;
    struct modlist_entry module;
    struct memmap_entry memmap[E820_MAX];
} __attribute__((packed));
_Static_assert(sizeof(struct start_page) <= PAGE_BYTES, "one page");
_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN,
               "husk runs on x86_64: the structures are little-endian");

struct pvh {
    struct elf elf;
    struct elf_segment load[ELF_SEGMENTS_MAX]; /* what takes memory, by address */
    unsigned n_load;
    uint64_t end; /* of the highest */
    uint32_t entry;
};

bool elf_recognise(const struct boot_load *load)
{
    return load->head_len > EI_CLASS && memcmp(load->head, ELFMAG, SELFMAG) == 0;
}

/**
 * scan_notes() - look for the PVH note among the @len bytes of a note segment.
 * Return: 1 with *@entry if it is there, 0 if not, -ENOEXEC if a note runs over the end.
 */
static int scan_notes(const uint8_t *notes, uint64_t len, uint64_t align, uint64_t *entry)
{
    uint64_t at = 0;
    while (at < len && len - at >= NOTE_HEADER_BYTES) {
        uint32_t name_len = load_le32(notes + at), desc_len = load_le32(notes + at + 4);
        uint32_t type = load_le32(notes + at + 8);
        uint64_t name = at + NOTE_HEADER_BYTES;
        uint64_t desc = align_up(name + name_len, align);
        if (!range_within(name, name_len, len) || !range_within(desc, desc_len, len))
            return -ENOEXEC;
        if (type == XEN_ELFNOTE_PHYS32_ENTRY && name_len == 4 &&
            memcmp(notes + name, "Xen", 4) == 0) {
            if (desc_len != 4 && desc_len != 8)
                return -ENOEXEC;
            *entry = desc_len == 8 ? load_le64(notes + desc) : load_le32(notes + desc);
            return 1;
        }
        at = align_up(desc + desc_len, align);
    }
    return 0;
}

/** find_entry() - the address that the PVH note names. */
static int find_entry(const struct boot_load *load, const struct elf *elf, uint64_t *entry,
                      struct error *err)
{
    const char *path = load->kernel.path;
    uint64_t total = 0;
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *segment = &elf->segments[i];
        if (segment->type != PT_NOTE || segment->filesz == 0)
            continue;
        if (segment->filesz > NOTES_MAX - total)
            return error_set(err, -ENOEXEC, "kernel '%s' has more than 1 MiB of ELF notes", path);
        total += segment->filesz;
        _cleanup_free_ uint8_t *notes = malloc(segment->filesz);
        if (!notes)
            return error_set(err, -ENOMEM, "out of memory while reading kernel '%s'", path);
        int ret = fd_pread_full(load->kernel.fd, notes, segment->filesz, segment->offset);
        if (ret < 0)
            return error_set_errno(err, ret, "could not read kernel '%s'", path);
        ret = scan_notes(notes, segment->filesz, segment->align == 8 ? 8 : 4, entry);
        if (ret < 0)
            return error_set(err, ret, "kernel '%s' has a damaged ELF note in segment %u", path, i);
        if (ret > 0)
            return 0;
    }
    error_set(err, -ENOEXEC, "kernel '%s' is an ELF file without a PVH entry point", path);
    return error_hint(err, "Linux has one if built with CONFIG_PVH=y; a bzImage needs none");
}

static int compare_segments(const void *a, const void *b)
{
    const struct elf_segment *x = a, *y = b;
    return x->paddr < y->paddr ? -1 : x->paddr > y->paddr;
}

/** sort_segments() - collect what takes memory, by address; all must lie in RAM, none on another. */
static int sort_segments(const struct boot_load *load, struct pvh *pvh, struct error *err)
{
    const char *path = load->kernel.path;
    for (unsigned i = 0; i < pvh->elf.n; i++)
        if (pvh->elf.segments[i].type == PT_LOAD && pvh->elf.segments[i].memsz)
            pvh->load[pvh->n_load++] = pvh->elf.segments[i];
    if (pvh->n_load == 0)
        return error_set(err, -ENOEXEC, "kernel '%s' has no segment to load", path);
    qsort(pvh->load, pvh->n_load, sizeof(pvh->load[0]), compare_segments);

    for (unsigned i = 0; i < pvh->n_load; i++) {
        const struct elf_segment *segment = &pvh->load[i];
        if (segment->paddr < LAYOUT_KERNEL)
            return error_set(err, -ENOEXEC,
                             "kernel '%s' loads at 0x%" PRIx64
                             ", below 1 MiB, where boot structures and firmware tables are",
                             path, segment->paddr);
        if (!range_within(segment->paddr, segment->memsz, load->low_ram)) {
            char ram[UNITS_SIZE_TEXT];
            error_set(err, -E2BIG,
                      "kernel '%s' takes 0x%" PRIx64 " bytes of memory from 0x%" PRIx64
                      " on, but the RAM it may use ends at 0x%" PRIx64 " (the guest has %s)",
                      path, segment->memsz, segment->paddr, load->low_ram,
                      units_format_size(load->in->ram_bytes, ram));
            return error_hint(err, "give the guest more memory with --memory size=");
        }
        if (segment->paddr < pvh->end)
            return error_set(err, -ENOEXEC, "kernel '%s' has segments that overlap at 0x%" PRIx64,
                             path, segment->paddr);
        pvh->end = segment->paddr + segment->memsz;
    }
    return 0;
}

static int check_entry(const struct boot_load *load, struct pvh *pvh, uint64_t entry,
                       struct error *err)
{
    for (unsigned i = 0; i < pvh->n_load; i++) {
        const struct elf_segment *segment = &pvh->load[i];
        if (entry >= segment->paddr && entry - segment->paddr < segment->filesz) {
            pvh->entry = (uint32_t)entry; /* low RAM ends below 4 GiB */
            return 0;
        }
    }
    return error_set(err, -ENOEXEC,
                     "kernel '%s' has its PVH entry point at 0x%" PRIx64 ", where it loads nothing",
                     load->kernel.path, entry);
}

/* A page that is put together from parts of the file: the plan holds each page once, segments may share one. */
struct page_parts {
    uint64_t gpa;
    bool used;
    uint8_t bytes[PAGE_BYTES];
};

static int flush_parts(const struct boot_load *load, struct page_parts *parts, struct error *err)
{
    if (!parts->used)
        return 0;
    parts->used = false;
    return plan_add_bytes(load->plan, parts->gpa, parts->bytes, PAGE_BYTES, "kernel", err);
}

/** add_part() - @len bytes from @offset of the file to @gpa, all within one page. */
static int add_part(const struct boot_load *load, struct page_parts *parts, uint64_t gpa,
                    uint64_t offset, uint64_t len, struct error *err)
{
    uint64_t page = align_down(gpa, PAGE_BYTES);
    if (!parts->used || parts->gpa != page) {
        int ret = flush_parts(load, parts, err);
        if (ret < 0)
            return ret;
        *parts = (struct page_parts){.gpa = page, .used = true};
    }
    int ret = fd_pread_full(load->kernel.fd, parts->bytes + (gpa - page), len, offset);
    if (ret < 0)
        return error_set_errno(err, ret, "could not read kernel '%s'", load->kernel.path);
    return 0;
}

/** add_segment() - one segment's file bytes: whole pages as a range of the file, shared and cut ones as parts.
 * @next: first address with file bytes behind this segment.
 */
static int add_segment(const struct boot_load *load, struct page_parts *parts,
                       const struct elf_segment *segment, uint64_t next, struct error *err)
{
    uint64_t gpa = segment->paddr, offset = segment->offset, end = gpa + segment->filesz;
    uint64_t next_page = align_down(next, PAGE_BYTES);
    while (gpa < end) {
        uint64_t page = align_down(gpa, PAGE_BYTES), len;
        bool held = parts->used && parts->gpa == page;
        int ret;
        if (gpa == page && !held && page < next_page) {
            len = MIN(end, next_page) - gpa;
            ret = plan_add_file_range(load->plan, gpa, load->kernel.index, offset, len, "kernel",
                                      err);
        } else {
            len = MIN(end, page + PAGE_BYTES) - gpa;
            ret = add_part(load, parts, gpa, offset, len, err);
        }
        if (ret < 0)
            return ret;
        gpa += len;
        offset += len;
    }
    return 0;
}

static int add_segments(const struct boot_load *load, const struct pvh *pvh, struct error *err)
{
    struct page_parts parts = {0};
    for (unsigned i = 0; i < pvh->n_load; i++) {
        uint64_t next = UINT64_MAX;
        for (unsigned j = i + 1; j < pvh->n_load && next == UINT64_MAX; j++)
            if (pvh->load[j].filesz)
                next = pvh->load[j].paddr;
        int ret = add_segment(load, &parts, &pvh->load[i], next, err);
        if (ret < 0)
            return ret;
    }
    return flush_parts(load, &parts, err);
}

static int add_start_info(const struct boot_load *load, struct error *err)
{
    struct start_page page = {
        .info =
            {
                .magic = START_INFO_MAGIC,
                .version = START_INFO_VERSION,
                .cmdline_paddr = LAYOUT_CMDLINE,
                .rsdp_paddr = load->rsdp,
                .memmap_paddr = LAYOUT_PVH_START_INFO + offsetof(struct start_page, memmap),
                .memmap_entries = load->e820.n,
            },
    };
    if (load->initramfs.path) {
        page.info.nr_modules = 1;
        page.info.modlist_paddr = LAYOUT_PVH_START_INFO + offsetof(struct start_page, module);
        page.module.paddr = load->initramfs_gpa;
        page.module.size = load->initramfs.size;
    }
    for (unsigned i = 0; i < load->e820.n; i++)
        page.memmap[i] = (struct memmap_entry){.addr = load->e820.entries[i].base,
                                               .size = load->e820.entries[i].len,
                                               .type = load->e820.entries[i].type};
    return plan_add_bytes(load->plan, LAYOUT_PVH_START_INFO, &page, sizeof(page), "PVH start info",
                          err);
}

int pvh_plan(struct boot_load *load, struct error *err)
{
    struct pvh pvh = {0};
    uint64_t entry = 0;
    int ret = elf_read(load, &pvh.elf, err);
    if (ret == 0)
        ret = find_entry(load, &pvh.elf, &entry, err);
    if (ret == 0)
        ret = sort_segments(load, &pvh, err);
    if (ret == 0)
        ret = check_entry(load, &pvh, entry, err);
    if (ret == 0)
        ret = add_segments(load, &pvh, err);
    if (ret == 0)
        ret = boot_add_initramfs(load, pvh.end, load->low_ram, err);
    if (ret == 0)
        ret = boot_add_cmdline(load, LAYOUT_CMDLINE_MAX - 1, err);
    if (ret == 0)
        ret = add_start_info(load, err);
    if (ret == 0)
        ret = boot_add_protected_mode(load, pvh.entry, LAYOUT_PVH_START_INFO, err);
    return ret;
}
