/* What the files of libigvm share. Nothing here leaves the library, which depends on no other part of husk. */
#ifndef HUSK_IGVM_INTERNAL_H
#define HUSK_IGVM_INTERNAL_H

#include "igvm/igvm.h"

#include "base/bytes.h"

#define IGVM_EXPORT __attribute__((visibility("default")))

#define IGVM_PLATFORMS 7 /* platform types that are defined, 0 to 6 */
#define IGVM_VLH_SIZE 8u /* type and length in front of each header */
#define IGVM_SECTIONS 3u
#define IGVM_RESULTS (1u - (uint32_t)IGVMAPI_INVALID_CCA_POLICY_COMPATIBILITY_MASK)

struct igvm_type_info {
    uint32_t type;
    uint32_t size; /* of the value */
    int mask_at;   /* offset of the compatibility mask, -1 for none */
    int data_at;   /* offset of file_offset, -1 for none */
    const char *name;
};

struct igvm_file {
    const uint8_t *data;
    size_t size;
    uint32_t version;
    uint32_t architecture;
    uint32_t page_size;
    uint32_t fixed_size; /* of the fixed header */
    uint32_t var_start, var_end;
    uint32_t *offsets; /* of each header in the file */
    uint32_t n;
    uint32_t masks[IGVM_PLATFORMS]; /* 0: the platform is not in the file */
    uint32_t declared;              /* all of them */
};

/* Where findings go. */
struct igvm_reporter {
    igvm_finding_fn *fn;
    void *opaque;
    IgvmResult first;                 /* code of the first finding that is not tolerated */
    uint32_t counts[IGVM_RESULTS][2]; /* findings by -code, and whether they are tolerated */
};

/* A part of the address space, and the header it is from. */
struct igvm_range {
    uint64_t gpa;
    uint64_t bytes;
    uint32_t header; /* index */
    uint32_t mask;
};

/* crc32.c */

/** igvm_crc32() - continue a CRC-32 (the one of zlib and Ethernet); start with 0. */
uint32_t igvm_crc32(uint32_t crc, const uint8_t *data, size_t len);

/* types.c */

/** igvm_type_info() - what is known of @type, NULL if nothing. */
const struct igvm_type_info *igvm_type_info(uint32_t type);

/** igvm_type_section() - the section @type belongs to by its number, -1 for none. */
int igvm_type_section(uint32_t type);

/* file.c */

/** igvm_at() - header @index (from 0) of @file. */
static inline struct igvm_header igvm_at(const struct igvm_file *file, uint32_t index)
{
    uint32_t at = file->offsets[index];
    return (struct igvm_header){.number = index + 1,
                                .type = load_le32(file->data + at),
                                .offset = at,
                                .length = load_le32(file->data + at + 4),
                                .payload = file->data + at + IGVM_VLH_SIZE};
}

/** igvm_data_length() - how many bytes @header's file_offset stands for; 0 if the type has no file data. */
uint64_t igvm_data_length(const struct igvm_file *file, const struct igvm_header *header);

/* report.c */

/** igvm_report() - one finding about @header (NULL: the fixed header or the file). */
void igvm_report(struct igvm_reporter *reporter, const struct igvm_header *header, IgvmResult code,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/** igvm_report_tolerated() - one that igvm_new_from_binary() does not mind. */
void igvm_report_tolerated(struct igvm_reporter *reporter, const struct igvm_header *header,
                           IgvmResult code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** igvm_report_counted() - whether a finding of @code has been counted and no more needs to be done about it. */
bool igvm_report_counted(struct igvm_reporter *reporter, IgvmResult code);

/** igvm_report_rest() - at the end: how many findings were only counted. */
void igvm_report_rest(struct igvm_reporter *reporter);

/* sort.c */

/** igvm_sort_ranges() - sort by gpa, equal ones in their order, in linear time. Returns false if memory ran out. */
bool igvm_sort_ranges(struct igvm_range *ranges, size_t n);

/* check_header.c: what can be said of one header alone. */
void igvm_check_header(const struct igvm_file *file, const struct igvm_header *header,
                       struct igvm_reporter *reporter);

/* check_context.c: what a VP context points to. */
void igvm_check_vp_context(const struct igvm_file *file, const struct igvm_header *header,
                           struct igvm_reporter *reporter);

/* check_file.c: what several headers say together. Returns false if memory ran out. */
bool igvm_check_file(const struct igvm_file *file, struct igvm_reporter *reporter);

/*
 * check_ranges.c: addresses that are given twice. Sorts @ranges by address and reports those that overlap on one
 * platform. Returns false if memory ran out.
 */
bool igvm_check_ranges(const struct igvm_file *file, struct igvm_range *ranges, size_t n,
                       IgvmResult code, struct igvm_reporter *reporter);

#endif
