/* vCPUs: registers before the launch ends, nothing but KVM_RUN after it. */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUN_BYTES (3 * PAGE_BYTES) /* kvm_run, PIO data and coalesced MMIO pages */
#define RET_OFFSET 56u             /* of kvm_run's hypercall.ret within the union */
#define CERTS_RET_OFFSET 16u

int model_create_vcpu(struct call *call)
{
    uint64_t id = call->in->head.arg[0];
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    r = model_fault(call, SIM_CALL_CREATE_VCPU, vm, NULL);
    if (r)
        return r;
    bool taken = id >= MODEL_VCPUS_MAX;
    for (size_t i = 0; i < vm->vcpus_len && !taken; i++)
        taken = vm->vcpus[i]->id == id;
    if (taken)
        return model_broken(call, RULE_VCPU_ID, vm, id >= MODEL_VCPUS_MAX ? -EINVAL : -EEXIST,
                            "id %llu", (unsigned long long)id);
    if (vm->measured)
        model_broken(call, RULE_VCPU_LATE, vm, 0, "vCPU %llu", (unsigned long long)id);

    struct vcpu **vcpus = reallocarray(vm->vcpus, vm->vcpus_len + 1, sizeof(struct vcpu *));
    if (!vcpus)
        return -ENOMEM;
    vm->vcpus = vcpus;
    struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
    if (!vcpu)
        return -ENOMEM;
    *vcpu =
        (struct vcpu){.vm = vm, .id = (uint32_t)id, .late = vm->measured, .fault_gpa = UINT64_MAX};
    vcpu_state_reset(&vcpu->state);

    int storage = -1;
    if (call->model->launch_only) {
        storage = memfd_create("husk-sim-vcpu", MFD_CLOEXEC);
        if (storage < 0 || ftruncate(storage, RUN_BYTES) < 0) {
            r = -errno;
            goto fail;
        }
    }
    if (!model_add(call, SIM_KIND_VCPU, vcpu)) {
        r = -errno;
        goto fail;
    }
    call->fds[1] = storage;
    call->out->head.flags |= SIM_REPLY_CLOEXEC | (storage >= 0 ? SIM_REPLY_STORAGE : 0);
    vm->vcpus[vm->vcpus_len++] = vcpu;
    vm->refs++;
    report_line(&call->model->report, "vm=%u KVM_CREATE_VCPU %u", vm->number, vcpu->id);
    return 0;

fail:
    if (storage >= 0)
        close(storage);
    free(vcpu);
    return r;
}

/** check_protected() - whether a register ioctl may be made on a vCPU in its present state. */
static int check_protected(struct call *call, const struct vcpu *vcpu, unsigned long request)
{
    if (!vcpu->protected)
        return 0;
    unsigned nr = _IOC_NR(request);
    switch (request) {
    case KVM_GET_REGS:
    case KVM_SET_REGS:
    case KVM_GET_SREGS:
    case KVM_SET_SREGS:
    case KVM_GET_SREGS2:
    case KVM_SET_SREGS2:
    case KVM_GET_DEBUGREGS:
    case KVM_SET_DEBUGREGS:
    case KVM_GET_XCRS:
    case KVM_SET_XCRS:
        return model_broken(call, RULE_VCPU_PROTECTED, vcpu->vm, -EINVAL, "ioctl 0x%x on vCPU %u",
                            nr, vcpu->id);
    case KVM_SET_GUEST_DEBUG:
        return model_broken(call, RULE_VCPU_DEBUG, vcpu->vm, -EINVAL, "vCPU %u", vcpu->id);
    case KVM_GET_FPU:
    case KVM_SET_FPU:
    case KVM_GET_XSAVE:
    case KVM_GET_XSAVE2:
    case KVM_SET_XSAVE:
        return model_broken(call, RULE_VCPU_FPU, vcpu->vm, 0, "ioctl 0x%x on vCPU %u", nr,
                            vcpu->id);
    default:
        return 0;
    }
}

int model_vcpu_set(struct call *call)
{
    unsigned long request = call->in->head.arg[0];
    int r;
    struct vcpu *vcpu = model_vcpu(call, &r);
    if (!vcpu)
        return r;
    r = model_fault(call, SIM_CALL_VCPU_SET, vcpu->vm, NULL);
    if (r)
        return r;
    r = check_protected(call, vcpu, request);
    if (r || (vcpu->protected && model_snp(vcpu->vm)))
        return r;
    enum rule_id rule;
    r = vcpu_state_set(&vcpu->state, request, call->in->payload, call->payload_len, &rule);
    if (rule != RULE_COUNT)
        return model_broken(call, rule, vcpu->vm, r, "vCPU %u", vcpu->id);
    return r;
}

int model_vcpu_call(struct call *call)
{
    unsigned long request = call->in->head.arg[0];
    int r;
    struct vcpu *vcpu = model_vcpu(call, &r);
    if (!vcpu)
        return r;
    r = check_protected(call, vcpu, request);
    if (r || (vcpu->protected && !call->model->launch_only))
        return r;
    size_t size = MAX((size_t)_IOC_SIZE(request), call->payload_len);
    memset(call->out->payload, 0, size);
    memcpy(call->out->payload, call->in->payload, call->payload_len);
    if (!call->payload_len && (request == KVM_GET_SREGS || request == KVM_GET_SREGS2))
        memcpy(call->out->payload, &vcpu->state.sregs, offsetof(struct kvm_sregs2, flags));
    r = vcpu_state_get(&vcpu->state, request, call->out->payload, size);
    call->out_len = r < 0 ? 0 : size;
    return r;
}

int model_pre_fault(struct call *call)
{
    const uint64_t *arg = call->in->head.arg;
    int r;
    struct vcpu *vcpu = model_vcpu(call, &r);
    if (!vcpu)
        return r;
    r = model_fault(call, SIM_CALL_PRE_FAULT, vcpu->vm, NULL);
    if (r)
        return r;
    uint64_t end;
    if (arg[2] || !is_aligned(arg[0] | arg[1], PAGE_BYTES) || !arg[1] ||
        add_overflows(arg[0], arg[1], &end))
        return model_broken(call, RULE_PRE_FAULT_RANGE, vcpu->vm, -EINVAL,
                            "0x%llx + 0x%llx, flags 0x%llx", (unsigned long long)arg[0],
                            (unsigned long long)arg[1], (unsigned long long)arg[2]);
    if (model_snp(vcpu->vm) && !vcpu->vm->finished)
        return model_broken(call, RULE_PRE_FAULT_EARLY, vcpu->vm, -EOPNOTSUPP, "vCPU %u", vcpu->id);
    return 0;
}

/** complete_exit() - the forged exit that this KVM_RUN answers. Returns 0, or the -errno with which KVM_RUN fails. */
static int complete_exit(struct call *call, struct vcpu *vcpu, const struct sim_run *run)
{
    struct report *report = &call->model->report;
    const struct sim_forged_exit *forged = vcpu->forged;
    vcpu->forged = NULL;
    if (!forged || forged->exit.keep)
        return 0;
    switch (forged->exit.exit_reason) {
    case ABI_EXIT_HYPERCALL:
        report_line(report, "vm=%u vCPU %u: hypercall answered with %lld", vcpu->vm->number,
                    vcpu->id, (long long)load_le64(run->data + RET_OFFSET));
        return 0;
    case ABI_EXIT_SNP_REQ_CERTS: {
        uint64_t ret = load_le64(run->data + CERTS_RET_OFFSET);
        report_line(report, "vm=%u vCPU %u: certificates answered with %llu", vcpu->vm->number,
                    vcpu->id, (unsigned long long)ret);
        if (ret != 0 && ret != ENOSPC && ret != EAGAIN && ret != EIO)
            return model_broken(call, RULE_CERTS_RET, vcpu->vm, -EINVAL, "ret is %llu",
                                (unsigned long long)ret);
        return 0;
    }
    case ABI_EXIT_MEMORY_FAULT:
        if (vcpu->fault_epoch == vcpu->vm->epoch)
            model_broken(call, RULE_FAULT_ENDLESS, vcpu->vm, 0, "vCPU %u, gpa 0x%llx", vcpu->id,
                         (unsigned long long)vcpu->fault_gpa);
        return 0;
    default:
        return 0;
    }
}

static void forge(struct call *call, const struct sim_exit *exit)
{
    memcpy(call->out->payload, exit, sizeof(*exit));
    call->out_len = sizeof(*exit);
    call->out->head.flags |= SIM_REPLY_FORGED;
}

/** check_run() - what stands against entering this vCPU. */
static int check_run(struct call *call, struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    if (!model_snp(vm))
        return 0;
    if (!vm->initialised)
        return model_broken(call, RULE_RUN_INIT, vm, -EINVAL, "vCPU %u", vcpu->id);
    if (vcpu->protected && vm->finished)
        return 0;
    model_broken(call, RULE_RUN_FINISHED, vm, 0, "vCPU %u%s", vcpu->id,
                 vcpu->late ? " was made after it" : "");
    struct sim_exit exit = {.exit_reason = ABI_EXIT_FAIL_ENTRY};
    store_le64(exit.data, UINT64_MAX); /* VMEXIT_INVALID */
    forge(call, &exit);
    return 0;
}

int model_run(struct call *call)
{
    struct sim_run run;
    int r;
    struct vcpu *vcpu = model_vcpu(call, &r);
    if (!vcpu)
        return r;
    if (call->payload_len < sizeof(run))
        return -EFAULT;
    memcpy(&run, call->in->payload, sizeof(run));
    struct vm *vm = vcpu->vm;
    r = complete_exit(call, vcpu, &run);
    if (r || run.immediate_exit)
        return r;
    r = check_run(call, vcpu);
    if (r || (call->out->head.flags & SIM_REPLY_FORGED))
        return r;
    r = model_fault(call, SIM_CALL_RUN, vm, NULL);
    if (r)
        return r;
    if (vcpu->runs < UINT32_MAX)
        vcpu->runs++;
    struct sim_forged_exit *forged =
        sim_faults_match_exit(&call->model->faults, vm->number, vcpu->id, vcpu->runs);
    if (!forged) {
        call->out->head.flags |= SIM_REPLY_RUNNABLE;
        return 0;
    }
    forged->done = true;
    call->model->report.faults++;
    report_line(&call->model->report, "injected vm=%u vCPU %u: exit %s", vm->number, vcpu->id,
                forged->kind);
    if (forged->exit.exit_reason == ABI_EXIT_MEMORY_FAULT) {
        vcpu->fault_gpa = load_le64(forged->exit.data + 8);
        vcpu->fault_epoch = vm->epoch;
    }
    vcpu->forged = forged;
    forge(call, &forged->exit);
    return 0;
}
