/* /dev/kvm, /dev/sev and virtual machines. */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>

/* Bits of SEV_FEATURES that KVM lets a VMM choose (sev_supported_vmsa_features). */
#define FEATURE_DEBUG_SWAP BIT64(5)
#define FEATURE_SECURE_TSC BIT64(9)

#define ATTR_VMSA_FEATURES 0u
#define ATTR_POLICY_BITS 1u
#define ATTR_REQ_CERTS 2u

uint64_t model_policy_bits(enum sim_kernel kernel)
{
    /* SNP_POLICY_MASK_VALID of Linux 6.12, KVM_SNP_POLICY_MASK_VALID of 7.2 (arch/x86/kvm/svm/sev.c). */
    return kernel >= SIM_KERNEL_7_0 ? 0x3fbffffull : 0x1bffffull;
}

uint64_t model_features(enum sim_kernel kernel)
{
    return FEATURE_DEBUG_SWAP | (kernel >= SIM_KERNEL_6_18 ? FEATURE_SECURE_TSC : 0);
}

int model_open(struct call *call)
{
    uint64_t kind = call->in->head.arg[0];
    if (kind != SIM_KIND_KVM && kind != SIM_KIND_SEV)
        return -EINVAL;
    int r =
        model_fault(call, kind == SIM_KIND_KVM ? SIM_CALL_OPEN_KVM : SIM_CALL_OPEN_SEV, NULL, NULL);
    if (r)
        return r;
    if (kind == SIM_KIND_KVM && !call->model->launch_only)
        return 0; /* the real one is opened; this was only asked for a fault */
    report_line(&call->model->report, "pid=%u opens /dev/%s", call->client->pid,
                kind == SIM_KIND_KVM ? "kvm" : "sev");
    return model_add(call, (enum sim_kind)kind, NULL) ? 0 : -errno;
}

/** snp_cap() - what an SNP VM, or the system, says to a capability that SNP changes; -1 for any other. */
static int64_t snp_cap(const struct model *model, bool system, uint64_t cap, uint64_t real)
{
    switch (cap) {
    case ABI_CAP_VM_TYPES:
        return (int64_t)(real | BIT64(0) | BIT64(ABI_VM_TYPE_SNP));
    case ABI_CAP_EXIT_HYPERCALL:
        return (int64_t)BIT64(ABI_HC_MAP_GPA_RANGE);
    case ABI_CAP_MEMORY_ATTRIBUTES:
        return ABI_ATTRIBUTE_PRIVATE;
    case ABI_CAP_GUEST_MEMFD:
    case ABI_CAP_USER_MEMORY2:
    case ABI_CAP_MEMORY_FAULT_INFO:
    case ABI_CAP_PRE_FAULT_MEMORY:
        return 1;
    case ABI_CAP_GUEST_MEMFD_FLAGS:
        return model->kernel >= SIM_KERNEL_6_18 ? ABI_MEMFD_MMAP : 0;
    case ABI_CAP_READONLY_MEM:
    case ABI_CAP_SYNC_REGS:
    case ABI_CAP_X86_SMM:
        return system ? -1 : 0;
    case ABI_CAP_MULTI_ADDRESS_SPACE:
        return system ? -1 : 1;
    default:
        return -1;
    }
}

/* What a system without KVM answers: the least that a launch needs. */
static uint64_t launch_only_cap(uint64_t cap)
{
    switch (cap) {
    case KVM_CAP_NR_MEMSLOTS:
        return 32764;
    case KVM_CAP_NR_VCPUS:
    case KVM_CAP_MAX_VCPUS:
        return 1024;
    case KVM_CAP_MAX_VCPU_ID:
        return MODEL_VCPUS_MAX;
    case KVM_CAP_IRQ_ROUTING:
        return 4096; /* KVM_MAX_IRQ_ROUTES */
    case KVM_CAP_MCE:
        return 32; /* banks, KVM_MAX_MCE_BANKS */
    case KVM_CAP_X2APIC_API:
        return 3;
    case KVM_CAP_XSAVE2:
        return sizeof(struct kvm_xsave);
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_SYNC_MMU:
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_IRQFD:
    case KVM_CAP_IOEVENTFD:
    case KVM_CAP_IOEVENTFD_ANY_LENGTH:
    case KVM_CAP_SIGNAL_MSI:
    case KVM_CAP_SPLIT_IRQCHIP:
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_SET_IDENTITY_MAP_ADDR:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_X86_ROBUST_SINGLESTEP:
    case KVM_CAP_GET_MSR_FEATURES:
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_MP_STATE:
    case KVM_CAP_XSAVE:
    case KVM_CAP_XCRS:
    case KVM_CAP_DEBUGREGS:
    case KVM_CAP_VCPU_EVENTS:
    case KVM_CAP_CHECK_EXTENSION_VM:
    case KVM_CAP_ENABLE_CAP_VM:
    case KVM_CAP_TSC_CONTROL:
    case KVM_CAP_GET_TSC_KHZ:
    case KVM_CAP_ADJUST_CLOCK:
    case KVM_CAP_INTERNAL_ERROR_DATA:
    case KVM_CAP_SYSTEM_EVENT_DATA:
    case KVM_CAP_DEVICE_CTRL:
    case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
    case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
    case ABI_CAP_READONLY_MEM:
        return 1;
    default:
        return 0;
    }
}

int model_check_cap(struct call *call)
{
    const struct sim_request *in = &call->in->head;
    const struct object *object =
        in->object ? model_object(call->model, in->object, SIM_KIND_VM) : NULL;
    uint64_t real = call->model->launch_only ? launch_only_cap(in->arg[0]) : in->arg[1];
    int64_t answer = -1;
    if (!object || model_snp(object->vm))
        answer = snp_cap(call->model, !object, in->arg[0], real);
    call->out->head.value[0] = answer < 0 ? real : (uint64_t)answer;
    return 0;
}

int model_device_attr(struct call *call)
{
    const struct sim_request *in = &call->in->head;
    enum sim_kernel kernel = call->model->kernel;
    uint64_t *value = &call->out->head.value[0];
    if (in->arg[0] != ABI_GRP_SEV)
        return -ENXIO;
    switch (in->arg[1]) {
    case ATTR_VMSA_FEATURES:
        *value = model_features(kernel);
        return 0;
    case ATTR_POLICY_BITS:
        *value = model_policy_bits(kernel);
        return kernel >= SIM_KERNEL_7_0 ? 0 : -ENXIO;
    case ATTR_REQ_CERTS:
        *value = 1;
        return kernel >= SIM_KERNEL_7_0 ? 0 : -ENXIO;
    default:
        return -ENXIO;
    }
}

int model_create_vm(struct call *call)
{
    uint64_t type = call->in->head.arg[0];
    int r = model_fault(call, SIM_CALL_CREATE_VM, NULL, NULL);
    if (r)
        return r;
    if (type != ABI_VM_TYPE_SNP && !call->model->launch_only)
        return 0; /* the real KVM's business */
    if (type != ABI_VM_TYPE_SNP && type != 0)
        return model_broken(call, RULE_VM_TYPE, NULL, -EINVAL, "KVM_CREATE_VM of type %llu",
                            (unsigned long long)type);
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return -ENOMEM;
    vm->type = (uint32_t)type;
    vm->owner = call->client;
    vm->pid = call->client->pid;
    vm->refs = 1;
    vm->parts_next = UINT64_MAX;
    if (!model_add(call, SIM_KIND_VM, vm)) {
        r = -errno;
        free(vm);
        return r;
    }
    if (model_snp(vm))
        vm->number = ++call->model->vms;
    call->out->head.flags |= SIM_REPLY_CLOEXEC;
    call->out->head.value[0] = 1;
    report_line(&call->model->report, "vm=%u pid=%u KVM_CREATE_VM type %u", vm->number, vm->pid,
                vm->type);
    return 0;
}

int model_enable_cap(struct call *call)
{
    const struct sim_request *in = &call->in->head;
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    report_line(&call->model->report, "vm=%u KVM_ENABLE_CAP %llu, 0x%llx", vm->number,
                (unsigned long long)in->arg[0], (unsigned long long)in->arg[2]);
    r = model_fault(call, SIM_CALL_ENABLE_CAP, vm, NULL);
    if (r)
        return r;
    switch (in->arg[0]) {
    case ABI_CAP_EXIT_HYPERCALL:
        if (in->arg[2] & ~BIT64(ABI_HC_MAP_GPA_RANGE))
            return model_broken(call, RULE_HYPERCALL_MASK, vm, -EINVAL,
                                "KVM_CAP_EXIT_HYPERCALL with mask 0x%llx",
                                (unsigned long long)in->arg[2]);
        vm->hypercalls = in->arg[2];
        return 0;
    case KVM_CAP_DISABLE_QUIRKS:
    case KVM_CAP_DISABLE_QUIRKS2:
        vm->keep_cd_nw = (in->arg[2] & KVM_X86_QUIRK_CD_NW_CLEARED) != 0;
        return 0;
    default:
        return 0;
    }
}

int model_vm_call(struct call *call)
{
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    report_line(&call->model->report, "vm=%u pid=%u ioctl 0x%llx", vm->number, call->client->pid,
                (unsigned long long)call->in->head.arg[0]);
    return 0;
}

int model_sev_issue(struct call *call)
{
    struct model *model = call->model;
    if (!model_object(model, call->in->head.object, SIM_KIND_SEV))
        return -EBADF;
    uint32_t fw = 0;
    int r = model_fault(call, SIM_CALL_SEV_ISSUE, NULL, &fw);
    if (r) {
        call->out->head.value[0] = fw;
        return r;
    }
    uint64_t cmd = call->in->head.arg[0];
    if (cmd == ABI_SNP_PLATFORM_STATUS) {
        struct abi_snp_status status = {.api_major = MODEL_API_MAJOR,
                                        .api_minor = MODEL_API_MINOR,
                                        .state = 1,
                                        .rmp_init = 1,
                                        .build_id = MODEL_BUILD_ID,
                                        .guest_count = model->asids_used};
        memcpy(call->out->payload, &status, sizeof(status));
        call->out_len = sizeof(status);
        return 0;
    }
    if (cmd == ABI_SEV_PLATFORM_STATUS) {
        struct abi_sev_status status = {.api_major = MODEL_API_MAJOR,
                                        .api_minor = MODEL_API_MINOR,
                                        .state = 1,
                                        .flags = BIT(8), /* SEV-ES is initialised */
                                        .build = 0};
        memcpy(call->out->payload, &status, sizeof(status));
        call->out_len = sizeof(status);
        return 0;
    }
    return model_broken(call, RULE_SEV_DEVICE, NULL, -EINVAL, "command %llu",
                        (unsigned long long)cmd);
}
