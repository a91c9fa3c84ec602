#include "x86/acpi_loader.h"

#include "base/bytes.h"
#include "x86/acpi_internal.h"

#include <errno.h>

#define COMMAND_BYTES 128
#define FILE_BYTES 56

enum command { COMMAND_ALLOCATE = 1, COMMAND_ADD_POINTER = 2, COMMAND_ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

#define RSDP_ALIGN 16
#define TABLES_ALIGN 64

/* Offsets in the tables that matter here: ACPI 6.5, 5.2.5.3, 5.2.6, 5.2.9. */
#define TABLE_SIGNATURE_BYTES 4
#define TABLE_LENGTH 4
#define TABLE_CHECKSUM 9
#define TABLE_HEADER_BYTES 36
#define RSDP_BYTES 36
#define RSDP_BYTES_REV0 20
#define RSDP_CHECKSUM 8
#define RSDP_XSDT 24
#define RSDP_EXTENDED_CHECKSUM 32
#define FADT_DSDT 40
#define FADT_X_DSDT 140

void acpi_blobs_release(struct acpi_blobs *blobs)
{
    buf_release(&blobs->rsdp);
    buf_release(&blobs->tables);
    buf_release(&blobs->loader);
}

/** begin_command() - a command of @type about @file; returns where its other fields go, NULL if memory ran out. */
static uint8_t *begin_command(struct buf *loader, enum command type, const char *file)
{
    uint8_t *command = buf_extend(loader, COMMAND_BYTES);
    if (!command)
        return NULL;
    store_le32(command, type);
    memcpy(command + 4, file, strlen(file));
    return command + 4 + FILE_BYTES;
}

static void allocate(struct buf *loader, const char *file, uint32_t align, enum zone zone)
{
    uint8_t *fields = begin_command(loader, COMMAND_ALLOCATE, file);
    if (!fields)
        return;
    store_le32(fields, align);
    fields[4] = (uint8_t)zone;
}

/** add_pointer() - the @size bytes at @offset of @file point into the tables. */
static void add_pointer(struct buf *loader, const char *file, size_t offset, uint8_t size)
{
    uint8_t *fields = begin_command(loader, COMMAND_ADD_POINTER, file);
    if (!fields)
        return;
    memcpy(fields, ACPI_FILE_TABLES, strlen(ACPI_FILE_TABLES));
    store_le32(fields + FILE_BYTES, (uint32_t)offset);
    fields[FILE_BYTES + 4] = size;
}

/** add_checksum() - the byte at @at of @blob, which is cleared, sums up @len bytes from @start to 0. */
static void add_checksum(struct buf *loader, const char *file, struct buf *blob, size_t at,
                         size_t start, size_t len)
{
    uint8_t *fields = begin_command(loader, COMMAND_ADD_CHECKSUM, file);
    if (!fields)
        return;
    store_le32(fields, (uint32_t)at);
    store_le32(fields + 4, (uint32_t)start);
    store_le32(fields + 8, (uint32_t)len);
    blob->data[at] = 0;
}

/** relocate_table() - the pointers of the table at @start, then its checksum. */
static void relocate_table(struct acpi_blobs *blobs, size_t start, size_t len)
{
    const uint8_t *table = blobs->tables.data + start;
    if (memcmp(table, "XSDT", TABLE_SIGNATURE_BYTES) == 0) {
        for (size_t at = TABLE_HEADER_BYTES; at + 8 <= len; at += 8)
            add_pointer(&blobs->loader, ACPI_FILE_TABLES, start + at, 8);
    } else if (memcmp(table, "FACP", TABLE_SIGNATURE_BYTES) == 0) {
        add_pointer(&blobs->loader, ACPI_FILE_TABLES, start + FADT_DSDT, 4);
        add_pointer(&blobs->loader, ACPI_FILE_TABLES, start + FADT_X_DSDT, 8);
    }
    add_checksum(&blobs->loader, ACPI_FILE_TABLES, &blobs->tables, start + TABLE_CHECKSUM, start,
                 len);
}

/** split() - RSDP and tables of what acpi_build() made for address 0 less the RSDP's room, so that pointers fit. */
static void split(struct acpi_blobs *blobs, const struct buf *all, size_t room)
{
    buf_append(&blobs->rsdp, all->data, RSDP_BYTES);
    buf_append(&blobs->tables, all->data + room, all->len - room);
}

int acpi_blobs_build(struct acpi_blobs *blobs, const struct acpi_in *in, struct error *err)
{
    _cleanup_buf_ struct buf all = BUF_INIT;
    size_t room = align_up(RSDP_BYTES, ACPI_TABLE_ALIGN);
    int ret = acpi_build(&all, 0 - (uint64_t)room, in, err);
    if (ret < 0)
        return ret;
    split(blobs, &all, room);
    allocate(&blobs->loader, ACPI_FILE_RSDP, RSDP_ALIGN, ZONE_FSEG);
    allocate(&blobs->loader, ACPI_FILE_TABLES, TABLES_ALIGN, ZONE_HIGH);
    for (size_t at = 0; !buf_failed(&blobs->tables) && at < blobs->tables.len;) {
        size_t len = load_le32(blobs->tables.data + at + TABLE_LENGTH);
        relocate_table(blobs, at, len);
        at = align_up(at + len, ACPI_TABLE_ALIGN);
    }
    add_pointer(&blobs->loader, ACPI_FILE_RSDP, RSDP_XSDT, 8);
    if (buf_failed(&blobs->rsdp) || buf_failed(&blobs->tables))
        return error_set(err, -ENOMEM, "out of memory while making the ACPI tables");
    add_checksum(&blobs->loader, ACPI_FILE_RSDP, &blobs->rsdp, RSDP_CHECKSUM, 0, RSDP_BYTES_REV0);
    add_checksum(&blobs->loader, ACPI_FILE_RSDP, &blobs->rsdp, RSDP_EXTENDED_CHECKSUM, 0,
                 RSDP_BYTES);
    if (buf_failed(&blobs->loader))
        return error_set(err, -ENOMEM, "out of memory while making the ACPI tables' loader script");
    return 0;
}
