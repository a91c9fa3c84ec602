/*
 * KVM's ioctls for private memory, answered in memory: it takes the place of ioctl(2) and fallocate(2) where it is linked in,
 * so that husk's own wrappers are tested with all above them. It keeps to KVM's rules: an attribute call takes whole pages,
 * a slot with a guest_memfd is not read-only, and a guest_memfd comes without FD_CLOEXEC.
 */
#ifndef HUSK_TESTS_FAKE_PRIVATE_KVM_H
#define HUSK_TESTS_FAKE_PRIVATE_KVM_H

#include "kvm/kvm.h"

#include <stdbool.h>
#include <stdint.h>

#define FAKE_PAGES 4096 /* whose attributes are kept: 16 MiB of addresses */
#define FAKE_SLOTS 16
#define FAKE_VM_FD 1000000
#define FAKE_VCPU_FD 1000001

struct fake_private_kvm {
    int missing;                /* a capability that is not there; 0: none */
    unsigned long fail_request; /* the ioctl that fails with @fail_errno, 0: none */
    int fail_errno;
    unsigned fail_after; /* after so many that did not */
    int fail_fallocate;  /* errno; 0: it works */
    bool private_page[FAKE_PAGES];
    unsigned attribute_calls, v1_calls;
    struct kvm_userspace_memory_region2 slots[FAKE_SLOTS];
    unsigned n_slots;
    uint64_t prefaulted;    /* bytes */
    uint64_t prefault_most; /* bytes that one call does at most; 0: all */
    unsigned mistakes;      /* calls that KVM would have refused */
    uint64_t enabled;       /* args[0] of KVM_CAP_EXIT_HYPERCALL */
    /* KVM_RUN: what the guest does; returns what KVM_RUN does, errno in @fail_errno. */
    int (*run)(void);
    /* KVM_MEMORY_ENCRYPT_OP with its struct kvm_sev_cmd; returns 0, or -1 with errno set. */
    int (*encrypt)(void *command);
};

extern struct fake_private_kvm fake_private_kvm;

void fake_private_kvm_reset(void);

#endif
