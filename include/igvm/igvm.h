/*
 * libigvm: read, check and write IGVM files.
 *
 * Two interfaces. The first is the published one of the igvm crate's C bindings (names, layouts and error codes are
 * theirs): files and buffers are handles. The second, igvm_file_* and igvm_builder_*, works in place on the caller's
 * bytes, tells of everything that is wrong with a file, and writes files.
 *
 * All functions may be called from any thread. A struct igvm_file is immutable; a struct igvm_builder belongs to one
 * thread at a time.
 */
#ifndef IGVM_H
#define IGVM_H

#include "igvm_defs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum IgvmResult {
    IGVMAPI_OK = 0,
    IGVMAPI_INVALID_PARAMETER = -1,
    IGVMAPI_NO_DATA = -2,
    IGVMAPI_INVALID_FILE = -3,
    IGVMAPI_INVALID_HANDLE = -4,
    IGVMAPI_NO_PLATFORM_HEADERS = -5,
    IGVMAPI_FILE_DATA_SECTION_TOO_LARGE = -6,
    IGVMAPI_VARIABLE_HEADER_SECTION_TOO_LARGE = -7,
    IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE = -8,
    IGVMAPI_INVALID_BINARY_PLATFORM_HEADER = -9,
    IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER = -10,
    IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER = -11,
    IGVMAPI_MULTIPLE_PLATFORM_HEADERS_WITH_SAME_ISOLATION = -12,
    IGVMAPI_INVALID_PARAMETER_AREA_INDEX = -13,
    IGVMAPI_INVALID_PLATFORM_TYPE = -14,
    IGVMAPI_NO_FREE_COMPATIBILITY_MASKS = -15,
    IGVMAPI_INVALID_FIXED_HEADER = -16,
    IGVMAPI_INVALID_BINARY_VARIABLE_HEADER_SECTION = -17,
    IGVMAPI_INVALID_CHECKSUM = -18,
    IGVMAPI_MULTIPLE_PAGE_TABLE_RELOCATION_HEADERS = -19,
    IGVMAPI_RELOCATION_REGIONS_OVERLAP = -20,
    IGVMAPI_PARAMETER_INSERT_INSIDE_PAGE_TABLE_REGION = -21,
    IGVMAPI_NO_MATCHING_VP_CONTEXT = -22,
    IGVMAPI_PLATFORM_ARCH_UNSUPPORTED = -23,
    IGVMAPI_INVALID_HEADER_ARCH = -24,
    IGVMAPI_UNSUPPORTED_PAGE_SIZE = -25,
    IGVMAPI_INVALID_FIXED_HEADER_ARCH = -26,
    IGVMAPI_MERGE_REVISION = -27,
    IGVMAPI_INVALID_CCA_POLICY_COMPATIBILITY_MASK = -28,
};
typedef int32_t IgvmResult;

/* A file or a buffer; positive. A handle that was freed is not given out again for a long time. */
typedef int32_t IgvmHandle;

enum IgvmHeaderSection {
    IGVM_HEADER_SECTION_PLATFORM = 0,
    IGVM_HEADER_SECTION_INITIALIZATION = 1,
    IGVM_HEADER_SECTION_DIRECTIVE = 2,
};
typedef uint32_t IgvmHeaderSection;

#define IGVM_X64_PAGE_SIZE 4096
#define IGVM_X64_LARGE_PAGE_SIZE 2097152
#define IGVM_X64_1GB_PAGE_SIZE 1073741824

/** igvm_new_from_binary() - read and check a file of @len bytes at @data, which is copied.
 *
 * Return: a handle to be freed with igvm_free(), or a negative IgvmResult. Headers that a loader may ignore
 * (IGVM_VHT_OPTIONAL) do not appear in what the other functions return.
 */
IgvmHandle igvm_new_from_binary(const uint8_t *data, uint32_t len);

/** igvm_free() - free a file and all its buffers. Does nothing for a wrong handle. */
void igvm_free(IgvmHandle handle);

/** igvm_header_count() - how many headers @section has, or a negative IgvmResult. */
int32_t igvm_header_count(IgvmHandle handle, IgvmHeaderSection section);

/** igvm_get_header_type() - type of the header at @index of @section, or a negative IgvmResult. */
int32_t igvm_get_header_type(IgvmHandle handle, IgvmHeaderSection section, uint32_t index);

/** igvm_get_header() - a buffer with the header: type, length, value, padding. A handle, or a negative IgvmResult. */
IgvmHandle igvm_get_header(IgvmHandle handle, IgvmHeaderSection section, uint32_t index);

/** igvm_get_header_data() - a buffer with the file data the header points to; IGVMAPI_NO_DATA if it points nowhere. */
IgvmHandle igvm_get_header_data(IgvmHandle handle, IgvmHeaderSection section, uint32_t index);

/** igvm_get_buffer() - the bytes of a buffer, valid until it or its file is freed. NULL for a wrong handle. */
const uint8_t *igvm_get_buffer(IgvmHandle igvm_handle, IgvmHandle buffer_handle);

/** igvm_get_buffer_size() - length in bytes, or IGVMAPI_INVALID_HANDLE. */
int32_t igvm_get_buffer_size(IgvmHandle igvm_handle, IgvmHandle buffer_handle);

/** igvm_free_buffer() - free a buffer. Does nothing for a wrong handle. */
void igvm_free_buffer(IgvmHandle igvm_handle, IgvmHandle buffer_handle);

/* ---- In place, with every finding ---- */

#define IGVM_FINDINGS_MAX 10000u

/* One thing that is wrong with a file. */
struct igvm_finding {
    uint32_t
        header; /* its number, counted from 1 through all sections; 0: the fixed header or the file */
    uint32_t type;   /* of that header; 0 if header is 0 */
    uint32_t offset; /* of that header in the file, in bytes */
    IgvmResult code; /* what igvm_new_from_binary() returns for it */
    bool
        tolerated; /* igvm_new_from_binary() takes the file all the same, as the published reader does */
    uint32_t more;       /* 0; in the last one of a code: how many more there were, not reported */
    const char *message; /* what is wrong; valid during the call only */
};

typedef void igvm_finding_fn(const struct igvm_finding *finding, void *opaque);

struct igvm_header {
    uint32_t number; /* from 1, through all sections */
    uint32_t type;
    uint32_t offset; /* of the header in the file */
    uint32_t length; /* of payload */
    const uint8_t *payload;
};

struct igvm_file;

/** igvm_checksum() - what the checksum of a file must be; 0 if its headers do not lie in it. */
uint32_t igvm_checksum(const void *data, size_t size);

/** igvm_file_open() - check a file in place and index it.
 * @data, @size: the file; must stay until igvm_file_close().
 * @report: called for each finding, in the file's order, then for those that concern several headers; may be NULL.
 *          Of each code the first IGVM_FINDINGS_MAX are reported, and at the end how many more there were.
 * @opaque: handed to @report.
 * @file: the result; NULL if anything was found that is not tolerated.
 *
 * Takes time linear in @size but for sorting addresses, and memory of at most a small multiple of @size.
 *
 * Return: IGVMAPI_OK, the code of the first finding, or IGVMAPI_INVALID_PARAMETER; -ENOMEM's place is taken by
 * IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE.
 */
IgvmResult igvm_file_open(const void *data, size_t size, igvm_finding_fn *report, void *opaque,
                          struct igvm_file **file);

/** igvm_file_close() - free @file; NULL is allowed. */
void igvm_file_close(struct igvm_file *file);

uint32_t igvm_file_version(const struct igvm_file *file);
IgvmArchitecture igvm_file_architecture(const struct igvm_file *file);
uint32_t igvm_file_page_size(const struct igvm_file *file);

/** igvm_file_count() - number of headers, optional ones included. */
uint32_t igvm_file_count(const struct igvm_file *file);

/** igvm_file_header() - header @number, 1 to igvm_file_count(). Returns false if there is none. */
bool igvm_file_header(const struct igvm_file *file, uint32_t number, struct igvm_header *header);

/** igvm_file_data() - the file data that @header points to. Returns NULL and *len 0 if it has none. */
const uint8_t *igvm_file_data(const struct igvm_file *file, const struct igvm_header *header,
                              uint64_t *len);

/** igvm_file_platform_mask() - the compatibility mask of a platform, 0 if the file does not have it. */
uint32_t igvm_file_platform_mask(const struct igvm_file *file, IgvmPlatformType platform);

/** igvm_header_mask() - @header's compatibility mask; all ones for a type that has none. */
uint32_t igvm_header_mask(const struct igvm_header *header);

/** igvm_next() - the next header that a loader for @mask has to act on.
 * @header: number 0 to start with, then what was returned before.
 *
 * Platform headers and headers that may be ignored are left out. Return: false at the end.
 */
bool igvm_next(const struct igvm_file *file, uint32_t mask, struct igvm_header *header);

/** igvm_type_name() - "PAGE_DATA" for IGVM_VHT_PAGE_DATA; "unknown" for others. */
const char *igvm_type_name(uint32_t type);

/** igvm_platform_name() - "SEV_SNP" for IGVM_PLATFORM_TYPE_SEV_SNP; "unknown" for others. */
const char *igvm_platform_name(IgvmPlatformType platform);

/** igvm_type_size() - length of the header's value in bytes, 0 for an unknown type. */
uint32_t igvm_type_size(uint32_t type);

/** igvm_type_offset_field() - where in the value its 32-bit file_offset stands, or -1 if the type has no file data. */
int igvm_type_offset_field(uint32_t type);

/* ---- Writing ---- */

struct igvm_builder;

/** igvm_builder_new() - an empty file. @version: 1 or 2; @architecture: X64 for version 1. NULL if out of memory. */
struct igvm_builder *igvm_builder_new(uint32_t version, IgvmArchitecture architecture);

/** igvm_builder_from() - @file as it is, to be changed or written again. NULL if out of memory. */
struct igvm_builder *igvm_builder_from(const struct igvm_file *file);

/** igvm_builder_free() - free @builder; NULL is allowed. */
void igvm_builder_free(struct igvm_builder *builder);

/** igvm_builder_add() - a header at the end of its section.
 * @payload, @length: its value; copied, file_offset is filled in.
 * @data, @data_len: its file data; NULL for none. Copied. Equal data of the same length is stored once.
 *
 * Return: the new header's number, or a negative IgvmResult. Numbers of later headers grow by one.
 */
int64_t igvm_builder_add(struct igvm_builder *builder, uint32_t type, const void *payload,
                         uint32_t length, const void *data, uint32_t data_len);

/** igvm_builder_payload() - the value of header @number, to be changed in place; NULL if there is none. */
uint8_t *igvm_builder_payload(struct igvm_builder *builder, uint32_t number);

/** igvm_builder_remove() - drop header @number; its file data stays. */
IgvmResult igvm_builder_remove(struct igvm_builder *builder, uint32_t number);

/** igvm_builder_write() - the file's bytes, in memory to be freed with free().
 *
 * What is written is not checked: hand it to igvm_file_open() for that.
 */
IgvmResult igvm_builder_write(const struct igvm_builder *builder, uint8_t **data, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
