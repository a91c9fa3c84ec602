/* The registers of a vCPU as KVM keeps them before a launch ends, and the VMSA that it makes of them. */
#ifndef HUSK_SIM_VCPU_STATE_H
#define HUSK_SIM_VCPU_STATE_H

#include "sim/rules.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMSA_BYTES 4096
#define VMSA_GPA 0xfffffffff000ull /* KVM's INITIAL_VMSA_GPA, bits 51:0 */

/* MSRs that are part of a VMSA. */
enum vcpu_msr {
    VCPU_MSR_STAR,
    VCPU_MSR_LSTAR,
    VCPU_MSR_CSTAR,
    VCPU_MSR_SFMASK,
    VCPU_MSR_KERNEL_GS_BASE,
    VCPU_MSR_SYSENTER_CS,
    VCPU_MSR_SYSENTER_ESP,
    VCPU_MSR_SYSENTER_EIP,
    VCPU_MSR_PAT,
    VCPU_MSR_DEBUGCTL,
    VCPU_MSR_SPEC_CTRL,
    VCPU_MSR_XSS,
    VCPU_MSR_COUNT
};

struct vcpu_state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debugregs;
    uint64_t xcr0;
    uint64_t msr[VCPU_MSR_COUNT];
    uint8_t fxsave[512];
    uint8_t ymm[256]; /* upper halves; zeros unless KVM_SET_XSAVE brought them */
    uint32_t pkru;
    uint32_t guest_debug; /* control of the last KVM_SET_GUEST_DEBUG */
};

/** vcpu_state_reset() - as KVM leaves a new vCPU (kvm_vcpu_reset, init_vmcb). */
void vcpu_state_reset(struct vcpu_state *state);

/**
 * vcpu_state_set() - what a register ioctl does to the state.
 * @request: the ioctl's number.
 * @data: its structure, @len bytes; entries of lists behind their header.
 * @rule: set to the rule that was broken, RULE_COUNT if none.
 *
 * An ioctl that is not part of the state changes nothing and succeeds.
 *
 * Return: 0, the number of MSRs for KVM_SET_MSRS, or -errno as the kernel gives it.
 */
int vcpu_state_set(struct vcpu_state *state, unsigned long request, const void *data, size_t len,
                   enum rule_id *rule);

/**
 * vcpu_state_get() - the answer of a register ioctl.
 * @data: the structure, @len bytes, as the KVM below answers it (zeros if there is none); lists bring their header and
 *        entries along.
 *
 * Return: 0 or the number of MSRs, or -ENOTTY for an ioctl that is not known.
 */
int vcpu_state_get(const struct vcpu_state *state, unsigned long request, void *data, size_t len);

/**
 * vcpu_state_vmsa() - the page that KVM hands to the firmware (sev_es_sync_vmsa).
 * @features: SEV_FEATURES, SNP_ACTIVE included.
 * @keep_cd_nw: the quirk KVM_X86_QUIRK_CD_NW_CLEARED is off.
 */
void vcpu_state_vmsa(const struct vcpu_state *state, uint64_t features, bool keep_cd_nw,
                     uint8_t page[VMSA_BYTES]);

#endif
