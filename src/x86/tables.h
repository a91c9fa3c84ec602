/* Tables that describe the machine to the guest: ACPI 6.x and SMBIOS 3.x. Pure functions of what they describe. */
#ifndef HUSK_X86_TABLES_H
#define HUSK_X86_TABLES_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpu_layout {
    uint32_t boot; /* vCPUs present at start */
    uint32_t max;  /* vCPUs described; those above boot are disabled */
    uint32_t threads_per_core, cores_per_die, dies_per_package, packages; /* all at least 1 */
};

/** cpu_apic_id() - the APIC id of vCPU @index: threads, cores, dies in bit fields of their own width. */
uint32_t cpu_apic_id(const struct cpu_layout *cpus, uint32_t index);

struct acpi_in {
    struct cpu_layout cpus;
    uint64_t pci_mmio64;     /* base of the 64-bit PCI window */
    uint64_t pci_mmio64_len; /* 0 for none */
    bool serial;             /* a COM1 is there */
    bool fw_cfg;             /* fw_cfg is there */
    bool q35;                /* the q35 platform; what follows is used there only */
    uint64_t low_ram_end;    /* PCI devices may be above, up to the I/O APIC */
    uint64_t ecam;           /* where firmware has put configuration space; 0 for nowhere */
    struct {
        uint64_t base, len;
    } ram[2]; /* for the SRAT */
};

/** acpi_build() - RSDP and tables (XSDT, FADT, FACS-less, MADT, MCFG, DSDT) as they lie from guest address @base on. */
int acpi_build(struct buf *out, uint64_t base, const struct acpi_in *in, struct error *err);

enum acpi_table { ACPI_MADT, ACPI_SRAT, ACPI_SLIT, ACPI_PPTT };

/** acpi_table_build() - one table alone, for a loader that hands its guest single tables. 0, -EINVAL or -ENOMEM. */
int acpi_table_build(struct buf *out, enum acpi_table table, const struct acpi_in *in,
                     struct error *err);

struct smbios_in {
    const char *manufacturer, *product_name, *version, *serial_number, *sku_number,
        *family;      /* NULL: husk's own */
    const char *uuid; /* text form, NULL for none */
    const char *chassis_asset_tag;
    const char *const *oem_strings;
    size_t n_oem_strings;
    uint64_t ram_bytes;
    uint64_t low_ram; /* bytes of it that lie below 4 GiB */
    uint32_t vcpus;
};

#define SMBIOS_ENTRY_POINT_BYTES 24
#define SMBIOS_TABLES_OFFSET 32 /* of the tables, from the entry point */

/** smbios_build() - SMBIOS 3 entry point at @base and its tables behind it. */
int smbios_build(struct buf *out, uint64_t base, const struct smbios_in *in, struct error *err);

#endif
