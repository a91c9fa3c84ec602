/* Writes the tables of a guest to files, for iasl and dmidecode: dump_tables FOLDER BOOT MAX SERIAL MMIO64_LEN. */
#include "x86/layout.h"
#include "x86/tables.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>

static int write_file(const char *folder, const char *name, const char *ending, const void *bytes,
                      size_t len)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%.4s.%s", folder, name, ending);
    _cleanup_fclose_ FILE *f = fopen(path, "wb");
    return f && fwrite(bytes, 1, len, f) == len ? 0 : -1;
}

/** write_table() - the table at guest address @gpa of @acpi. */
static int write_table(const char *folder, const struct buf *acpi, uint64_t gpa)
{
    const uint8_t *table = acpi->data + (gpa - LAYOUT_ACPI);
    return write_file(folder, (const char *)table, "dat", table, load_le32(table + 4));
}

static int dump_acpi(const char *folder, char **args)
{
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    uint64_t ecam = strtoull(args[4], NULL, 0);
    const struct acpi_in in = {
        .cpus = {.boot = (uint32_t)atoi(args[0]),
                 .max = (uint32_t)atoi(args[1]),
                 .threads_per_core = 1,
                 .cores_per_die = (uint32_t)atoi(args[1]),
                 .dies_per_package = 1,
                 .packages = 1},
        .pci_mmio64 = GIB(64),
        .pci_mmio64_len = strtoull(args[3], NULL, 0),
        .serial = atoi(args[2]) != 0,
        .fw_cfg = ecam != 0,
        .q35 = ecam != 0,
        .low_ram_end = GIB(2),
        .ecam = ecam,
    };
    if (acpi_build(&acpi, LAYOUT_ACPI, &in, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    uint64_t xsdt = load_le64(acpi.data + 24);
    const uint8_t *entries = acpi.data + (xsdt - LAYOUT_ACPI);
    int ret = write_table(folder, &acpi, xsdt);
    for (uint32_t at = 36; at < load_le32(entries + 4) && ret == 0; at += 8)
        ret = write_table(folder, &acpi, load_le64(entries + at));
    uint64_t dsdt = load_le64(acpi.data + (load_le64(entries + 36) - LAYOUT_ACPI) + 140);
    return ret < 0 ? ret : write_table(folder, &acpi, dsdt);
}

/** dump_smbios() - with the entry point at 0, which is how dmidecode writes its own dumps. */
static int dump_smbios(const char *folder, char **args)
{
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct error err = ERROR_INIT;
    static const char *const strings[] = {"first of two", "second of two"};
    const struct smbios_in in = {
        .version = "a version",
        .serial_number = "a serial number",
        .uuid = "00112233-4455-6677-8899-aabbccddeeff",
        .chassis_asset_tag = "an asset tag",
        .oem_strings = strings,
        .n_oem_strings = ARRAY_SIZE(strings),
        .ram_bytes = GIB(6),
        .low_ram = GIB(3),
        .vcpus = (uint32_t)atoi(args[0]),
    };
    if (smbios_build(&smbios, 0, &in, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return write_file(folder, "SMBI", "dat", smbios.data, smbios.len);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: dump_tables FOLDER BOOT MAX SERIAL MMIO64_LEN ECAM\n");
        return 2;
    }
    return dump_acpi(argv[1], argv + 2) < 0 || dump_smbios(argv[1], argv + 2) < 0;
}
