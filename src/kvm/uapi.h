/*
 * KVM's user interface, with what the headers of Debian 12 (Linux 6.1) lack. Numbers and layouts:
 * Documentation/virt/kvm/api.rst.
 */
#ifndef HUSK_KVM_UAPI_H
#define HUSK_KVM_UAPI_H

#include <linux/kvm.h>
#include <linux/types.h>

#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2 231

struct kvm_userspace_memory_region2 {
    __u32 slot;
    __u32 flags;
    __u64 guest_phys_addr;
    __u64 memory_size;
    __u64 userspace_addr;
    __u64 guest_memfd_offset;
    __u32 guest_memfd;
    __u32 pad1;
    __u64 pad2[14];
};

#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

_Static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "api.rst 4.140");

#endif
