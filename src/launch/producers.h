/* Where plans of isolated guests come from: an IGVM file, or firmware that describes itself. */
#ifndef HUSK_LAUNCH_PRODUCERS_H
#define HUSK_LAUNCH_PRODUCERS_H

#include "launch/plan.h"
#include "launch/vcpu_vmsa.h"
#include "snp/kernel_hashes.h"

#include <stdbool.h>
#include <stdint.h>

/** launch_warn_fn - something the user should know, as one sentence. */
typedef void launch_warn_fn(const char *text, void *opaque);

struct launch_options {
    enum launch_vmm vmm;
    enum plan_platform platform; /* with any_platform: the strongest the input has */
    bool any_platform;
    bool
        ordinary; /* nothing isolates the guest: an IGVM file's native platform is as good, and nothing is measured */
    uint32_t vcpus;
    bool
        has_signature; /* cpu_signature is to be in RDX of processors without a state of their own */
    uint32_t cpu_signature;
    uint64_t vmsa_features; /* for firmware; 0: SNP_ACTIVE alone, or none for the other platforms */
    const uint8_t *hashes;  /* KERNEL_HASHES_BYTES to be placed where the firmware says, in an
        * IGVM file by LAUNCH_HUSK if there are none; NULL: none */
    uint64_t hashes_gpa;    /* where they go; 0: where the firmware looks for them */
    bool hashes_replace;    /* those that an IGVM file has there */
    bool to_run;          /* refuse what a guest started here would not get, instead of a warning */
    launch_warn_fn *warn; /* may be NULL */
    void *opaque;
};

/** plan_from_igvm() - the plan of an IGVM file for one of its platforms.
 *
 * Runs are in directive order, for LAUNCH_QEMU in the order it imports them; neighbours of one kind are joined. Headers of other platforms are left out. vCPUs that
 * have no context keep the reset state.
 *
 * Return: 0, -EINVAL for a file that is not valid or lacks the platform, -ENOTSUP for what no loader here can do,
 * -errno. Of a header at fault @err has number and type.
 */
int plan_from_igvm(struct plan *plan, const char *path, const struct launch_options *options,
                   struct error *err);

/** plan_from_firmware() - the plan of a firmware image, in the order options->vmm imports it.
 *
 * QEMU: the image, then the SEV metadata's sections in the firmware's order, the kernel-hash page among them. EC2
 * imports the CPUID page last. For SEV and SEV-ES only image and hash table are measured.
 */
int plan_from_firmware(struct plan *plan, const char *path, const struct launch_options *options,
                       struct error *err);

/** firmware_takes_hashes() - whether the image at @path has a place for kernel hashes, and so refuses a kernel without them.
 *
 * Return: 1, 0, or -errno with @err filled.
 */
int firmware_takes_hashes(const char *path, struct error *err);

/** launch_vmm_name() - "qemu" and so on, as options spell it. */
const char *launch_vmm_name(enum launch_vmm vmm);

#endif
