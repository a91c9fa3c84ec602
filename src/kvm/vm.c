#include "kvm/kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>

int kvm_set_memory(const struct kvm *kvm, int vm_fd, const struct kvm_memory *memory,
                   struct error *err)
{
    if (memory->readonly && !kvm->readonly_memory)
        return error_set(err, -ENOTSUP, "this KVM has no read-only memory (KVM_CAP_READONLY_MEM)");
    if (memory->has_private && !kvm->memory_region2)
        return error_set(err, -ENOTSUP, "this KVM has no private memory (KVM_CAP_USER_MEMORY2)");
    uint32_t flags = (memory->readonly ? (uint32_t)KVM_MEM_READONLY : 0) |
                     (memory->has_private ? (uint32_t)KVM_MEM_GUEST_MEMFD : 0);
    int ret;
    if (kvm->memory_region2) {
        struct kvm_userspace_memory_region2 region = {
            .slot = memory->slot,
            .flags = flags,
            .guest_phys_addr = memory->gpa,
            .memory_size = memory->len,
            .userspace_addr = (uintptr_t)memory->hva,
            .guest_memfd = memory->has_private ? (uint32_t)memory->guest_memfd : 0,
        };
        ret = ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &region);
    } else {
        struct kvm_userspace_memory_region region = {
            .slot = memory->slot,
            .flags = flags,
            .guest_phys_addr = memory->gpa,
            .memory_size = memory->len,
            .userspace_addr = (uintptr_t)memory->hva,
        };
        ret = ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
    }
    if (ret < 0)
        return error_set_errno(
            err, -errno, "KVM refused 0x%" PRIx64 " bytes of %s at 0x%" PRIx64 " (slot %u)",
            memory->len, memory->readonly ? "ROM" : "RAM", memory->gpa, memory->slot);
    return 0;
}

int kvm_set_identity_map(int vm_fd, uint64_t identity_map, uint64_t tss, struct error *err)
{
    if (ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
        ioctl(vm_fd, KVM_SET_TSS_ADDR, (unsigned long)tss) < 0)
        return error_set_errno(err, -errno, "KVM refused the place of its real-mode pages");
    return 0;
}

int kvm_split_irqchip(int vm_fd, unsigned pins, struct error *err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {pins}};
    if (ioctl(vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set_errno(err, -errno, "KVM refused a split interrupt controller");
    return 0;
}

int kvm_signal_msi(int vm_fd, uint64_t addr, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)addr,
        .address_hi = (uint32_t)(addr >> 32),
        .data = data,
    };
    return ioctl(vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

int kvm_irqfd(int vm_fd, int event_fd, uint32_t gsi, bool assign, struct error *err)
{
    struct kvm_irqfd irqfd = {
        .fd = (uint32_t)event_fd,
        .gsi = gsi,
        .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
    };
    if (ioctl(vm_fd, KVM_IRQFD, &irqfd) < 0)
        return error_set_errno(err, -errno, "KVM refused to %s interrupt %u %s an eventfd",
                               assign ? "tie" : "untie", gsi, assign ? "to" : "from");
    return 0;
}

bool kvm_ioeventfd_any_width(int vm_fd)
{
    return ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
}

int kvm_ioeventfd(int vm_fd, int event_fd, const struct kvm_ioeventfd_at *at, bool assign,
                  struct error *err)
{
    struct kvm_ioeventfd ioeventfd = {
        .datamatch = at->data,
        .addr = at->addr,
        .len = at->len,
        .fd = event_fd,
        .flags = (assign ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN) |
                 (at->port ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
                 (at->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u),
    };
    if (ioctl(vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0)
        return error_set_errno(err, -errno, "KVM refused to %s %s 0x%" PRIx64 " %s an eventfd",
                               assign ? "tie" : "untie", at->port ? "port" : "address", at->addr,
                               assign ? "to" : "from");
    return 0;
}
