/*
 * bzImage, entered at its 64-bit entry point. Source of the rules: the Linux/x86 boot protocol
 * (Documentation/arch/x86/boot.rst) and the zero page (Documentation/arch/x86/zero-page.rst).
 */
#include "x86/boot_internal.h"
#include "x86/layout.h"

#include "base/bytes.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>

/* Setup header: offsets in the file and in the zero page alike. */
enum {
    HDR_SETUP_SECTS = 0x1f1, /* start of what is copied */
    HDR_SYSSIZE = 0x1f4,     /* of the protected-mode code, in 16 bytes */
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP = 0x200, /* a short jump over the header: its operand says where the header ends */
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_TYPE_OF_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_CODE32_START = 0x214,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_CMD_LINE_PTR = 0x228,
    HDR_INITRD_ADDR_MAX = 0x22c,
    HDR_KERNEL_ALIGNMENT = 0x230,
    HDR_RELOCATABLE = 0x234,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_SETUP_DATA = 0x250,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
    HDR_END_2_12 = 0x268, /* where the header of protocol 2.12 ends */
};

/* The rest of the zero page. */
enum {
    BP_ACPI_RSDP_ADDR = 0x70,
    BP_E820_ENTRIES = 0x1e8,
    BP_HDR_END = 0x290, /* the space for the header ends */
    BP_E820_TABLE = 0x2d0,
    BP_E820_ENTRY_BYTES = 20,
};
_Static_assert(BP_E820_TABLE + E820_MAX * BP_E820_ENTRY_BYTES <= PAGE_BYTES, "fits the zero page");

#define BOOT_FLAG 0xaa55
#define JUMP_SHORT 0xeb
#define LOADER_UNDEFINED 0xff
#define LOADED_HIGH BIT(0)
#define XLF_KERNEL_64 BIT(0)
#define SECTOR_BYTES 512u
#define ENTRY_64 0x200 /* from the start of the protected-mode code */

struct bzimage {
    uint64_t payload_offset, payload_len; /* the protected-mode code, in the file */
    uint64_t header_end;                  /* offset behind the setup header */
    uint64_t initrd_top;                  /* first address behind what the initramfs may take */
    uint64_t cmdline_max;
    uint64_t load; /* where the payload goes */
    uint64_t end;  /* first address that neither the payload nor the unpacked kernel uses */
};

bool bzimage_recognise(const struct boot_load *load)
{
    return load->head_len >= HDR_VERSION && load_le16(load->head + HDR_BOOT_FLAG) == BOOT_FLAG &&
           memcmp(load->head + HDR_MAGIC, "HdrS", 4) == 0;
}

/** check_kind() - that this is a 64-bit kernel of a protocol with a 64-bit entry point. */
static int check_kind(const struct boot_load *load, struct error *err)
{
    const uint8_t *head = load->head;
    const char *path = load->kernel.path;
    if (load->head_len < HDR_END_2_12)
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it ends at byte %zu, within its setup header",
                         path, load->head_len);
    unsigned version = load_le16(head + HDR_VERSION);
    if (version < 0x20c) {
        error_set(
            err, -ENOEXEC,
            "kernel '%s' has boot protocol %u.%02u; the 64-bit entry point needs 2.12 or later",
            path, version >> 8, version & 0xff);
        return error_hint(err, "kernels from Linux 3.8 on have it");
    }
    if (!(load_le16(head + HDR_XLOADFLAGS) & XLF_KERNEL_64)) {
        error_set(err, -ENOEXEC, "kernel '%s' is a 32-bit kernel, without a 64-bit entry point",
                  path);
        return error_hint(err, "use one built for x86_64 (CONFIG_64BIT=y)");
    }
    if (!(head[HDR_LOADFLAGS] & LOADED_HIGH))
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is a zImage, which loads below 1 MiB; a bzImage is needed",
                         path);
    return 0;
}

/** parse_extent() - where header and payload end. */
static int parse_extent(const struct boot_load *load, struct bzimage *image, struct error *err)
{
    const uint8_t *head = load->head;
    const char *path = load->kernel.path;
    image->header_end = HDR_MAGIC + head[HDR_JUMP + 1];
    if (head[HDR_JUMP] != JUMP_SHORT || image->header_end < HDR_END_2_12)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' has a setup header that is too short for its boot protocol",
                         path);
    image->header_end = MIN(image->header_end, (uint64_t)BP_HDR_END);

    unsigned sectors = head[HDR_SETUP_SECTS] ? head[HDR_SETUP_SECTS] : 4;
    image->payload_offset = (uint64_t)(sectors + 1) * SECTOR_BYTES;
    if (load->kernel.size <= image->payload_offset + ENTRY_64)
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it has %" PRIu64 " bytes, and %" PRIu64
                         " of setup code should come before the kernel",
                         path, load->kernel.size, image->payload_offset);
    image->payload_len = load->kernel.size - image->payload_offset;
    uint64_t said = (uint64_t)load_le32(head + HDR_SYSSIZE) * 16;
    if (said > image->payload_len)
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it has %" PRIu64
                         " bytes, its header says %" PRIu64,
                         path, load->kernel.size, image->payload_offset + said);
    return 0;
}

static int refuse_place(const struct boot_load *load, uint64_t start, uint64_t len,
                        struct error *err)
{
    char ram[UNITS_SIZE_TEXT];
    error_set(err, -E2BIG,
              "kernel '%s' takes 0x%" PRIx64 " bytes of memory from 0x%" PRIx64
              " on, but the RAM it may use ends at 0x%" PRIx64 " (the guest has %s)",
              load->kernel.path, len, start, load->low_ram,
              units_format_size(load->in->ram_bytes, ram));
    return error_hint(err, "give the guest more memory with --memory size=");
}

/**
 * place() - decide where the payload is loaded and what it will overwrite.
 *
 * A relocatable kernel runs where it is loaded, but not below pref_address: there it would move itself first. One
 * that is not relocatable moves itself to pref_address from anywhere. init_size counts from where it runs.
 */
static int place(const struct boot_load *load, struct bzimage *image, struct error *err)
{
    const uint8_t *head = load->head;
    uint64_t alignment = load_le32(head + HDR_KERNEL_ALIGNMENT);
    uint64_t preferred = load_le64(head + HDR_PREF_ADDRESS);
    uint64_t init_size = load_le32(head + HDR_INIT_SIZE);
    bool relocatable = head[HDR_RELOCATABLE];
    if (relocatable && (alignment == 0 || (alignment & (alignment - 1))))
        return error_set(err, -ENOEXEC,
                         "kernel '%s' asks for an alignment of 0x%" PRIx64
                         ", which is not a power of two",
                         load->kernel.path, alignment);
    if (preferred > load->low_ram)
        return refuse_place(load, preferred, init_size, err);
    uint64_t run = MAX(preferred, (uint64_t)LAYOUT_KERNEL);
    image->load = LAYOUT_KERNEL;
    if (relocatable)
        image->load = run = align_up(run, MAX(alignment, (uint64_t)PAGE_BYTES));
    if (!range_within(image->load, image->payload_len, load->low_ram))
        return refuse_place(load, image->load, image->payload_len, err);
    if (!range_within(run, init_size, load->low_ram))
        return refuse_place(load, run, init_size, err);
    image->end = MAX(image->load + image->payload_len, run + init_size);
    return 0;
}

static int add_zero_page(const struct boot_load *load, const struct bzimage *image,
                         struct error *err)
{
    uint8_t page[PAGE_BYTES] = {0};
    memcpy(page + HDR_SETUP_SECTS, load->head + HDR_SETUP_SECTS,
           (size_t)(image->header_end - HDR_SETUP_SECTS));
    page[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    store_le32(page + HDR_CODE32_START, (uint32_t)image->load);
    store_le32(page + HDR_RAMDISK_IMAGE, (uint32_t)load->initramfs_gpa);
    store_le32(page + HDR_RAMDISK_SIZE, (uint32_t)load->initramfs.size);
    store_le32(page + HDR_CMD_LINE_PTR, LAYOUT_CMDLINE);
    store_le64(page + HDR_SETUP_DATA, 0);
    store_le64(page + BP_ACPI_RSDP_ADDR, load->rsdp);

    page[BP_E820_ENTRIES] = (uint8_t)load->e820.n;
    for (unsigned i = 0; i < load->e820.n; i++) {
        const struct e820_entry *from = &load->e820.entries[i];
        uint8_t *to = page + BP_E820_TABLE + (size_t)i * BP_E820_ENTRY_BYTES;
        store_le64(to, from->base);
        store_le64(to + 8, from->len);
        store_le32(to + 16, from->type);
    }
    return plan_add_bytes(load->plan, LAYOUT_BOOT_PARAMS, page, sizeof(page), "zero page", err);
}

int bzimage_plan(struct boot_load *load, struct error *err)
{
    struct bzimage image = {0};
    int ret = check_kind(load, err);
    if (ret == 0)
        ret = parse_extent(load, &image, err);
    if (ret == 0)
        ret = place(load, &image, err);
    if (ret < 0)
        return ret;
    image.initrd_top = (uint64_t)load_le32(load->head + HDR_INITRD_ADDR_MAX) + 1;
    image.cmdline_max = load_le32(load->head + HDR_CMDLINE_SIZE);

    ret = plan_add_file_range(load->plan, image.load, load->kernel.index, image.payload_offset,
                              image.payload_len, "kernel", err);
    if (ret == 0)
        ret = boot_add_initramfs(load, image.end, image.initrd_top, err);
    if (ret == 0)
        ret = boot_add_cmdline(load, image.cmdline_max, err);
    if (ret == 0)
        ret = add_zero_page(load, &image, err);
    if (ret == 0)
        ret = boot_add_long_mode(load, image.load + ENTRY_64, LAYOUT_BOOT_PARAMS, err);
    return ret;
}
