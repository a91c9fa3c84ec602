/* IGVM files made from firmware. */
#ifndef HUSK_LAUNCH_IGVM_BUILD_H
#define HUSK_LAUNCH_IGVM_BUILD_H

#include "base/error.h"
#include "launch/plan.h"
#include "snp/id_block.h"

#include "igvm/igvm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IGVM_BUILD_PLATFORMS 4

struct igvm_build {
    enum plan_platform platforms[IGVM_BUILD_PLATFORMS]; /* in the order of their bits */
    size_t n_platforms;
    const void *firmware; /* the image */
    size_t firmware_len;
    bool buildigvm;        /* pages in the order of virt-firmware-rs' and coconut's builders */
    uint32_t vcpus;        /* that get a context */
    uint64_t policy;       /* of SEV-SNP */
    uint64_t features;     /* SEV_FEATURES; SNP_ACTIVE is added for SEV-SNP */
    uint64_t rdx;          /* at reset */
    const uint8_t *hashes; /* KERNEL_HASHES_BYTES, NULL for none */
    bool host_map;         /* parameter areas for memory map and processor count */
};

/** igvm_build_firmware() - a file for @build's platforms.
 * @data, @size: its bytes, to be freed with free().
 *
 * The same input gives the same bytes. Return: 0; -EINVAL if the firmware lacks what a platform needs; -errno.
 */
int igvm_build_firmware(const struct igvm_build *build, uint8_t **data, size_t *size,
                        struct error *err);

/** igvm_add_id_block() - put an ID block for platforms @mask into @builder. 0 or -ENOMEM. */
int igvm_add_id_block(struct igvm_builder *builder, uint32_t mask, const struct snp_id_block *block,
                      const struct snp_id_auth *auth, struct error *err);

#endif
