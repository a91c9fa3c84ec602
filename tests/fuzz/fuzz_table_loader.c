/*
 * The table loader's script, for machines and places that the input chooses, carried out as firmware does it: no command
 * may reach outside the blob it names, none may come before what it needs, and the outcome is what acpi_build() makes for
 * that place. Firmware is told the sizes before it has placed configuration space, so they must hold afterwards too.
 */
#include "base/bytes.h"
#include "x86/acpi_loader.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_BYTES 96
#define COMMAND_BYTES 128
#define FILE_BYTES 56
#define RSDP_BYTES 36
#define RSDP_XSDT 24
#define TABLES_FROM 48u   /* where acpi_build() has the first table, from its base */
#define GROWTH_BYTES 4096 /* what src/vmm/firmware_items.c leaves for tables made later */

/* Firmware, as far as it carries out scripts. */
struct firmware {
    struct acpi_blobs blobs;
    uint64_t tables_at; /* where it puts the tables */
    bool has_rsdp, has_tables;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool is(const uint8_t *file, const char *name)
{
    return memchr(file, '\0', FILE_BYTES) && strcmp((const char *)file, name) == 0;
}

/** find() - the blob that @file names, which must have been allocated. */
static struct buf *find(struct firmware *fw, const uint8_t *file)
{
    if (is(file, ACPI_FILE_RSDP)) {
        check(fw->has_rsdp);
        return &fw->blobs.rsdp;
    }
    check(is(file, ACPI_FILE_TABLES) && fw->has_tables);
    return &fw->blobs.tables;
}

static void allocate(struct firmware *fw, const uint8_t *fields, const uint8_t *file)
{
    bool rsdp = is(file, ACPI_FILE_RSDP);
    bool *has = rsdp ? &fw->has_rsdp : &fw->has_tables;
    uint32_t align = load_le32(fields);
    check((rsdp || is(file, ACPI_FILE_TABLES)) && !*has);
    check(align != 0 && (align & (align - 1)) == 0 && align <= PAGE_BYTES);
    check(fields[4] == (rsdp ? 2 : 1));
    *has = true;
}

static void add_pointer(struct firmware *fw, const uint8_t *fields, const uint8_t *file)
{
    struct buf *to = find(fw, file);
    const struct buf *of = find(fw, fields);
    check(of == &fw->blobs.tables);
    uint32_t offset = load_le32(fields + FILE_BYTES);
    uint8_t width = fields[FILE_BYTES + 4];
    check((width == 4 || width == 8) && range_within(offset, width, to->len));
    uint64_t value = 0;
    memcpy(&value, to->data + offset, width);
    check(value < of->len);
    value += fw->tables_at;
    memcpy(to->data + offset, &value, width);
}

static void add_checksum(struct firmware *fw, const uint8_t *fields, const uint8_t *file)
{
    struct buf *of = find(fw, file);
    uint32_t result = load_le32(fields), start = load_le32(fields + 4), len = load_le32(fields + 8);
    check(range_within(start, len, of->len) && result >= start && result - start < len);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + of->data[start + i]);
    of->data[result] = (uint8_t)(of->data[result] - sum);
}

static void run_script(struct firmware *fw)
{
    const struct buf *loader = &fw->blobs.loader;
    check(loader->len && loader->len % COMMAND_BYTES == 0);
    for (size_t at = 0; at < loader->len; at += COMMAND_BYTES) {
        const uint8_t *file = loader->data + at + 4, *fields = file + FILE_BYTES;
        switch (load_le32(loader->data + at)) {
        case 1:
            allocate(fw, fields, file);
            break;
        case 2:
            add_pointer(fw, fields, file);
            break;
        case 3:
            add_checksum(fw, fields, file);
            break;
        default: /* stage0 knows no other */
            abort();
        }
    }
}

/** compare() - what the script yielded with the tables made for that place. */
static void compare(const struct firmware *fw, const struct acpi_in *in)
{
    _cleanup_buf_ struct buf expected = BUF_INIT;
    struct error err = ERROR_INIT;
    check(acpi_build(&expected, fw->tables_at - TABLES_FROM, in, &err) == 0);
    check(fw->blobs.rsdp.len == RSDP_BYTES);
    check(memcmp(fw->blobs.rsdp.data, expected.data, RSDP_BYTES) == 0);
    check(load_le64(fw->blobs.rsdp.data + RSDP_XSDT) >= fw->tables_at);
    check(fw->blobs.tables.len == expected.len - TABLES_FROM);
    check(memcmp(fw->blobs.tables.data, expected.data + TABLES_FROM, fw->blobs.tables.len) == 0);
}

/** from_input() - a machine; its numbers are small ones most of the time, so that many can be described. */
static struct acpi_in from_input(const uint8_t *in)
{
    bool wide = in[0] & 0x80;
    uint32_t numbers[6];
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        numbers[i] = wide ? load_le32(in + 8 + 4 * i) : load_le16(in + 8 + 4 * i);
    return (struct acpi_in){
        .cpus = {.boot = numbers[0],
                 .max = numbers[1],
                 /* The options' table lets no zero through. */
                 .threads_per_core = MAX(numbers[2], 1u),
                 .cores_per_die = MAX(numbers[3], 1u),
                 .dies_per_package = MAX(numbers[4], 1u),
                 .packages = MAX(numbers[5], 1u)},
        .serial = in[0] & 1,
        .fw_cfg = in[0] & 2,
        .q35 = in[0] & 4,
        .pci_mmio64 = load_le64(in + 32),
        .pci_mmio64_len = load_le64(in + 40),
        .low_ram_end = load_le64(in + 48),
        .ram = {{load_le64(in + 56), load_le64(in + 64)}, {load_le64(in + 72), load_le64(in + 80)}},
    };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t input[INPUT_BYTES] = {0};
    memcpy(input, data, MIN(size, sizeof(input)));
    struct acpi_in in = from_input(input);
    struct acpi_blobs sizes = ACPI_BLOBS_INIT;
    /* Pointers of 4 bytes must reach the tables. */
    struct firmware fw = {.blobs = ACPI_BLOBS_INIT,
                          .tables_at = align_down(load_le32(input + 4), 64)};
    fw.tables_at = MIN(MAX(fw.tables_at, MIB(1)), GIB(4) - MIB(16));
    struct error err = ERROR_INIT;
    int ret = acpi_blobs_build(&sizes, &in, &err);
    if (ret == 0) {
        in.ecam = load_le64(input + 88);
        check(acpi_blobs_build(&fw.blobs, &in, &err) == 0);
        check(fw.blobs.tables.len <= sizes.tables.len + GROWTH_BYTES);
        check(fw.blobs.rsdp.len == sizes.rsdp.len);
        run_script(&fw);
        compare(&fw, &in);
    } else {
        check(err.message[0] != '\0');
    }
    acpi_blobs_release(&sizes);
    acpi_blobs_release(&fw.blobs);
    return 0;
}
