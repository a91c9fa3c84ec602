/* What the files that make up acpi_build() share. */
#ifndef HUSK_X86_ACPI_INTERNAL_H
#define HUSK_X86_ACPI_INTERNAL_H

#include "x86/tables.h"

/* Where a table may start. */
#define ACPI_TABLE_ALIGN 16

/** acpi_table_begin() - append a table's header; returns where the table starts in @out.
 * @signature, @table_id: four and up to eight characters.
 */
size_t acpi_table_begin(struct buf *out, const char *signature, uint8_t revision,
                        const char *table_id);

/** acpi_table_end() - fill in length and checksum of the table that starts at @start and ends where @out does. */
void acpi_table_end(struct buf *out, size_t start);

/** acpi_check() - whether @in can be described. 0, or -EINVAL. */
int acpi_check(const struct acpi_in *in, struct error *err);

/** acpi_madt() - append the MADT: processors and interrupt controllers. */
void acpi_madt(struct buf *out, const struct acpi_in *in);

/** acpi_dsdt() - append the DSDT: what firmware would tell about the platform's devices. */
void acpi_dsdt(struct buf *out, const struct acpi_in *in);

#endif
