/* What is asked of /dev/kvm and /dev/sev themselves. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define RUN_BYTES (3 * 4096) /* kvm_run as the simulator makes it where there is no KVM */

int fail(int result)
{
    if (result >= 0)
        return result;
    errno = -result;
    return -1;
}

int give_token(const struct exchange *x)
{
    if (!(x->reply.flags & SIM_REPLY_CLOEXEC))
        raw_syscall(SYS_fcntl, x->fds[0], F_SETFD, 0, 0, 0, 0);
    return x->fds[0];
}

int open_device(enum sim_kind kind, int open_flags)
{
    struct exchange x = {
        .head = {.op = SIM_OP_OPEN, .arg = {(uint64_t)kind, (uint64_t)open_flags}}};
    int r = exchange_run(&x);
    if (r < 0)
        return fail(r);
    if (x.fds[0] < 0)
        return -2; /* nothing against it: the real one is to be opened */
    if (!entry_add(kind, &x.reply)) {
        raw_close(x.fds[0]);
        return fail(-ENOMEM);
    }
    if (open_flags & O_CLOEXEC)
        x.reply.flags |= SIM_REPLY_CLOEXEC;
    return give_token(&x);
}

/** check_extension() - what KVM answers, unless SNP changes it. @real_fd: -1 where there is no KVM. */
static int check_extension(int real_fd, uint32_t object, unsigned long cap)
{
    int real = real_fd >= 0 ? raw_ioctl(real_fd, KVM_CHECK_EXTENSION, cap) : 0;
    struct exchange x = {.head = {.op = SIM_OP_CHECK_CAP,
                                  .object = object,
                                  .arg = {cap, (uint64_t)(real < 0 ? 0 : real)}}};
    int r = exchange_run(&x);
    return r < 0 ? fail(r) : (int)x.reply.value[0];
}

/** create_vm() - an SNP VM is an ordinary one of the real KVM, kept out of the program's sight, and a token for it. */
static int create_vm(int device, const struct entry *entry, unsigned long type)
{
    struct exchange x = {.head = {.op = SIM_OP_CREATE_VM, .arg = {type}}};
    bool real = !entry;
    int hidden = -1;
    if (real && type == ABI_VM_TYPE_SNP) {
        hidden = raw_ioctl(device, KVM_CREATE_VM, 0);
        if (hidden < 0)
            return -1;
        hidden = raw_dup_high(hidden);
    }
    int r = exchange_run(&x);
    if (r < 0 || !x.reply.value[0]) {
        if (hidden >= 0)
            raw_close(hidden);
        return r < 0 ? fail(r) : raw_ioctl(device, KVM_CREATE_VM, type);
    }
    struct entry *vm = entry_add(SIM_KIND_VM, &x.reply);
    if (!vm) {
        raw_close(x.fds[0]);
        return fail(-ENOMEM);
    }
    vm->real = hidden;
    return give_token(&x);
}

static int device_attr(unsigned long request, unsigned long arg, bool *ours)
{
    struct abi_device_attr attr;
    memcpy(&attr, (const void *)arg, sizeof(attr));
    *ours = attr.group == ABI_GRP_SEV;
    if (!*ours)
        return 0;
    struct exchange x = {.head = {.op = SIM_OP_DEVICE_ATTR, .arg = {attr.group, attr.attr}}};
    int r = exchange_run(&x);
    if (!r && request == ABI_GET_DEVICE_ATTR)
        memcpy((void *)attr.addr, &x.reply.value[0], sizeof(uint64_t));
    return fail(r);
}

/** msr_list() - a struct kvm_msr_list. */
static int msr_list(unsigned long arg, const uint32_t *msrs, uint32_t n)
{
    struct kvm_msr_list *list = (struct kvm_msr_list *)arg;
    if (!arg)
        return fail(-EFAULT);
    uint32_t room = list->nmsrs;
    list->nmsrs = n;
    if (room < n)
        return fail(-E2BIG);
    memcpy(list->indices, msrs, n * sizeof(*msrs));
    return 0;
}

/** launch_only() - the system without KVM. */
static int launch_only(unsigned long request, unsigned long arg)
{
    static const uint32_t msrs[] = {0x174,      0x175,      0x176,      0x277,
                                    0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
                                    0xc0000084, 0xc0000102, 0xda0};
    static const uint32_t feature_msrs[] = {
        0xc0011029}; /* DE_CFG, the one that KVM on AMD always lists */
    switch (request) {
    case KVM_GET_API_VERSION:
        return KVM_API_VERSION;
    case KVM_GET_VCPU_MMAP_SIZE:
        return RUN_BYTES;
    case KVM_GET_SUPPORTED_CPUID:
        return fail(supported_cpuid((struct kvm_cpuid2 *)arg));
    case KVM_GET_MSR_INDEX_LIST:
        return msr_list(arg, msrs, sizeof(msrs) / sizeof(msrs[0]));
    case KVM_GET_MSR_FEATURE_INDEX_LIST:
        return msr_list(arg, feature_msrs, sizeof(feature_msrs) / sizeof(feature_msrs[0]));
    case KVM_GET_MSRS: {
        uint32_t n;
        if (!arg)
            return fail(-EFAULT);
        memcpy(&n, (const void *)arg, sizeof(n));
        return (int)n; /* features as the caller's buffer has them: none is offered */
    }
    case KVM_X86_GET_MCE_CAP_SUPPORTED: {
        uint64_t banks = 0x1000120; /* MCG_CAP: 32 banks, MCG_CTL_P, MCG_SER_P */
        if (!arg)
            return fail(-EFAULT);
        memcpy((void *)arg, &banks, sizeof(banks));
        return 0;
    }
    default:
        return fail(-ENOTTY);
    }
}

int system_ioctl(int fd, const struct entry *entry, unsigned long request, unsigned long arg)
{
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return check_extension(entry ? -1 : fd, 0, arg);
    case KVM_CREATE_VM:
        return create_vm(fd, entry, arg);
    case ABI_GET_DEVICE_ATTR:
    case ABI_HAS_DEVICE_ATTR: {
        bool ours;
        int r = device_attr(request, arg, &ours);
        if (ours)
            return r;
        return entry ? fail(-ENXIO) : raw_ioctl(fd, request, arg);
    }
    case KVM_GET_SUPPORTED_CPUID: {
        if (entry)
            return launch_only(request, arg);
        struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)arg;
        uint32_t room = cpuid->nent;
        int r = raw_ioctl(fd, request, arg);
        if (r == 0)
            show_sev(cpuid, room);
        return r;
    }
    default:
        return entry ? launch_only(request, arg) : raw_ioctl(fd, request, arg);
    }
}

int sev_device_ioctl(const struct entry *entry, unsigned long request, unsigned long arg)
{
    struct abi_sev_issue issue;
    uint8_t data[64];
    if (request != ABI_SEV_ISSUE_CMD)
        return fail(-EINVAL);
    if (!arg)
        return fail(-EFAULT);
    memcpy(&issue, (const void *)arg, sizeof(issue));
    struct exchange x = {.head = {.op = SIM_OP_SEV_ISSUE, .object = entry->id, .arg = {issue.cmd}},
                         .out = data,
                         .out_cap = sizeof(data)};
    int r = exchange_run(&x);
    if (!r && !issue.data)
        r = -EINVAL;
    if (!r)
        memcpy((void *)issue.data, data, x.out_len);
    issue.error = (uint32_t)x.reply.value[0];
    memcpy((void *)arg, &issue, sizeof(issue));
    return fail(r);
}
