/* A vCPU's first state as a VMSA, and back. */
#ifndef HUSK_LAUNCH_VCPU_VMSA_H
#define HUSK_LAUNCH_VCPU_VMSA_H

#include "launch/plan.h"
#include "snp/vmsa.h"

#include "igvm/igvm_defs.h"

/* Whose launch it is: they differ in order and in reset state. */
enum launch_vmm {
    LAUNCH_HUSK,
    LAUNCH_QEMU,
    LAUNCH_CLOUD_HYPERVISOR,
    LAUNCH_EC2,
    LAUNCH_GCE,
    LAUNCH_FILE, /* an IGVM file exactly as it is written */
};

/** vcpu_to_vmsa() - the VMSA that KVM builds and has measured for a vCPU that @vmm has given this state.
 * @features: SEV_FEATURES.
 *
 * KVM sets EFER.SVME and CR4.MCE and clears CR0.CD and NW (Linux 6.12, svm.c); Cloud Hypervisor leaves what is not
 * segment, control or general register at its reset value. EC2 and GCE build it themselves: theirs is @vcpu's state
 * as it is, with the same bits of EFER and CR4.
 */
void vcpu_to_vmsa(struct vmsa *vmsa, const struct plan_vcpu *vcpu, uint64_t features,
                  enum launch_vmm vmm);

/** vcpu_from_vmsa() - the state that @vmsa holds, as far as a vCPU can be given it. */
void vcpu_from_vmsa(struct plan_vcpu *vcpu, uint32_t index, const struct vmsa *vmsa);

/** vcpu_from_native() - the state of a native VP context; what it does not say is at its reset value. */
void vcpu_from_native(struct plan_vcpu *vcpu, uint32_t index,
                      const IgvmNativeVpContextX64 *context);

/** vcpu_firmware_reset() - real mode, about to run the instruction at @address, as firmware expects it.
 * @address: the reset vector, or where an SEV-ES guest's other processors start.
 * @rdx: the CPU signature, or what the VMM leaves there.
 */
void vcpu_firmware_reset(struct plan_vcpu *vcpu, uint32_t index, uint32_t address, uint64_t rdx,
                         enum launch_vmm vmm);

/** vmsa_difference() - the name of the first field in which the two differ; NULL if they are the same. */
const char *vmsa_difference(const struct vmsa *a, const struct vmsa *b);

#endif
