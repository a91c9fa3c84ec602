#include "x86/boot.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "base/units.h"
#include "x86/boot_internal.h"
#include "x86/layout.h"

#include <errno.h>
#include <inttypes.h>

/** open_file() - open @path for the plan; an empty file is an error. */
static int open_file(struct plan *plan, const char *path, const char *what, struct boot_file *file,
                     struct error *err)
{
    uint64_t size;
    int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return error_context(err, "%s", what);
    int index = plan_add_file(plan, fd, size, path, err);
    if (index < 0)
        return index;
    *file = (struct boot_file){.path = path, .index = (unsigned)index, .fd = fd, .size = size};
    if (size == 0)
        return error_set(err, -ENODATA, "%s '%s' is empty", what, path);
    return 0;
}

static int read_head(struct boot_load *load, struct error *err)
{
    load->head_len = (size_t)MIN(load->kernel.size, (uint64_t)sizeof(load->head));
    int ret = fd_pread_full(load->kernel.fd, load->head, load->head_len, 0);
    if (ret < 0)
        return error_set_errno(err, ret, "could not read kernel '%s'", load->kernel.path);
    return 0;
}

int boot_add_initramfs(struct boot_load *load, uint64_t bottom, uint64_t top, struct error *err)
{
    const struct boot_file *file = &load->initramfs;
    if (!file->path)
        return 0;
    char ram[UNITS_SIZE_TEXT];
    units_format_size(load->in->ram_bytes, ram);
    if (file->size > load->in->ram_bytes) {
        error_set(err, -E2BIG,
                  "initramfs '%s' (%" PRIu64
                  " bytes) is larger than the guest's RAM of %s (%" PRIu64 " bytes)",
                  file->path, file->size, ram, load->in->ram_bytes);
        return error_hint(err, "give the guest more memory with --memory size=");
    }
    top = MIN(top, load->low_ram);
    bottom = align_up(bottom, PAGE_BYTES);
    if (bottom > top || file->size > top - bottom ||
        align_down(top - file->size, PAGE_BYTES) < bottom) {
        error_set(err, -E2BIG,
                  "initramfs '%s' (%" PRIu64
                  " bytes) does not fit between the kernel's end at 0x%" PRIx64 " and 0x%" PRIx64
                  " in the guest's RAM of %s",
                  file->path, file->size, bottom, top, ram);
        return error_hint(err,
                          "give the guest more memory with --memory size=, or a smaller initramfs");
    }
    load->initramfs_gpa = align_down(top - file->size, PAGE_BYTES);
    return plan_add_file_range(load->plan, load->initramfs_gpa, file->index, 0, file->size,
                               "initramfs", err);
}

int boot_add_cmdline(struct boot_load *load, uint64_t max, struct error *err)
{
    size_t len = strlen(load->cmdline);
    max = MIN(max, (uint64_t)LAYOUT_CMDLINE_MAX - 1);
    if (len > max)
        return error_set(
            err, -E2BIG,
            "the command line is %zu characters long, kernel '%s' takes at most %" PRIu64, len,
            load->kernel.path, max);
    return plan_add_bytes(load->plan, LAYOUT_CMDLINE, load->cmdline, len + 1, "command line", err);
}

/** add_table() - firmware tables at @gpa, at most @max bytes. */
static int add_table(struct plan *plan, const struct buf *table, uint64_t gpa, uint64_t max,
                     const char *origin, struct error *err)
{
    if (!table)
        return 0;
    if (table->len > max)
        return error_set(err, -E2BIG, "the %s take %zu bytes, more than the %" PRIu64 " set aside",
                         origin, table->len, max);
    return plan_add_bytes(plan, gpa, table->data, table->len, origin, err);
}

/**
 * add_reset_vector() - what a guest finds that jumps to the BIOS to restart.
 *
 * Linux does so on hardware-reduced platforms: it prefers EFI's reset service there, and where there is none goes on to
 * the BIOS, past ACPI's reset register (arch/x86/kernel/reboot.c, reboot_init() and native_machine_emergency_restart()).
 */
static int add_reset_vector(struct plan *plan, struct error *err)
{
    static const uint8_t code[] = {
        0xb0,
        LAYOUT_SLEEP_RESET, /* mov al, RESET */
        0xba,
        LAYOUT_PORT_SLEEP & 0xff,
        LAYOUT_PORT_SLEEP >> 8, /* mov dx, SLEEP */
        0xee,                   /* out dx, al */
        0xf4,                   /* hlt */
        0xeb,
        0xfd, /* jmp to the hlt */
    };
    _Static_assert(sizeof(code) <= 16, "ends at 1 MiB");
    uint8_t page[PAGE_BYTES] = {0};
    memcpy(page + LAYOUT_RESET_VECTOR % PAGE_BYTES, code, sizeof(code));
    return plan_add_bytes(plan, align_down(LAYOUT_RESET_VECTOR, PAGE_BYTES), page, sizeof(page),
                          "reset vector", err);
}

static int add_other_vcpus(const struct boot_load *load, struct error *err)
{
    for (uint32_t i = 1; i < load->in->vcpus; i++) {
        struct plan_vcpu vcpu;
        plan_vcpu_reset(&vcpu, i);
        vcpu.waits_for_sipi = true;
        int ret = plan_add_vcpu(load->plan, &vcpu, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int plan_by_kind(struct boot_load *load, struct error *err)
{
    if (bzimage_recognise(load))
        return bzimage_plan(load, err);
    if (elf_recognise(load))
        return pvh_plan(load, err);
    return boot_refuse_unknown(load, err);
}

int boot_plan_kernel(struct plan *plan, const struct boot_params_in *in, struct error *err)
{
    if (in->ram_bytes < MIB(2) || !is_aligned(in->ram_bytes, PAGE_BYTES))
        return error_set(err, -EINVAL,
                         "%" PRIu64 " bytes of RAM: a kernel needs 2M at least, in pages",
                         in->ram_bytes);
    struct boot_load load = {
        .plan = plan,
        .in = in,
        .cmdline = in->cmdline ? in->cmdline : "",
        .low_ram = layout_low_ram(in->ram_bytes),
        .rsdp = in->acpi ? LAYOUT_ACPI : 0,
    };
    e820_build(&load.e820, in->ram_bytes);

    int ret = open_file(plan, in->kernel, "kernel", &load.kernel, err);
    if (ret == 0)
        ret = read_head(&load, err);
    if (ret == 0 && in->initramfs)
        ret = open_file(plan, in->initramfs, "initramfs", &load.initramfs, err);
    if (ret == 0)
        ret = plan_by_kind(&load, err);
    if (ret == 0)
        ret = add_table(plan, in->acpi, LAYOUT_ACPI, LAYOUT_ACPI_MAX, "ACPI tables", err);
    if (ret == 0)
        ret = add_table(plan, in->smbios, LAYOUT_SMBIOS, LAYOUT_SMBIOS_MAX, "SMBIOS tables", err);
    if (ret == 0)
        ret = add_reset_vector(plan, err);
    if (ret == 0)
        ret = add_other_vcpus(&load, err);
    if (ret == 0)
        ret = plan_check(plan, load.low_ram, err);
    return ret;
}
