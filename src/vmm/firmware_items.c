#include "vmm/firmware_items.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "devices/fw_cfg.h"
#include "vmm/boot_order.h"
#include "vmm/firmware_files.h"
#include "vmm/machine_layout.h"
#include "x86/acpi_loader.h"
#include "x86/boot.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>

/* The setup header of a bzImage: Documentation/arch/x86/boot.rst of Linux. */
#define SETUP_SECTS 0x1f1
#define SETUP_BOOT_FLAG 0x1fe
#define SETUP_MAGIC 0x202
#define SETUP_HEAD_BYTES 0x206
#define SECTOR_BYTES 512u
#define SETUP_SECTS_OF_ZERO 4u

/* Where QEMU tells firmware that does not place these itself to put them. */
#define SETUP_ADDR 0x10000
#define CMDLINE_ADDR 0x20000
#define KERNEL_ADDR 0x100000

/* The tables are sized before firmware has placed PCI's windows, and made after: room for what may come on top. */
#define ACPI_ROOM 4096

struct firmware_items {
    struct firmware_items_in in;
    struct machine_payload payload;
    struct fw_cfg *fw_cfg;
    bool acpi_made;
    struct acpi_blobs acpi;
};

static void *memory_for_dma(void *ctx, uint64_t gpa, uint64_t len)
{
    struct firmware_items *items = ctx;
    return memory_ptr(items->in.memory, gpa, len);
}

static void failed(void *ctx, const struct error *err)
{
    struct firmware_items *items = ctx;
    items->in.failed(items->in.ctx, err);
}

/** setup_bytes() - length of the part of kernel @fd that runs in real mode, from its own header. */
static int setup_bytes(int fd, uint64_t size, const char *path, uint32_t *bytes, struct error *err)
{
    uint8_t head[SETUP_HEAD_BYTES];
    int ret = size < sizeof(head) ? -ENODATA : fd_pread_full(fd, head, sizeof(head), 0);
    if (ret < 0 && ret != -ENODATA)
        return error_set_errno(err, ret, "could not read kernel '%s'", path);
    if (ret == -ENODATA || load_le16(head + SETUP_BOOT_FLAG) != 0xaa55 ||
        memcmp(head + SETUP_MAGIC, "HdrS", 4) != 0) {
        error_set(err, -ENOEXEC, "kernel '%s' is no bzImage, which is what firmware takes", path);
        return error_hint(err, "boot it without --firmware, or give a bzImage");
    }
    uint32_t sectors = head[SETUP_SECTS] ? head[SETUP_SECTS] : SETUP_SECTS_OF_ZERO;
    *bytes = (sectors + 1) * SECTOR_BYTES;
    if (*bytes >= size)
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: its setup area has %u bytes, the file %llu",
                         path, *bytes, (unsigned long long)size);
    return 0;
}

static int add_kernel(struct firmware_items *items, struct error *err)
{
    const char *path = items->payload.kernel;
    uint64_t size;
    uint32_t setup = 0;
    int fd = firmware_files_find(items->in.files, path, &size, err);
    if (fd < 0)
        return error_context(err, "kernel");
    int ret = setup_bytes(fd, size, path, &setup, err);
    if (ret < 0)
        return ret;
    struct fw_cfg_item head = {.fd = fd, .len = setup, .path = path};
    struct fw_cfg_item rest = {.fd = fd, .offset = setup, .len = size - setup, .path = path};
    struct fw_cfg *fw_cfg = items->fw_cfg;
    ret = fw_cfg_add_u32(fw_cfg, FW_CFG_SETUP_ADDR, SETUP_ADDR, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(fw_cfg, FW_CFG_SETUP_SIZE, setup, err);
    if (ret == 0)
        ret = fw_cfg_add(items->fw_cfg, FW_CFG_SETUP_DATA, &head, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(fw_cfg, FW_CFG_KERNEL_ADDR, KERNEL_ADDR, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(fw_cfg, FW_CFG_KERNEL_SIZE, (uint32_t)(size - setup), err);
    if (ret == 0)
        ret = fw_cfg_add(items->fw_cfg, FW_CFG_KERNEL_DATA, &rest, err);
    return ret;
}

static int add_initramfs(struct firmware_items *items, struct error *err)
{
    const char *path = items->payload.initramfs;
    uint64_t size;
    int fd = firmware_files_find(items->in.files, path, &size, err);
    if (fd < 0)
        return error_context(err, "initramfs");
    uint64_t low = machine_low_ram(items->in.config);
    if (size > low)
        return error_set(err, -E2BIG,
                         "initramfs '%s' (%llu bytes) is larger than the guest's RAM below 4 GiB",
                         path, (unsigned long long)size);
    struct fw_cfg_item data = {.fd = fd, .len = size, .path = path};
    uint32_t addr = (uint32_t)align_down(low - size, PAGE_BYTES);
    int ret = fw_cfg_add_u32(items->fw_cfg, FW_CFG_INITRD_ADDR, addr, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(items->fw_cfg, FW_CFG_INITRD_SIZE, (uint32_t)size, err);
    if (ret == 0)
        ret = fw_cfg_add(items->fw_cfg, FW_CFG_INITRD_DATA, &data, err);
    return ret;
}

static int add_cmdline(struct firmware_items *items, struct error *err)
{
    const char *cmdline = items->payload.cmdline ? items->payload.cmdline : "";
    size_t len = strlen(cmdline) + 1;
    struct fw_cfg_item data = {.bytes = cmdline, .len = len};
    int ret = fw_cfg_add_u32(items->fw_cfg, FW_CFG_CMDLINE_ADDR, CMDLINE_ADDR, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(items->fw_cfg, FW_CFG_CMDLINE_SIZE, (uint32_t)len, err);
    if (ret == 0)
        ret = fw_cfg_add(items->fw_cfg, FW_CFG_CMDLINE_DATA, &data, err);
    return ret;
}

/** add_payload() - kernel, initramfs and command line, as far as they were given. */
static int add_payload(struct firmware_items *items, struct error *err)
{
    const struct machine_payload *payload = &items->payload;
    int ret = payload->kernel ? add_kernel(items, err) : 0;
    if (ret == 0 && payload->initramfs)
        ret = add_initramfs(items, err);
    /* Firmware wants to know that a kernel has no command line, unless it is not to be told of one. */
    bool told = items->in.config->payload.fw_cfg.cmdline != SWITCH_OFF;
    if (ret == 0 && (payload->cmdline || (payload->kernel && told)))
        ret = add_cmdline(items, err);
    return ret;
}

static int add_numbers(struct firmware_items *items, struct error *err)
{
    const struct vm_config *config = items->in.config;
    uint8_t ram[8];
    store_le64(ram, config->memory.size);
    int ret = fw_cfg_add(items->fw_cfg, FW_CFG_RAM_SIZE,
                         &(struct fw_cfg_item){.bytes = ram, .len = sizeof(ram)}, err);
    if (ret == 0)
        ret = fw_cfg_add_u16(items->fw_cfg, FW_CFG_NB_CPUS, (uint16_t)config->cpus.boot, err);
    if (ret == 0)
        ret = fw_cfg_add_u16(items->fw_cfg, FW_CFG_MAX_CPUS, (uint16_t)config->cpus.max, err);
    if (ret == 0)
        ret = fw_cfg_add_u16(items->fw_cfg, FW_CFG_BOOT_MENU, 0, err);
    return ret;
}

static void append_e820(struct buf *out, uint64_t base, uint64_t len, enum e820_type type)
{
    if (len == 0)
        return;
    buf_append_le64(out, base);
    buf_append_le64(out, len);
    buf_append_le32(out, type);
}

/** add_buf() - a named item from @bytes, which may have failed. */
static int add_buf(struct firmware_items *items, const char *name, const struct buf *bytes,
                   struct error *err)
{
    if (buf_failed(bytes))
        return error_set(err, -ENOMEM, "out of memory for fw_cfg item '%s'", name);
    return fw_cfg_add_file(items->fw_cfg, name,
                           &(struct fw_cfg_item){.bytes = bytes->data, .len = bytes->len}, err);
}

static int add_e820(struct firmware_items *items, struct error *err)
{
    _cleanup_buf_ struct buf map = BUF_INIT;
    uint64_t low = machine_low_ram(items->in.config);
    append_e820(&map, 0, low, E820_RAM);
    append_e820(&map, LAYOUT_HIGH_RAM_BASE, items->in.config->memory.size - low, E820_RAM);
    return add_buf(items, "etc/e820", &map, err);
}

static int add_smbios(struct firmware_items *items, struct error *err)
{
    _cleanup_buf_ struct buf all = BUF_INIT;
    struct smbios_in in = machine_smbios(items->in.config);
    int ret = smbios_build(&all, 0, &in, err);
    if (ret < 0)
        return ret;
    struct fw_cfg_item anchor = {.bytes = all.data, .len = SMBIOS_ENTRY_POINT_BYTES};
    struct fw_cfg_item tables = {.bytes = all.data + SMBIOS_TABLES_OFFSET,
                                 .len = all.len - SMBIOS_TABLES_OFFSET};
    ret = fw_cfg_add_file(items->fw_cfg, "etc/smbios/smbios-anchor", &anchor, err);
    return ret < 0 ? ret : fw_cfg_add_file(items->fw_cfg, "etc/smbios/smbios-tables", &tables, err);
}

/** acpi_now() - the tables as they are once firmware has placed things; made when the first of them is selected. */
static int acpi_now(struct firmware_items *items, struct error *err)
{
    if (items->acpi_made)
        return 0;
    struct acpi_in in = machine_acpi(items->in.config, &items->in.memory->windows);
    in.ecam = items->in.placed_ecam(items->in.ctx);
    int ret = acpi_blobs_build(&items->acpi, &in, err);
    items->acpi_made = ret == 0;
    return ret;
}

/** copy_blob() - @blob into an item of @len bytes, which was sized before. */
static int copy_blob(void *to, uint64_t len, const struct buf *blob, struct error *err)
{
    if (blob->len > len)
        return error_set(err, -E2BIG, "the ACPI tables outgrew the %llu bytes set aside for them",
                         (unsigned long long)len);
    memcpy(to, blob->data, blob->len);
    return 0;
}

static int make_rsdp(void *ctx, void *to, uint64_t len, struct error *err)
{
    struct firmware_items *items = ctx;
    int ret = acpi_now(items, err);
    return ret < 0 ? ret : copy_blob(to, len, &items->acpi.rsdp, err);
}

static int make_tables(void *ctx, void *to, uint64_t len, struct error *err)
{
    struct firmware_items *items = ctx;
    int ret = acpi_now(items, err);
    return ret < 0 ? ret : copy_blob(to, len, &items->acpi.tables, err);
}

static int make_loader(void *ctx, void *to, uint64_t len, struct error *err)
{
    struct firmware_items *items = ctx;
    int ret = acpi_now(items, err);
    return ret < 0 ? ret : copy_blob(to, len, &items->acpi.loader, err);
}

static int add_acpi(struct firmware_items *items, struct error *err)
{
    struct acpi_blobs sizes = ACPI_BLOBS_INIT;
    struct acpi_in in = machine_acpi(items->in.config, &items->in.memory->windows);
    int ret = acpi_blobs_build(&sizes, &in, err);
    const struct {
        const char *name;
        int (*make)(void *ctx, void *to, uint64_t len, struct error *err);
        uint64_t len;
    } blobs[] = {
        {ACPI_FILE_RSDP, make_rsdp, sizes.rsdp.len},
        {ACPI_FILE_TABLES, make_tables, align_up(sizes.tables.len + ACPI_ROOM, PAGE_BYTES)},
        {ACPI_FILE_LOADER, make_loader, sizes.loader.len},
    };
    for (size_t i = 0; i < ARRAY_SIZE(blobs) && ret == 0; i++) {
        struct fw_cfg_item item = {.make = blobs[i].make, .ctx = items, .len = blobs[i].len};
        ret = fw_cfg_add_file(items->fw_cfg, blobs[i].name, &item, err);
    }
    acpi_blobs_release(&sizes);
    return ret;
}

static int add_boot_order(struct firmware_items *items, struct error *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    boot_order_build(&text, items->in.config);
    if (buf_failed(&text))
        return error_set(err, -ENOMEM, "out of memory for fw_cfg item 'bootorder'");
    if (!text.len)
        return 0;
    struct fw_cfg_item item = {.bytes = text.data, .len = text.len};
    return fw_cfg_add_file(items->fw_cfg, "bootorder", &item, err);
}

/** add_given() - one item of the user's. */
static int add_given(struct firmware_items *items, const struct fw_cfg_item_config *given,
                     struct error *err)
{
    if (given->string)
        return fw_cfg_add_file(
            items->fw_cfg, given->name,
            &(struct fw_cfg_item){.bytes = given->string, .len = strlen(given->string)}, err);
    uint64_t size;
    int fd = firmware_files_find(items->in.files, given->file, &size, err);
    if (fd < 0)
        return fd;
    struct fw_cfg_item item = {.fd = fd, .len = size, .path = given->file};
    return fw_cfg_add_file(items->fw_cfg, given->name, &item, err);
}

static int add_all_given(struct firmware_items *items, struct error *err)
{
    const struct fw_cfg_config *told = &items->in.config->payload.fw_cfg;
    for (size_t i = 0; i < told->n_items; i++)
        if (add_given(items, &told->items[i], err) < 0)
            return error_context(err, "--fw-cfg-config: item '%s'", told->items[i].name);
    return 0;
}

static int add_all(struct firmware_items *items, struct error *err)
{
    const struct fw_cfg_config *told = &items->in.config->payload.fw_cfg;
    int ret = add_numbers(items, err);
    if (ret == 0)
        ret = add_payload(items, err);
    if (ret == 0 && told->e820 != SWITCH_OFF)
        ret = add_e820(items, err);
    if (ret == 0 && told->acpi_table != SWITCH_OFF)
        ret = add_acpi(items, err);
    if (ret == 0)
        ret = add_smbios(items, err);
    if (ret == 0)
        ret = add_boot_order(items, err);
    return ret < 0 ? ret : add_all_given(items, err);
}

struct firmware_items *firmware_items_new(const struct firmware_items_in *in, struct error *err)
{
    struct firmware_items *items = calloc(1, sizeof(*items));
    if (!items) {
        error_set(err, -ENOMEM, "out of memory for fw_cfg");
        return NULL;
    }
    items->in = *in;
    items->payload = machine_payload(in->config);
    struct fw_cfg_params params = {.memory = memory_for_dma, .failed = failed, .ctx = items};
    items->fw_cfg = fw_cfg_new(in->ports, &params, err);
    if (!items->fw_cfg || add_all(items, err) < 0) {
        firmware_items_free(items);
        return NULL;
    }
    return items;
}

void firmware_items_free(struct firmware_items *items)
{
    if (!items)
        return;
    fw_cfg_free(items->fw_cfg);
    acpi_blobs_release(&items->acpi);
    free(items);
}
