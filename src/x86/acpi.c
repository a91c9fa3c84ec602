/* ACPI tables of a hardware-reduced platform (ACPI 6.5, 4.1): no SCI, no PM1 registers, no FACS. */
#include "x86/acpi_internal.h"
#include "x86/layout.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>

#define OEM_ID "HUSK  "
#define TABLE_HEADER_BYTES 36
#define TABLE_LENGTH 4 /* offsets in the header */
#define TABLE_CHECKSUM 9

#define RSDP_BYTES 36
#define RSDP_BYTES_REV0 20 /* what the first checksum covers */

/* FADT, ACPI 6.5, 5.2.9. */
enum {
    FADT_BYTES = 276,
    FADT_DSDT = 40,
    FADT_PM_TMR_BLK = 76,
    FADT_PM_TMR_LEN = 91,
    FADT_IAPC_BOOT_ARCH = 109,
    FADT_FLAGS = 112,
    FADT_RESET_REG = 116,
    FADT_RESET_VALUE = 128,
    FADT_MINOR_VERSION = 131,
    FADT_X_DSDT = 140,
    FADT_X_PM_TMR_BLK = 208,
    FADT_SLEEP_CONTROL_REG = 244,
    FADT_SLEEP_STATUS_REG = 256,
    FADT_HYPERVISOR_ID = 268,
};
#define IAPC_VGA_NOT_PRESENT BIT(2)
#define FADT_WBINVD BIT(0)
#define FADT_PWR_BUTTON BIT(4) /* set: no fixed-hardware button */
#define FADT_SLP_BUTTON BIT(5)
#define FADT_TMR_VAL_EXT BIT(8) /* the PM timer has 32 bits */
#define FADT_RESET_REG_SUP BIT(10)
#define FADT_HW_REDUCED_ACPI BIT(20)

#define GAS_SYSTEM_IO 1
#define GAS_ACCESS_BYTE 1
#define GAS_ACCESS_DWORD 3

/* MADT, ACPI 6.5, 5.2.12. */
#define MADT_LOCAL_APIC 0
#define MADT_IO_APIC 1
#define MADT_SOURCE_OVERRIDE 2
#define MADT_LOCAL_APIC_NMI 4
#define MADT_CPU_ENABLED BIT(0)
#define MADT_EDGE_HIGH 0x5 /* MPS INTI flags */
#define MADT_ALL_CPUS 0xff
#define NMI_LINT 1
#define APIC_ID_MAX 254 /* 255 is the broadcast id */

/** field_width() - bits that number @n things. */
static unsigned field_width(uint32_t n)
{
    return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

uint32_t cpu_apic_id(const struct cpu_layout *cpus, uint32_t index)
{
    const uint32_t counts[] = {cpus->threads_per_core, cpus->cores_per_die, cpus->dies_per_package};
    uint64_t id = 0;
    unsigned shift = 0;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        uint32_t count = MAX(counts[i], 1u);
        id |= (uint64_t)(index % count) << MIN(shift, 63u);
        index /= count;
        shift += field_width(count);
    }
    id |= (uint64_t)index << MIN(shift, 63u);
    return (uint32_t)MIN(id, (uint64_t)UINT32_MAX);
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

size_t acpi_table_begin(struct buf *out, const char *signature, uint8_t revision,
                        const char *table_id)
{
    buf_align(out, ACPI_TABLE_ALIGN);
    size_t start = out->len;
    uint8_t *header = buf_extend(out, TABLE_HEADER_BYTES);
    if (!header)
        return start;
    memcpy(header, signature, 4);
    header[8] = revision;
    memcpy(header + 10, OEM_ID, 6);
    memset(header + 16, ' ', 8);
    memcpy(header + 16, table_id, MIN(strlen(table_id), (size_t)8));
    store_le32(header + 24, 1);     /* OEM revision */
    memcpy(header + 28, "HUSK", 4); /* creator */
    store_le32(header + 32, 1);     /* its revision */
    return start;
}

void acpi_table_end(struct buf *out, size_t start)
{
    if (buf_failed(out))
        return;
    uint8_t *table = out->data + start;
    size_t len = out->len - start;
    store_le32(table + TABLE_LENGTH, (uint32_t)len);
    table[TABLE_CHECKSUM] = 0;
    table[TABLE_CHECKSUM] = checksum(table, len);
}

/** store_port() - a Generic Address Structure (ACPI 6.5, 5.2.3.2) for an I/O port. */
static void store_port(uint8_t *to, uint16_t port, uint8_t bits, uint8_t access)
{
    to[0] = GAS_SYSTEM_IO;
    to[1] = bits;
    to[2] = 0;
    to[3] = access;
    store_le64(to + 4, port);
}

/** add_fadt() - Linux reads the PM timer's place here on hardware-reduced platforms too, from the extended field. */
static void add_fadt(struct buf *out, const struct acpi_in *in, uint64_t dsdt)
{
    uint16_t sleep = in->q35 ? LAYOUT_PORT_SLEEP_Q35 : LAYOUT_PORT_SLEEP;
    size_t start = acpi_table_begin(out, "FACP", 6, "HUSKFACP");
    if (!buf_extend(out, FADT_BYTES - TABLE_HEADER_BYTES))
        return;
    uint8_t *fadt = out->data + start;
    store_le32(fadt + FADT_DSDT, (uint32_t)dsdt);
    store_le32(fadt + FADT_PM_TMR_BLK, LAYOUT_PORT_PM_TIMER);
    fadt[FADT_PM_TMR_LEN] = 4;
    store_le16(fadt + FADT_IAPC_BOOT_ARCH, IAPC_VGA_NOT_PRESENT);
    store_le32(fadt + FADT_FLAGS, FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
                                      FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP | FADT_HW_REDUCED_ACPI);
    store_port(fadt + FADT_RESET_REG, sleep, 8, GAS_ACCESS_BYTE);
    fadt[FADT_RESET_VALUE] = LAYOUT_SLEEP_RESET;
    fadt[FADT_MINOR_VERSION] = 3;
    store_le64(fadt + FADT_X_DSDT, dsdt);
    store_port(fadt + FADT_X_PM_TMR_BLK, LAYOUT_PORT_PM_TIMER, 32, GAS_ACCESS_DWORD);
    store_port(fadt + FADT_SLEEP_CONTROL_REG, sleep, 8, GAS_ACCESS_BYTE);
    store_port(fadt + FADT_SLEEP_STATUS_REG, sleep, 8, GAS_ACCESS_BYTE);
    memcpy(fadt + FADT_HYPERVISOR_ID, "HUSK    ", 8);
    acpi_table_end(out, start);
}

static void add_source_override(struct buf *out, uint8_t source, uint32_t gsi)
{
    buf_append_u8(out, MADT_SOURCE_OVERRIDE);
    buf_append_u8(out, 10);
    buf_append_u8(out, 0); /* ISA */
    buf_append_u8(out, source);
    buf_append_le32(out, gsi);
    buf_append_le16(out, MADT_EDGE_HIGH);
}

/* No 8259s: the PCAT_COMPAT flag is clear. */
void acpi_madt(struct buf *out, const struct acpi_in *in)
{
    size_t start = acpi_table_begin(out, "APIC", 5, "HUSKAPIC");
    buf_append_le32(out, (uint32_t)LAYOUT_LAPIC);
    buf_append_le32(out, 0); /* flags */
    for (uint32_t i = 0; i < in->cpus.max; i++) {
        buf_append_u8(out, MADT_LOCAL_APIC);
        buf_append_u8(out, 8);
        buf_append_u8(out, (uint8_t)i); /* _UID of the processor's device */
        buf_append_u8(out, (uint8_t)cpu_apic_id(&in->cpus, i));
        buf_append_le32(out, i < in->cpus.boot ? MADT_CPU_ENABLED : 0);
    }
    buf_append_u8(out, MADT_IO_APIC);
    buf_append_u8(out, 12);
    buf_append_u8(out, 0); /* id */
    buf_append_u8(out, 0);
    buf_append_le32(out, (uint32_t)LAYOUT_IOAPIC);
    buf_append_le32(out, 0); /* GSI base */
    if (in->serial)
        add_source_override(out, LAYOUT_GSI_SERIAL, LAYOUT_GSI_SERIAL);
    buf_append_u8(out, MADT_LOCAL_APIC_NMI);
    buf_append_u8(out, 6);
    buf_append_u8(out, MADT_ALL_CPUS);
    buf_append_le16(out, MADT_EDGE_HIGH);
    buf_append_u8(out, NMI_LINT);
    acpi_table_end(out, start);
}

static void add_mcfg(struct buf *out, const struct acpi_in *in)
{
    size_t start = acpi_table_begin(out, "MCFG", 1, "HUSKMCFG");
    buf_append_le64(out, 0); /* reserved */
    buf_append_le64(out, in->q35 ? in->ecam : LAYOUT_ECAM);
    buf_append_le16(out, 0); /* segment */
    buf_append_u8(out, 0);   /* first and last bus */
    buf_append_u8(out, LAYOUT_ECAM_BUSES - 1);
    buf_append_le32(out, 0);
    acpi_table_end(out, start);
}

static void fill_rsdp(struct buf *out, uint64_t xsdt)
{
    if (buf_failed(out))
        return;
    uint8_t *rsdp = out->data;
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, OEM_ID, 6);
    rsdp[15] = 2; /* revision */
    store_le32(rsdp + 20, RSDP_BYTES);
    store_le64(rsdp + 24, xsdt);
    rsdp[8] = checksum(rsdp, RSDP_BYTES_REV0);
    rsdp[32] = checksum(rsdp, RSDP_BYTES);
}

int acpi_check(const struct acpi_in *in, struct error *err)
{
    if (in->cpus.boot == 0 || in->cpus.max < in->cpus.boot)
        return error_set(err, -EINVAL, "%u vCPUs at start, %u at most: these cannot be described",
                         in->cpus.boot, in->cpus.max);
    for (uint32_t i = 0; i < in->cpus.max; i++) {
        uint32_t id = cpu_apic_id(&in->cpus, i);
        if (id > APIC_ID_MAX) {
            error_set(err, -EINVAL,
                      "the CPU topology gives vCPU %u APIC id %u; the highest usable is %d", i, id,
                      APIC_ID_MAX);
            return error_hint(err, "counts that are powers of two leave no ids unused");
        }
    }
    uint64_t end;
    if (in->pci_mmio64_len && add_overflows(in->pci_mmio64, in->pci_mmio64_len - 1, &end))
        return error_set(err, -EINVAL,
                         "the 64-bit PCI window at 0x%" PRIx64
                         " runs past the end of the address space",
                         in->pci_mmio64);
    return 0;
}

int acpi_build(struct buf *out, uint64_t base, const struct acpi_in *in, struct error *err)
{
    int ret = acpi_check(in, err);
    if (ret < 0)
        return ret;
    /* The RSDP comes first, as firmware is asked to find it at @base; the XSDT last, when all addresses are known. */
    buf_extend(out, RSDP_BYTES);
    buf_align(out, ACPI_TABLE_ALIGN);
    uint64_t dsdt = base + out->len;
    acpi_dsdt(out, in);
    uint64_t tables[3];
    buf_align(out, ACPI_TABLE_ALIGN);
    tables[0] = base + out->len;
    add_fadt(out, in, dsdt);
    buf_align(out, ACPI_TABLE_ALIGN);
    tables[1] = base + out->len;
    acpi_madt(out, in);
    buf_align(out, ACPI_TABLE_ALIGN);
    tables[2] = base + out->len;
    add_mcfg(out, in);
    size_t xsdt = acpi_table_begin(out, "XSDT", 1, "HUSKXSDT");
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        buf_append_le64(out, tables[i]);
    acpi_table_end(out, xsdt);
    fill_rsdp(out, base + xsdt);
    if (buf_failed(out))
        return error_set(err, -ENOMEM, "out of memory while making the ACPI tables");
    if (out->len > LAYOUT_ACPI_MAX)
        return error_set(err, -E2BIG, "the ACPI tables take %zu bytes, more than the %d set aside",
                         out->len, LAYOUT_ACPI_MAX);
    return 0;
}
