/* What is asked of a vCPU. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define KVM_MAX_CPUID 256 /* KVM_MAX_CPUID_ENTRIES */
#define SIGMASK_BYTES 8   /* of a kernel signal set */
#define POLL_MS 10        /* how long a signal may stay unseen that came just before the wait */

/** register_len() - bytes of a register structure in the program, list entries included. */
static size_t register_len(unsigned long request, unsigned long arg)
{
    if (request == KVM_SET_MSRS || request == KVM_GET_MSRS) {
        uint32_t n;
        memcpy(&n, (const void *)arg, sizeof(n));
        size_t room = (SIM_PAYLOAD_MAX - sizeof(struct kvm_msrs)) / sizeof(struct kvm_msr_entry);
        return sizeof(struct kvm_msrs) + (n < room ? n : room) * sizeof(struct kvm_msr_entry);
    }
    return _IOC_SIZE(request);
}

static int set_registers(const struct entry *vcpu, unsigned long request, unsigned long arg)
{
    if (!arg)
        return fail(-EFAULT);
    struct exchange x = {.head = {.op = SIM_OP_VCPU_SET, .object = vcpu->id, .arg = {request}},
                         .payload = (const void *)arg,
                         .payload_len = register_len(request, arg)};
    int r = exchange_run(&x);
    if (r < 0 || vcpu->vm->real < 0)
        return fail(r);
    return raw_ioctl(vcpu->real, request, arg);
}

/** modelled() - what the simulator knows better than the KVM below: how kvm_amd leaves a vCPU at its reset. */
static bool modelled(const struct entry *vcpu, unsigned long request)
{
    return vcpu->vm->real < 0 || request == KVM_GET_REGS || request == KVM_GET_SREGS ||
           request == KVM_GET_SREGS2 || request == KVM_GET_DEBUGREGS || request == KVM_GET_XCRS;
}

static int get_registers(const struct entry *vcpu, unsigned long request, unsigned long arg)
{
    if (!arg)
        return fail(-EFAULT);
    struct exchange x = {.head = {.op = SIM_OP_VCPU_CALL, .object = vcpu->id, .arg = {request}}};
    int r = 0;
    if (vcpu->vm->real >= 0) {
        r = raw_ioctl(vcpu->real, request, arg);
        if (r < 0)
            return r;
    }
    if (modelled(vcpu, request)) {
        x.out = (void *)arg;
        x.out_cap = register_len(request, arg);
        if (vcpu->vm->real >= 0 || request == KVM_GET_MSRS) {
            x.payload = (const void *)arg;
            x.payload_len = x.out_cap;
        }
    }
    int answer = exchange_run(&x);
    return answer == -ENOTTY && vcpu->vm->real >= 0 ? r
           : answer < 0 || vcpu->vm->real < 0       ? fail(answer)
                                                    : r;
}

#define CPUID_BYTES(n) (sizeof(struct kvm_cpuid2) + (n) * sizeof(struct kvm_cpuid_entry2))

/** copy_cpuid() - a list of the program's, NULL if it is too long or there is no memory. */
static struct kvm_cpuid2 *copy_cpuid(unsigned long arg)
{
    struct kvm_cpuid2 head;
    memcpy(&head, (const void *)arg, sizeof(head));
    struct kvm_cpuid2 *copy = head.nent > KVM_MAX_CPUID ? NULL : malloc(CPUID_BYTES(head.nent));
    if (copy)
        memcpy(copy, (const void *)arg, CPUID_BYTES(head.nent));
    return copy;
}

/** set_cpuid() - the guest runs unencrypted: it is not told otherwise. */
static int set_cpuid(struct entry *vcpu, unsigned long arg)
{
    struct kvm_cpuid2 *kept = arg ? copy_cpuid(arg) : NULL;
    struct kvm_cpuid2 *shown = arg ? copy_cpuid(arg) : NULL;
    int r = kept && shown ? 0 : arg ? -E2BIG : -EFAULT;
    if (!r && vcpu->vm->real >= 0) {
        hide_sev(shown->entries, shown->nent);
        r = raw_ioctl(vcpu->real, KVM_SET_CPUID2, (unsigned long)shown) < 0 ? -errno : 0;
    }
    free(shown);
    if (r) {
        free(kept);
        return fail(r);
    }
    refresh_cpuid(kept);
    free(vcpu->cpuid);
    vcpu->cpuid = kept;
    return 0;
}

/** get_cpuid() - what was set, whatever the KVM below made of it. */
static int get_cpuid(const struct entry *vcpu, unsigned long arg)
{
    struct kvm_cpuid2 head;
    if (!arg)
        return fail(-EFAULT);
    memcpy(&head, (const void *)arg, sizeof(head));
    uint32_t room = head.nent;
    uint32_t there = vcpu->cpuid ? vcpu->cpuid->nent : 0;
    head.nent = there;
    memcpy((void *)arg, &head, sizeof(head));
    if (room < there)
        return fail(-E2BIG);
    if (there)
        memcpy((void *)arg, vcpu->cpuid, CPUID_BYTES(there));
    return 0;
}

static int pre_fault(const struct entry *vcpu, unsigned long arg)
{
    struct abi_pre_fault range;
    if (!arg)
        return fail(-EFAULT);
    memcpy(&range, (const void *)arg, sizeof(range));
    struct exchange x = {.head = {.op = SIM_OP_PRE_FAULT,
                                  .object = vcpu->id,
                                  .arg = {range.gpa, range.size, range.flags}}};
    int r = exchange_run(&x);
    if (!r) {
        range.gpa += range.size;
        range.size = 0;
        memcpy((void *)arg, &range, sizeof(range));
    }
    return fail(r);
}

static int set_signal_mask(struct entry *vcpu, unsigned long arg)
{
    if (vcpu->vm->real >= 0)
        return raw_ioctl(vcpu->real, KVM_SET_SIGNAL_MASK, arg);
    vcpu->mask_set = arg != 0;
    if (arg) {
        struct kvm_signal_mask head;
        memcpy(&head, (const void *)arg, sizeof(head));
        if (head.len != SIGMASK_BYTES)
            return fail(-EINVAL);
        memset(&vcpu->mask, 0, sizeof(vcpu->mask));
        memcpy(&vcpu->mask, (const uint8_t *)arg + sizeof(head), SIGMASK_BYTES);
    }
    return 0;
}

/** halt() - a vCPU without KVM runs nothing: it waits for a signal, as a halted one does. */
static int halt(const struct entry *vcpu)
{
    volatile struct kvm_run *run = vcpu->memory;
    const struct timespec slice = {.tv_nsec = POLL_MS * 1000000L};
    while (!run->immediate_exit) {
        if (ppoll(NULL, 0, &slice, vcpu->mask_set ? &vcpu->mask : NULL) < 0)
            break;
    }
    run->exit_reason = KVM_EXIT_INTR;
    return fail(-EINTR);
}

/** run_vcpu() - ask whether this entry is special; then enter the guest, with no lock held. */
static int run_vcpu(struct entry *vcpu)
{
    struct kvm_run *run = vcpu->memory;
    if (!atomic_load(&vcpu->runnable)) {
        struct sim_run state = {.exit_reason = run->exit_reason,
                                .immediate_exit = run->immediate_exit};
        memcpy(state.data, (const uint8_t *)run + SIM_RUN_UNION_OFFSET, sizeof(state.data));
        struct sim_exit exit = {0};
        struct exchange x = {.head = {.op = SIM_OP_RUN, .object = vcpu->id},
                             .payload = &state,
                             .payload_len = sizeof(state),
                             .out = &exit,
                             .out_cap = sizeof(exit)};
        int r = exchange_run(&x);
        if (r < 0)
            return fail(r);
        if (x.reply.flags & SIM_REPLY_FORGED) {
            if (!exit.keep) {
                run->exit_reason = exit.exit_reason;
                memcpy((uint8_t *)run + SIM_RUN_UNION_OFFSET, exit.data, sizeof(exit.data));
            }
            return fail(exit.result);
        }
        if ((x.reply.flags & SIM_REPLY_RUNNABLE) && !(connection_flags() & SIM_HELLO_ASK_RUN))
            atomic_store(&vcpu->runnable, true);
    }
    if (vcpu->vm->real < 0)
        return halt(vcpu);
    return raw_ioctl(vcpu->real, KVM_RUN, 0);
}

/** launch_only() - a vCPU without KVM: what shapes no launch succeeds and does nothing. */
static int launch_only(unsigned long request, unsigned long arg)
{
    switch (request) {
    case KVM_SET_LAPIC:
    case KVM_SET_MP_STATE:
    case KVM_SET_VCPU_EVENTS:
    case KVM_SET_TSC_KHZ:
    case KVM_X86_SETUP_MCE:
    case KVM_ENABLE_CAP:
    case KVM_NMI:
    case KVM_INTERRUPT:
    case KVM_KVMCLOCK_CTRL:
    case KVM_SET_VAPIC_ADDR:
    case KVM_TPR_ACCESS_REPORTING:
        return 0;
    case KVM_GET_TSC_KHZ:
        return 2000000;
    case KVM_GET_LAPIC:
    case KVM_GET_MP_STATE:
    case KVM_GET_VCPU_EVENTS:
        if (!arg)
            return fail(-EFAULT);
        memset((void *)arg, 0, _IOC_SIZE(request));
        return 0;
    default:
        return fail(-ENOTTY);
    }
}

int vcpu_ioctl(struct entry *vcpu, unsigned long request, unsigned long arg)
{
    if (!vcpu->vm)
        return fail(-EIO); /* made by another process */
    switch (request) {
    case KVM_RUN:
        return run_vcpu(vcpu);
    case KVM_SET_REGS:
    case KVM_SET_SREGS:
    case KVM_SET_SREGS2:
    case KVM_SET_DEBUGREGS:
    case KVM_SET_XCRS:
    case KVM_SET_MSRS:
    case KVM_SET_FPU:
    case KVM_SET_XSAVE:
    case KVM_SET_GUEST_DEBUG:
        return set_registers(vcpu, request, arg);
    case KVM_GET_REGS:
    case KVM_GET_SREGS:
    case KVM_GET_SREGS2:
    case KVM_GET_DEBUGREGS:
    case KVM_GET_XCRS:
    case KVM_GET_MSRS:
    case KVM_GET_FPU:
    case KVM_GET_XSAVE:
    case KVM_GET_XSAVE2:
        return get_registers(vcpu, request, arg);
    case KVM_SET_CPUID2:
        return set_cpuid(vcpu, arg);
    case KVM_GET_CPUID2:
        return get_cpuid(vcpu, arg);
    case ABI_PRE_FAULT_MEMORY:
        return pre_fault(vcpu, arg);
    case KVM_SET_SIGNAL_MASK:
        return set_signal_mask(vcpu, arg);
    default:
        return vcpu->vm->real >= 0 ? raw_ioctl(vcpu->real, request, arg)
                                   : launch_only(request, arg);
    }
}
