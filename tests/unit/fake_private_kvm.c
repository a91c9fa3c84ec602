#include "fake_private_kvm.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fake_private_kvm fake_private_kvm;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fake_private_kvm_reset(void)
{
    fake_private_kvm = (struct fake_private_kvm){0};
}

static int fails(int code)
{
    errno = code;
    return -1;
}

static int refuses(void)
{
    fake_private_kvm.mistakes++;
    return fails(EINVAL);
}

static int has(int capability)
{
    if (capability == fake_private_kvm.missing)
        return 0;
    return capability == KVM_CAP_MEMORY_ATTRIBUTES ? (int)KVM_MEMORY_ATTRIBUTE_PRIVATE : 1;
}

static int set_attributes(const struct kvm_memory_attributes *a)
{
    fake_private_kvm.attribute_calls++;
    if (a->size == 0 || ((a->address | a->size) & (PAGE_BYTES - 1)) || a->flags ||
        (a->attributes & ~KVM_MEMORY_ATTRIBUTE_PRIVATE))
        return refuses();
    for (uint64_t page = a->address / PAGE_BYTES; page < (a->address + a->size) / PAGE_BYTES;
         page++)
        if (page < FAKE_PAGES)
            fake_private_kvm.private_page[page] = a->attributes;
    return 0;
}

static int create_guest_memfd(const struct kvm_create_guest_memfd *create)
{
    if (create->size == 0 || create->size % PAGE_BYTES || create->flags)
        return refuses();
    int fd = memfd_create("guest_memfd", 0);
    return ftruncate(fd, (off_t)create->size) == 0 ? fd : -1;
}

static int set_region2(const struct kvm_userspace_memory_region2 *region)
{
    bool private = region->flags & KVM_MEM_GUEST_MEMFD;
    if (private && (region->flags & (KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES)))
        return refuses();
    if (fake_private_kvm.n_slots == FAKE_SLOTS)
        return fails(EINVAL);
    fake_private_kvm.slots[fake_private_kvm.n_slots++] = *region;
    return 0;
}

static int prefault(struct kvm_pre_fault_memory *range)
{
    uint64_t most = fake_private_kvm.prefault_most;
    uint64_t len = most && most < range->size ? most : range->size;
    for (uint64_t at = range->gpa; at < range->gpa + len; at += PAGE_BYTES)
        if (at / PAGE_BYTES < FAKE_PAGES && !fake_private_kvm.private_page[at / PAGE_BYTES])
            fake_private_kvm.mistakes++;
    range->gpa += len;
    range->size -= len;
    fake_private_kvm.prefaulted += len;
    return range->size ? fails(EINTR) : 0;
}

static int answer(unsigned long request, void *arg)
{
    struct fake_private_kvm *kvm = &fake_private_kvm;
    if (request == kvm->fail_request && kvm->fail_after-- == 0) {
        kvm->fail_after = 0;
        return fails(kvm->fail_errno);
    }
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return has((int)(uintptr_t)arg);
    case KVM_SET_MEMORY_ATTRIBUTES:
        return set_attributes(arg);
    case KVM_CREATE_GUEST_MEMFD:
        return create_guest_memfd(arg);
    case KVM_SET_USER_MEMORY_REGION2:
        return set_region2(arg);
    case KVM_SET_USER_MEMORY_REGION:
        kvm->v1_calls++;
        return 0;
    case KVM_PRE_FAULT_MEMORY:
        return prefault(arg);
    case KVM_ENABLE_CAP: {
        const struct kvm_enable_cap *cap = arg;
        if (cap->cap != KVM_CAP_EXIT_HYPERCALL)
            return refuses();
        kvm->enabled = cap->args[0];
        return 0;
    }
    default:
        return fails(ENOTTY);
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (fd != FAKE_VM_FD && fd != FAKE_VCPU_FD)
        return (int)syscall(SYS_ioctl, fd, request, arg);
    if (request == KVM_RUN)
        return fake_private_kvm.run();
    if (request == KVM_MEMORY_ENCRYPT_OP)
        return fake_private_kvm.encrypt(arg);
    pthread_mutex_lock(&lock);
    int ret = answer(request, arg);
    pthread_mutex_unlock(&lock);
    return ret;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        return refuses();
    if (fake_private_kvm.fail_fallocate)
        return fails(fake_private_kvm.fail_fallocate);
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}
