/* ACPI tables that husk's own guests do without, made for those who are handed single tables: SRAT, SLIT, PPTT. */
#include "x86/acpi_internal.h"

#include "base/bytes.h"

#include <errno.h>

/* SRAT, ACPI 6.5, 5.2.16. */
#define SRAT_PROCESSOR 0
#define SRAT_PROCESSOR_BYTES 16
#define SRAT_MEMORY 1
#define SRAT_MEMORY_BYTES 40
#define SRAT_ENABLED BIT(0)

/* SLIT, ACPI 6.5, 5.2.17: a locality is this far from itself. */
#define SLIT_LOCAL 10

/* PPTT, ACPI 6.5, 5.2.30. */
#define PPTT_PROCESSOR 0
#define PPTT_PROCESSOR_BYTES 20
#define PPTT_PACKAGE BIT(0)
#define PPTT_HAS_ID BIT(1)
#define PPTT_THREAD BIT(2)
#define PPTT_LEAF BIT(3)
#define PPTT_IDENTICAL BIT(4)

/** add_srat() - one proximity domain has all processors and all memory. */
static void add_srat(struct buf *out, const struct acpi_in *in)
{
    size_t start = acpi_table_begin(out, "SRAT", 3, "HUSKSRAT");
    buf_append_le32(out, 1); /* reserved, must be 1 */
    buf_append_le64(out, 0);
    for (uint32_t i = 0; i < in->cpus.max; i++) {
        buf_append_u8(out, SRAT_PROCESSOR);
        buf_append_u8(out, SRAT_PROCESSOR_BYTES);
        buf_append_u8(out, 0); /* domain, bits 7:0 */
        buf_append_u8(out, (uint8_t)cpu_apic_id(&in->cpus, i));
        buf_append_le32(out, SRAT_ENABLED);
        buf_append_le32(out, 0); /* SAPIC EID, domain bits 31:8 */
        buf_append_le32(out, 0); /* clock domain */
    }
    for (size_t i = 0; i < ARRAY_SIZE(in->ram); i++) {
        if (in->ram[i].len == 0)
            continue;
        buf_append_u8(out, SRAT_MEMORY);
        buf_append_u8(out, SRAT_MEMORY_BYTES);
        buf_append_le32(out, 0); /* domain */
        buf_append_le16(out, 0);
        buf_append_le64(out, in->ram[i].base);
        buf_append_le64(out, in->ram[i].len);
        buf_append_le32(out, 0);
        buf_append_le32(out, SRAT_ENABLED);
        buf_append_le64(out, 0);
    }
    acpi_table_end(out, start);
}

static void add_slit(struct buf *out)
{
    size_t start = acpi_table_begin(out, "SLIT", 1, "HUSKSLIT");
    buf_append_le64(out, 1);
    buf_append_u8(out, SLIT_LOCAL);
    acpi_table_end(out, start);
}

/** add_node() - a node of the processor hierarchy; returns its offset in the table at @start. */
static uint32_t add_node(struct buf *out, size_t start, uint32_t flags, uint32_t parent,
                         uint32_t id)
{
    uint32_t at = (uint32_t)(out->len - start);
    buf_append_u8(out, PPTT_PROCESSOR);
    buf_append_u8(out, PPTT_PROCESSOR_BYTES);
    buf_append_le16(out, 0);
    buf_append_le32(out, flags | PPTT_IDENTICAL);
    buf_append_le32(out, parent);
    buf_append_le32(out, id);
    buf_append_le32(out, 0); /* private resources */
    return at;
}

/** add_core() - a core, which is a leaf where it has one thread; otherwise its threads are. */
static void add_core(struct buf *out, size_t start, const struct cpu_layout *cpus, uint32_t parent,
                     uint32_t first)
{
    uint32_t threads = cpus->threads_per_core;
    if (threads == 1) {
        add_node(out, start, PPTT_HAS_ID | PPTT_LEAF, parent, first);
        return;
    }
    uint32_t core = add_node(out, start, 0, parent, 0);
    for (uint32_t i = 0; i < threads; i++)
        add_node(out, start, PPTT_HAS_ID | PPTT_THREAD | PPTT_LEAF, core, first + i);
}

/** add_pptt() - packages, dies where a package has several, cores, threads where a core has several. */
static void add_pptt(struct buf *out, const struct acpi_in *in)
{
    const struct cpu_layout *cpus = &in->cpus;
    size_t start = acpi_table_begin(out, "PPTT", 3, "HUSKPPTT");
    uint32_t next = 0;
    for (uint32_t p = 0; p < cpus->packages; p++) {
        uint32_t package = add_node(out, start, PPTT_PACKAGE, 0, 0);
        for (uint32_t d = 0; d < cpus->dies_per_package; d++) {
            uint32_t parent =
                cpus->dies_per_package > 1 ? add_node(out, start, 0, package, 0) : package;
            for (uint32_t c = 0; c < cpus->cores_per_die; c++) {
                add_core(out, start, cpus, parent, next);
                next += cpus->threads_per_core;
            }
        }
    }
    acpi_table_end(out, start);
}

int acpi_table_build(struct buf *out, enum acpi_table table, const struct acpi_in *in,
                     struct error *err)
{
    int ret = acpi_check(in, err);
    if (ret < 0)
        return ret;
    switch (table) {
    case ACPI_MADT:
        acpi_madt(out, in);
        break;
    case ACPI_SRAT:
        add_srat(out, in);
        break;
    case ACPI_SLIT:
        add_slit(out);
        break;
    case ACPI_PPTT:
        add_pptt(out, in);
        break;
    }
    return buf_failed(out) ? error_set(err, -ENOMEM, "out of memory while making ACPI tables") : 0;
}
