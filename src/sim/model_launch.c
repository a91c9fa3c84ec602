/* KVM_MEMORY_ENCRYPT_OP but for LAUNCH_UPDATE: initialise, start, finish. */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>

#define POLICY_SMT BIT64(16)
#define POLICY_MBO BIT64(17)
#define POLICY_SINGLE_SOCKET BIT64(20)
#define FEATURE_SNP_ACTIVE BIT64(0)
#define GHCB_VERSION_MAX 2
#define SEV_INIT 0u
#define SEV_ES_INIT 1u

static int init2(struct call *call, struct vm *vm, uint32_t *fw)
{
    struct abi_sev_init init;
    if (call->payload_len < sizeof(init))
        return -EFAULT;
    memcpy(&init, call->in->payload, sizeof(init));
    int r = model_fault(call, SIM_CALL_INIT2, vm, fw);
    if (r)
        return r;
    if (!model_snp(vm))
        return model_broken(call, RULE_SEV_VM_TYPE, vm, -EINVAL, "KVM_SEV_INIT2 on a VM of type %u",
                            vm->type);
    if (vm->vcpus_len)
        return model_broken(call, RULE_INIT2_VCPUS, vm, -EINVAL, "there are %zu vCPUs",
                            vm->vcpus_len);
    if (init.flags)
        return model_broken(call, RULE_INIT2_FLAGS, vm, -EINVAL, "flags 0x%x", init.flags);
    if (init.vmsa_features & ~model_features(call->model->kernel))
        return model_broken(call, RULE_INIT2_FEATURES, vm, -EINVAL, "vmsa_features 0x%llx",
                            (unsigned long long)init.vmsa_features);
    if (init.ghcb_version > GHCB_VERSION_MAX)
        return model_broken(call, RULE_INIT2_GHCB, vm, -EINVAL, "ghcb_version %u",
                            init.ghcb_version);
    if (call->model->asids_used >= call->model->asids)
        return model_broken(call, RULE_INIT2_ASID, vm, -EBUSY, "all %u ASIDs are in use",
                            call->model->asids);
    call->model->asids_used++;
    vm->asid = true;
    vm->initialised = true;
    vm->vmsa_features = init.vmsa_features | FEATURE_SNP_ACTIVE;
    return 0;
}

static int enable_certs(struct call *call, struct vm *vm, uint32_t *fw)
{
    int r = model_fault(call, SIM_CALL_ENABLE_CERTS, vm, fw);
    if (r)
        return r;
    if (!vm->initialised || vm->vcpus_len)
        return model_broken(call, RULE_CERTS_ORDER, vm, -EINVAL, "%s",
                            vm->initialised ? "there are vCPUs" : "the VM is not initialised");
    vm->certs = true;
    return 0;
}

/** check_policy() - snp_launch_start()'s demands. Returns the rule, RULE_COUNT if there is nothing to say. */
static enum rule_id check_policy(enum sim_kernel kernel, uint64_t policy)
{
    if (policy & ~model_policy_bits(kernel))
        return RULE_START_POLICY_BITS;
    if (!(policy & POLICY_MBO))
        return RULE_START_POLICY_MBO;
    if (kernel < SIM_KERNEL_6_18 && !(policy & POLICY_SMT))
        return RULE_START_POLICY_SMT;
    if (kernel < SIM_KERNEL_6_18 && (policy & POLICY_SINGLE_SOCKET))
        return RULE_START_POLICY_SOCKET;
    return RULE_COUNT;
}

static int launch_start(struct call *call, struct vm *vm, uint32_t *fw)
{
    struct abi_snp_start start;
    struct model *model = call->model;
    if (!vm->initialised)
        return model_broken(call, RULE_INIT2_MISSING, vm, -ENOTTY, "LAUNCH_START");
    if (call->payload_len < sizeof(start))
        return -EFAULT;
    memcpy(&start, call->in->payload, sizeof(start));
    if (vm->started)
        return model_broken(call, RULE_START_TWICE, vm, -EINVAL, "LAUNCH_START again");
    if (start.flags)
        return model_broken(call, RULE_START_FLAGS, vm, -EINVAL, "flags 0x%x", start.flags);
    enum rule_id rule = check_policy(model->kernel, start.policy);
    if (rule != RULE_COUNT)
        return model_broken(call, rule, vm, -EINVAL, "policy 0x%llx",
                            (unsigned long long)start.policy);
    /* The first firmware command, which makes the context, already needs the device. */
    if (!model_object(model, (uint32_t)call->in->head.arg[1], SIM_KIND_SEV))
        return model_broken(call, RULE_SEV_FD, vm, -ENOTTY, "LAUNCH_START");
    int r = model_fault(call, SIM_CALL_START, vm, fw);
    if (r)
        return r;
    unsigned major = (start.policy >> 8) & 0xff;
    unsigned minor = start.policy & 0xff;
    if (major > MODEL_API_MAJOR || (major == MODEL_API_MAJOR && minor > MODEL_API_MINOR)) {
        *fw = ABI_FW_POLICY_FAILURE;
        return model_broken(call, RULE_START_POLICY_ABI, vm, -EIO, "the policy asks for ABI %u.%u",
                            major, minor);
    }
    vm->started = true;
    vm->policy = start.policy;
    memset(vm->digest, 0, sizeof(vm->digest));
    return 0;
}

/** measure_vcpus() - snp_launch_update_vmsa(): each vCPU in the order in which it was made. */
static int measure_vcpus(struct call *call, struct vm *vm, bool sev_open)
{
    if (!vm->vcpus_len)
        model_broken(call, RULE_FINISH_VCPUS, vm, 0, "LAUNCH_FINISH without a vCPU");
    for (size_t i = 0; i < vm->vcpus_len; i++) {
        struct vcpu *vcpu = vm->vcpus[i];
        const struct vcpu_state *state = &vcpu->state;
        if (vcpu->protected)
            return model_broken(call, RULE_FINISH_TWICE, vm, -EINVAL, "vCPU %u is protected",
                                vcpu->id);
        if (state->guest_debug || (state->debugregs.dr7 & ~0x400ull))
            return model_broken(call, RULE_FINISH_DEBUG, vm, -EINVAL,
                                "vCPU %u: debug control 0x%x, DR7 0x%llx", vcpu->id,
                                state->guest_debug, (unsigned long long)state->debugregs.dr7);
        if (!sev_open)
            return model_broken(call, RULE_SEV_FD, vm, -EBADF, "LAUNCH_FINISH");
        uint8_t page[VMSA_BYTES];
        uint8_t contents[CRYPTO_DIGEST];
        vcpu_state_vmsa(state, vm->vmsa_features, vm->keep_cd_nw, page);
        if (sim_crypto_sha384(page, sizeof(page), contents) ||
            sim_crypto_launch_extend(vm->digest, contents, ABI_PAGE_VMSA, VMSA_GPA))
            return -ENOMEM;
        vcpu->protected = true;
        vm->pages[ABI_PAGE_VMSA]++;
    }
    return 0;
}

static int launch_finish(struct call *call, struct vm *vm, uint32_t *fw)
{
    struct sim_finish finish;
    struct abi_snp_finish params;
    struct model *model = call->model;
    if (!vm->initialised)
        return model_broken(call, RULE_INIT2_MISSING, vm, -ENOTTY, "LAUNCH_FINISH");
    if (!vm->started)
        return model_broken(call, RULE_FINISH_CONTEXT, vm, -EINVAL, "LAUNCH_FINISH");
    if (call->payload_len < sizeof(finish))
        return -EFAULT;
    memcpy(&finish, call->in->payload, sizeof(finish));
    memcpy(&params, finish.params, sizeof(params));
    if (params.flags)
        return model_broken(call, RULE_FINISH_FLAGS, vm, -EINVAL, "flags 0x%x", params.flags);
    bool sev_open = model_object(model, (uint32_t)call->in->head.arg[1], SIM_KIND_SEV) != NULL;
    int r = measure_vcpus(call, vm, sev_open);
    if (r)
        return r;
    bool again = vm->measured;
    vm->measured = true;
    if (params.id_block_en && finish.id_block_fault)
        return model_broken(call, RULE_ID_ADDRESS, vm, -EFAULT, "LAUNCH_FINISH");
    if (!model_object(model, finish.stored_sev_object, SIM_KIND_SEV))
        return model_broken(call, RULE_SEV_FD_KEPT, vm, -EBADF, "LAUNCH_FINISH");
    if (again || vm->finished) {
        *fw = ABI_FW_INVALID_GUEST_STATE;
        return model_broken(call, RULE_FINISH_TWICE, vm, -EIO, "LAUNCH_FINISH again");
    }
    r = model_fault(call, SIM_CALL_FINISH, vm, fw);
    if (r)
        return r;
    r = model_finish_id(call, vm, &finish, fw);
    if (r)
        return r;
    vm->finished = true;
    memcpy(vm->host_data, params.host_data, sizeof(vm->host_data));
    if (!(vm->hypercalls & BIT64(ABI_HC_MAP_GPA_RANGE)))
        model_broken(call, RULE_HYPERCALL_MISSING, vm, 0, "LAUNCH_FINISH");
    if (vm->left.len)
        model_broken(call, RULE_UPDATE_DROPPED, vm, 0, "gfn 0x%llx and %zu runs in all",
                     (unsigned long long)vm->left.runs[0].start, vm->left.len);
    char digest[2 * CRYPTO_DIGEST + 1];
    report_line(&model->report, "vm=%u launch digest %s", vm->number,
                report_hex(vm->digest, CRYPTO_DIGEST, digest));
    model_vm_report(model, vm);
    return 0;
}

/** command_known() - whether this kernel has a command with that number. */
static bool command_known(const struct model *model, uint64_t id)
{
    return id <= ABI_SEV_INIT2 || (id >= ABI_SNP_LAUNCH_START && id <= ABI_SNP_LAUNCH_FINISH) ||
           (id == ABI_SNP_ENABLE_REQ_CERTS && model->kernel >= SIM_KERNEL_7_0);
}

int model_sev_command(struct call *call)
{
    uint64_t id = call->in->head.arg[0];
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    uint32_t fw = UINT32_MAX;
    if (vm->initialised && id < ABI_SNP_LAUNCH_START)
        r = model_broken(call, RULE_SEV_OLD_COMMAND, vm, -EPERM, "command %llu",
                         (unsigned long long)id);
    else if (!command_known(call->model, id))
        r = model_broken(call, RULE_SEV_COMMAND, vm, -EINVAL, "command %llu",
                         (unsigned long long)id);
    else if (id == ABI_SEV_INIT2)
        r = init2(call, vm, &fw);
    else if (id == ABI_SNP_LAUNCH_START)
        r = launch_start(call, vm, &fw);
    else if (id == ABI_SNP_LAUNCH_FINISH)
        r = launch_finish(call, vm, &fw);
    else if (id == ABI_SNP_ENABLE_REQ_CERTS)
        r = enable_certs(call, vm, &fw);
    else if (id == SEV_INIT || id == SEV_ES_INIT)
        r = model_broken(call, RULE_SEV_VM_TYPE, vm, -EINVAL, "command %llu on a VM of type %u",
                         (unsigned long long)id, vm->type);
    else
        r = model_broken(call, RULE_SEV_VM_TYPE, vm, -ENOTTY, "command %llu on a VM of type %u",
                         (unsigned long long)id, vm->type);
    if (!r && (id == ABI_SNP_LAUNCH_START || id == ABI_SNP_LAUNCH_FINISH))
        fw = ABI_FW_SUCCESS; /* sev_do_cmd() stores what the firmware said */
    report_line(&call->model->report, "vm=%u pid=%u SEV command %llu: %d", vm->number, vm->pid,
                (unsigned long long)id, r);
    call->out->head.value[0] = fw == UINT32_MAX ? 0 : fw;
    call->out->head.value[1] = fw != UINT32_MAX;
    return r;
}
