/*
 * Memory of a guest whose pages are private or shared (SEV-SNP, software-protected VMs). Each region and window has a
 * guest_memfd for its private half beside the shared one; KVM's attributes say which half a page is. The guest asks for
 * conversions by KVM_HC_MAP_GPA_RANGE or by touching a page the other way (KVM_EXIT_MEMORY_FAULT); both come here, and
 * the half that is no longer used goes back to the host.
 */
#ifndef HUSK_MEMORY_PRIVATE_H
#define HUSK_MEMORY_PRIVATE_H

#include "base/error.h"
#include "kvm/kvm.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

/* Why pages are converted. */
enum memory_cause {
    MEMORY_AT_LAUNCH,    /* by husk, before the guest runs; nothing is given back */
    MEMORY_BY_HYPERCALL, /* KVM_HC_MAP_GPA_RANGE */
    MEMORY_BY_FAULT,     /* KVM_EXIT_MEMORY_FAULT */
};

/* A vCPU that faults on one page so often, though the page is as it asks, will never get on. */
#define MEMORY_FAULT_LIMIT 100

struct memory_counters {
    uint64_t private_bytes, shared_bytes; /* of the guest's addresses */
    uint64_t to_private, to_shared;       /* requests of the guest that changed something */
    uint64_t unchanged;                   /* requests that found all as asked */
    uint64_t punches, punched_bytes;      /* halves given back to the host */
    uint64_t punch_failures;              /* halves that the host did not take back */
};

struct private_memory;

/**
 * private_memory_create() - register @memory's regions and windows with KVM, each with a guest_memfd of its size, and make
 * all of it private: one attribute ioctl a slot. Slots are numbered as memory_register() does, in its place. No slot is
 * read-only: KVM refuses that where memory can be private.
 * @memory, @kvm: outlive the result. @vm_fd: of a VM whose type has private memory.
 * @n_vcpus: that may ask for conversions, by index.
 *
 * Return: it, or NULL with @err filled: -ENOTSUP naming the capability that KVM lacks, or what an ioctl said.
 */
struct private_memory *private_memory_create(const struct guest_memory *memory,
                                             const struct kvm *kvm, int vm_fd, uint32_t n_vcpus,
                                             struct error *err);

/** private_memory_free() - closes the guest_memfds, which keep the VM alive; NULL is allowed. */
void private_memory_free(struct private_memory *private);

/**
 * memory_convert() - make @len bytes at @gpa private (@to_private) or shared, as @cause asks on vCPU @vcpu; from any
 * thread. What is as asked already is left alone, and is no error: another vCPU may have been faster.
 *
 * Return: 0, the vCPU may go on. -EINVAL: not whole pages, none, or beyond the end of addresses (nothing was done; a
 * hypercall is answered with it). Else the guest must be stopped, and @err says why: -ENXIO if not all of it is
 * memory, -ELOOP after MEMORY_FAULT_LIMIT faults without a change, or what KVM said.
 */
int memory_convert(struct private_memory *private, uint64_t gpa, uint64_t len, bool to_private,
                   enum memory_cause cause, uint32_t vcpu, struct error *err);

/**
 * memory_drop_shared() - give the shared half of @len bytes at @gpa back to the host: whole pages, all memory, which are
 * private and whose contents husk no longer needs.
 */
void memory_drop_shared(struct private_memory *private, uint64_t gpa, uint64_t len);

/**
 * memory_prefault_private() - allocate all pages that are private now, through @vcpu, which must not run meanwhile; of
 * SEV-SNP after LAUNCH_FINISH. A blocked signal that ends husk ends it too.
 *
 * Return: 0; -ENOTSUP if this KVM cannot; -EINTR after a signal; what KVM said.
 */
int memory_prefault_private(struct private_memory *private, const struct kvm_vcpu *vcpu,
                            struct error *err);

/** memory_count() - the counters as they are now; from any thread. */
void memory_count(struct private_memory *private, struct memory_counters *counters);

#endif
