/*
 * The commands that launch an SEV-SNP guest (KVM_MEMORY_ENCRYPT_OP). Numbers, layouts and rules:
 * Documentation/virt/kvm/x86/amd-memory-encryption.rst and arch/x86/include/uapi/asm/kvm.h of Linux 6.12. These fill no
 * error: what went wrong is for those to say who know which page or option it was.
 */
#ifndef HUSK_KVM_SNP_H
#define HUSK_KVM_SNP_H

#include "kvm/kvm.h"

#include <stdint.h>

/* The status of a command that did not come to the firmware. */
#define KVM_SNP_NO_STATUS 0u

struct kvm_snp {
    int vm_fd;
    int sev_fd; /* /dev/sev: KVM looks its number up again while the guest runs, so it stays open */
    uint32_t status; /* what the firmware said to the last command (SNP firmware ABI, table 5) */
};

/* What KVM_X86_GRP_SEV has on /dev/kvm. */
enum kvm_sev_attribute {
    KVM_SEV_VMSA_FEATURES = 0,
    KVM_SEV_SNP_POLICY_BITS = 1,
    KVM_SEV_SNP_REQ_CERTS = 2,
};

/** kvm_sev_attribute() - bits that this KVM allows. Returns 0, or -ENXIO if it does not tell. */
int kvm_sev_attribute(int kvm_fd, enum kvm_sev_attribute which, uint64_t *bits);

/** kvm_snp_init() - make @snp's VM an SNP guest; before the first vCPU.
 * @vmsa_features: SEV_FEATURES without SNP_ACTIVE, which KVM adds.
 *
 * Return: 0 or -errno: -EBUSY if all ASIDs are in use.
 */
int kvm_snp_init(struct kvm_snp *snp, uint64_t vmsa_features);

/** kvm_snp_enable_certs() - have a guest's wish for certificates end KVM_RUN. Before the first vCPU. Returns 0 or -errno. */
int kvm_snp_enable_certs(struct kvm_snp *snp);

/* What KVM_RUN reported with KVM_EXIT_SNP_REQ_CERTS, for the VMM to change; in kvm_run's union. */
struct kvm_snp_req_certs {
    uint64_t gpa;
    uint64_t npages;
    uint64_t ret; /* 0, ENOSPC, EAGAIN or EIO */
};

/** kvm_snp_req_certs() - where @vcpu has it. */
static inline struct kvm_snp_req_certs *kvm_snp_req_certs(const struct kvm_vcpu *vcpu)
{
    return (struct kvm_snp_req_certs *)((uint8_t *)vcpu->run + offsetof(struct kvm_run, hw));
}

/** kvm_snp_start() - SNP_LAUNCH_START. @gosvw: 16 bytes, guest-OS visible workarounds. Returns 0 or -errno. */
int kvm_snp_start(struct kvm_snp *snp, uint64_t policy, const uint8_t *gosvw);

/* Pages that are still to be imported. */
struct kvm_snp_pages {
    uint64_t gpa; /* whole pages, as the others */
    void *source; /* writable: KVM puts corrected CPUID pages back */
    uint64_t len;
    uint8_t type; /* enum snp_page_type */
};

/** kvm_snp_update() - one SNP_LAUNCH_UPDATE, after which @pages is what is left; a part may be done on failure as well.
 *
 * Return: 0 or -errno; -EAGAIN and -EINTR are for trying again.
 */
int kvm_snp_update(struct kvm_snp *snp, struct kvm_snp_pages *pages);

struct kvm_snp_finish {
    const void *id_block; /* 96 bytes, NULL for none */
    const void *id_auth;  /* 4096 bytes, with @id_block */
    bool author_key;      /* @id_auth has one */
    bool vcek_disabled;
    uint8_t host_data[32];
};

/** kvm_snp_finish() - SNP_LAUNCH_FINISH; all vCPUs that exist are measured. Not to be tried again. Returns 0 or -errno. */
int kvm_snp_finish(struct kvm_snp *snp, const struct kvm_snp_finish *finish);

#endif
