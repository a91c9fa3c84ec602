/* The sink that needs no machine: what the secure processor will have measured when a plan has been launched. */
#ifndef HUSK_LAUNCH_DIGEST_SINK_H
#define HUSK_LAUNCH_DIGEST_SINK_H

#include "launch/plan.h"
#include "launch/vcpu_vmsa.h"
#include "snp/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One page measured. */
struct digest_step {
    enum snp_page_type type;
    uint64_t gpa;
    const uint8_t *contents; /* SHA-384 of the page, NULL where it is not measured */
    const uint8_t *digest;   /* the launch digest after it */
    const char *origin;
    uint32_t directive; /* number of the IGVM header, 0 if none */
    bool vmsa;
    uint32_t vcpu; /* of a VMSA */
};

typedef void digest_step_fn(const struct digest_step *step, void *opaque);

struct digest_options {
    enum launch_vmm vmm;
    bool zero_as_normal;  /* empty pages are NORMAL pages of zeros, not ZERO pages */
    unsigned threads;     /* that hash pages; 0: as many as there are processors */
    digest_step_fn *step; /* called for each page in order (SEV-SNP only), may be NULL */
    void *opaque;
};

/** plan_launch_digest() - the launch digest of @plan.
 * @digest: 48 bytes for SEV-SNP; for SEV and SEV-ES 32 bytes, SHA-256 of all that is encrypted.
 *
 * Return: the digest's length; -EINVAL for a plan that nothing measures; -ENOENT without libcrypto; -EIO if a file
 * became shorter; -errno.
 */
int plan_launch_digest(const struct plan *plan, const struct digest_options *options,
                       uint8_t digest[SHA384_BYTES], struct error *err);

#endif
