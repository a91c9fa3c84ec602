/*
 * ACPI tables for firmware that places them itself: two blobs and a script of 128-byte commands that says what to
 * allocate, which pointers to relocate and which checksums to make. Source: hw/acpi/bios-linker-loader.c of QEMU, the
 * only description there is. WRITE_POINTER is never used: stage0 knows no such command.
 */
#ifndef HUSK_X86_ACPI_LOADER_H
#define HUSK_X86_ACPI_LOADER_H

#include "base/buf.h"
#include "base/error.h"
#include "x86/tables.h"

/* Names of the fw_cfg items that hold them. */
#define ACPI_FILE_RSDP "etc/acpi/rsdp"
#define ACPI_FILE_TABLES "etc/acpi/tables"
#define ACPI_FILE_LOADER "etc/table-loader"

struct acpi_blobs {
    struct buf rsdp;
    struct buf tables;
    struct buf loader;
};

#define ACPI_BLOBS_INIT ((struct acpi_blobs){BUF_INIT, BUF_INIT, BUF_INIT})

/** acpi_blobs_release() - free all three. */
void acpi_blobs_release(struct acpi_blobs *blobs);

/** acpi_blobs_build() - the tables of acpi_build(), their pointers relative to the blob they point into.
 *
 * Return: as acpi_build().
 */
int acpi_blobs_build(struct acpi_blobs *blobs, const struct acpi_in *in, struct error *err);

#endif
