/*
 * What a firmware image says of itself: the GUIDed table below the reset vector (OVMF, stage0), the SEV metadata it
 * points to, and the table of IGVM parameters.
 */
#ifndef HUSK_SNP_FIRMWARE_H
#define HUSK_SNP_FIRMWARE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIRMWARE_SECTIONS_MAX 64
#define FIRMWARE_END 0x100000000ULL         /* an image ends at 4 GiB */
#define FIRMWARE_BYTES_MAX (64u << 20)      /* no image is larger */
#define FIRMWARE_TABLES_WITHIN (128u << 10) /* of its end, as far as is known */
#define FIRMWARE_RESET_VECTOR 0xfffffff0    /* AMD APM volume 2, 14.1.5 */

/* OvmfSevMetadata section types. */
enum firmware_section_type {
    FIRMWARE_SEC_MEM = 1,
    FIRMWARE_SECRETS = 2,
    FIRMWARE_CPUID = 3,
    FIRMWARE_SVSM_CAA = 4,
    FIRMWARE_KERNEL_HASHES = 0x10,
};

struct firmware_section {
    uint32_t gpa, len; /* whole pages */
    uint32_t type;     /* enum firmware_section_type */
};

struct firmware {
    const uint8_t *data; /* the image, as handed in */
    size_t size;
    uint64_t gpa;        /* where it starts in guest memory */
    uint32_t ap_address; /* where the other processors of an SEV-ES guest start; 0: not said */
    uint32_t hashes_gpa, hashes_len; /* the kernel-hash table; len 0: not said */
    bool has_metadata;
    struct firmware_section sections[FIRMWARE_SECTIONS_MAX];
    size_t n_sections;
    bool has_igvm; /* the four numbers below are set */
    uint32_t parameter_gpa, parameter_len;
    uint32_t memory_map_offset, vp_count_offset; /* in the parameter area */
};

/** firmware_read() - fill @firmware from an image.
 * @data, @size: the image; kept by reference.
 *
 * An image without tables is fine: it has no metadata. Return: 0, or -EINVAL if it cannot be an image (empty, over
 * 64 MiB, not whole pages) or its tables contradict themselves.
 */
int firmware_read(struct firmware *firmware, const void *data, size_t size, struct error *err);

/** firmware_section_name() - "SEC_MEM" and so on. */
const char *firmware_section_name(uint32_t type);

#endif
