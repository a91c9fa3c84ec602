/* Memory that is private to a guest: guest_memfd, attributes, and the guest's wish to change them. */
#include "kvm/kvm.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

int kvm_has(int fd, int capability)
{
    int value = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)capability);
    return value < 0 ? 0 : value;
}

int kvm_create_guest_memfd(int vm_fd, uint64_t size, struct error *err)
{
    struct kvm_create_guest_memfd create = {.size = size};
    _cleanup_close_ int fd = ioctl(vm_fd, KVM_CREATE_GUEST_MEMFD, &create);
    if (fd < 0)
        return error_set_errno(err, -errno,
                               "KVM could not make a guest_memfd of 0x%" PRIx64 " bytes", size);
    /* The kernel makes it without (virt/kvm/guest_memfd.c, Linux 6.12). */
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return error_set_errno(err, -errno, "could not have a guest_memfd closed on exec");
    return take_fd(&fd);
}

int kvm_set_private(int vm_fd, uint64_t gpa, uint64_t len, bool private, struct error *err)
{
    struct kvm_memory_attributes attributes = {
        .address = gpa,
        .size = len,
        .attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
    };
    if (ioctl(vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes) < 0)
        return error_set_errno(err, -errno,
                               "KVM refused to make 0x%" PRIx64 " bytes at 0x%" PRIx64 " %s", len,
                               gpa, private ? "private" : "shared");
    return 0;
}

int kvm_exit_map_gpa_range(int vm_fd, struct error *err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_HYPERCALL,
                                 .args = {BIT64(KVM_HC_MAP_GPA_RANGE)}};
    if (ioctl(vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set_errno(err, -errno,
                               "KVM refused to hand on the guest's requests for shared memory "
                               "(KVM_CAP_EXIT_HYPERCALL)");
    return 0;
}

int64_t kvm_vcpu_prefault(const struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t len)
{
    struct kvm_pre_fault_memory range = {.gpa = gpa, .size = len};
    int ret = ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range);
    /* It says how far it came also when it did not come to the end (api.rst 4.143). */
    if (ret < 0 && range.gpa == gpa)
        return -errno;
    return (int64_t)(range.gpa - gpa);
}

struct kvm_memory_fault kvm_vcpu_memory_fault(const struct kvm_vcpu *vcpu)
{
    struct kvm_memory_fault fault;
    memcpy(&fault, (const uint8_t *)vcpu->run + offsetof(struct kvm_run, hw), sizeof(fault));
    return fault;
}
