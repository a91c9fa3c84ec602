/* What the processor says of itself to the guest, and the model-specific registers it starts with. */
#ifndef HUSK_X86_CPUID_H
#define HUSK_X86_CPUID_H

#include "base/error.h"
#include "kvm/kvm.h"
#include "x86/tables.h"

/**
 * cpuid_supported() - the leaves that KVM can give a guest on this processor.
 *
 * Return: an allocation for the caller to free, or NULL with @err filled.
 */
struct kvm_cpuid2 *cpuid_supported(const struct kvm *kvm, struct error *err);

/**
 * cpuid_common() - @supported as every vCPU sees it: hypervisor bit, TSC-deadline timer, topology and cache sharing.
 * @tsc_deadline: whether KVM emulates the TSC-deadline timer.
 *
 * Return: a new allocation for the caller to free, NULL if memory ran out.
 */
struct kvm_cpuid2 *cpuid_common(const struct kvm_cpuid2 *supported, const struct cpu_layout *cpus,
                                bool tsc_deadline);

/** cpuid_personalize() - change @cpuid, made by cpuid_common(), to the fields of the vCPU with APIC id @apic_id. */
void cpuid_personalize(struct kvm_cpuid2 *cpuid, const struct cpu_layout *cpus, uint32_t apic_id);

/**
 * cpuid_encrypt() - say in @cpuid, made by cpuid_common(), that memory can be encrypted by SEV-SNP, and by which bit of an
 * address, as this processor has it.
 */
void cpuid_encrypt(struct kvm_cpuid2 *cpuid);

/** cpuid_set() - give @cpuid to vCPU @index. */
int cpuid_set(const struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, uint32_t index,
              struct error *err);

/**
 * msr_set_boot() - the registers that firmware would have set up: memory type write-back, fast strings.
 *
 * A register that KVM refuses is logged by name, once, and left as it is.
 */
int msr_set_boot(const struct kvm_vcpu *vcpu, uint32_t index, struct error *err);

#endif
