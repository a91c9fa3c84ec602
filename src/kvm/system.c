#include "kvm/kvm.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

struct capability {
    int number;
    const char *name;
};

/* Every one of these is older than Linux 4.12; a KVM without them is no KVM of a kernel that Debian 12 could run on. */
static const struct capability required[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

static int capability(int fd, int number)
{
    int value = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)number);
    return value < 0 ? 0 : value;
}

static int open_device(const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int code = -errno;
    error_set_errno(err, code, "could not open '%s'", path);
    if (code == -ENOENT || code == -ENXIO || code == -ENODEV)
        error_hint(
            err,
            "KVM is not there: load kvm_amd or kvm_intel, and see that virtualization is on in the "
            "firmware set-up (or, in a VM, that nesting is)");
    else if (code == -EACCES || code == -EPERM)
        error_hint(err, "run husk as root or as a member of the group that owns %s", path);
    return code;
}

static int check_required(int fd, const char *path, struct error *err)
{
    char missing[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
        if (capability(fd, required[i].number) || used >= sizeof(missing))
            continue;
        used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%s", used ? ", " : "",
                                 required[i].name);
    }
    if (used)
        return error_set(err, -ENOTSUP, "'%s' lacks %s", path, missing);
    return 0;
}

int kvm_open(struct kvm *kvm, const char *path, struct error *err)
{
    _cleanup_close_ int fd = open_device(path, err);
    if (fd < 0)
        return fd;
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return error_set(err, -EPROTO, "'%s' is not KVM of API version %d", path, KVM_API_VERSION);
    int ret = check_required(fd, path, err);
    if (ret < 0)
        return ret;
    int run_size = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < (int)sizeof(struct kvm_run))
        return error_set(err, -EPROTO, "'%s' says that a vCPU's shared area has %d bytes", path,
                         run_size);

    int max_vcpus = capability(fd, KVM_CAP_MAX_VCPUS);
    *kvm = (struct kvm){
        .run_size = (size_t)run_size,
        .max_vcpus = max_vcpus ? (uint32_t)max_vcpus : 4, /* api.rst 4.7: what 0 means */
        .memory_region2 = capability(fd, KVM_CAP_USER_MEMORY2) > 0,
        .readonly_memory = capability(fd, KVM_CAP_READONLY_MEM) > 0,
        .tsc_deadline = capability(fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };
    kvm->fd = take_fd(&fd);
    return 0;
}

void kvm_close(struct kvm *kvm)
{
    cleanup_close(&kvm->fd);
    kvm->fd = -1;
}

int kvm_create_vm(const struct kvm *kvm, unsigned long type, struct error *err)
{
    int fd;
    do
        fd = ioctl(kvm->fd, KVM_CREATE_VM, type);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0)
        return fd;
    int code = -errno;
    error_set_errno(err, code, "KVM could not make a VM of type %lu", type);
    if (code == -EBUSY)
        error_hint(err, "another hypervisor may hold the processor's virtualization extensions");
    return code;
}
