/* What KVM's register ioctls do to a vCPU whose state is not protected yet (Linux 6.12, arch/x86/kvm/x86.c and svm.c). */
#include "sim/vcpu_state.h"

#include "base/bytes.h"

#include <cpuid.h>
#include <errno.h>

#define CR0_PG BIT64(31)
#define CR4_PAE BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define DR7_FIXED 0x400u
#define MSR_EFER 0xc0000080u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define XFEATURE_FP BIT64(0)
#define XFEATURE_SSE BIT64(1)
#define XFEATURE_YMM BIT64(2)
#define XFEATURE_PKRU BIT64(9)

static const uint32_t msr_index[VCPU_MSR_COUNT] = {
    [VCPU_MSR_STAR] = 0xc0000081,
    [VCPU_MSR_LSTAR] = 0xc0000082,
    [VCPU_MSR_CSTAR] = 0xc0000083,
    [VCPU_MSR_SFMASK] = 0xc0000084,
    [VCPU_MSR_KERNEL_GS_BASE] = 0xc0000102,
    [VCPU_MSR_SYSENTER_CS] = 0x174,
    [VCPU_MSR_SYSENTER_ESP] = 0x175,
    [VCPU_MSR_SYSENTER_EIP] = 0x176,
    [VCPU_MSR_PAT] = 0x277,
    [VCPU_MSR_DEBUGCTL] = 0x1d9,
    [VCPU_MSR_SPEC_CTRL] = 0x48,
    [VCPU_MSR_XSS] = 0xda0,
};

static struct kvm_segment reset_segment(uint16_t selector, uint64_t base, uint8_t type, uint8_t s)
{
    return (struct kvm_segment){
        .selector = selector, .base = base, .limit = 0xffff, .type = type, .s = s, .present = 1};
}

void vcpu_state_reset(struct vcpu_state *state)
{
    *state = (struct vcpu_state){0};
    state->regs.rdx = 0x600; /* there is no CPUID yet to take the signature from */
    state->regs.rip = 0xfff0;
    state->regs.rflags = 2;

    struct kvm_sregs *s = &state->sregs;
    struct kvm_segment data = reset_segment(0, 0, 2, 1);
    s->cs = reset_segment(0xf000, 0xffff0000, 0xa, 1);
    s->ds = s->es = s->fs = s->gs = s->ss = data;
    s->ldt = reset_segment(0, 0, 2, 0);
    s->tr = reset_segment(0, 0, 3, 0);
    s->gdt.limit = 0xffff;
    s->idt.limit = 0xffff;
    s->cr0 = 0x60000010;
    s->apic_base = 0xfee00800; /* at its place, enabled */

    state->debugregs.dr6 = 0xffff0ff0;
    state->debugregs.dr7 = DR7_FIXED;
    state->xcr0 = 1;
    state->msr[VCPU_MSR_PAT] = 0x0007040600070406;
    store_le16(state->fxsave, 0x37f);
    store_le32(state->fxsave + 24, 0x1f80);
}

/** sregs_valid() - kvm_is_valid_sregs(), as far as it does not depend on CPUID. */
static bool sregs_valid(const struct kvm_sregs *s)
{
    if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG))
        return (s->cr4 & CR4_PAE) && (s->efer & EFER_LMA);
    return !(s->efer & EFER_LMA) && !s->cs.l;
}

static int set_xcrs(struct vcpu_state *state, const struct kvm_xcrs *xcrs, enum rule_id *rule)
{
    *rule = RULE_XCRS;
    if (xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags)
        return -EINVAL;
    for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
        if (xcrs->xcrs[i].xcr != 0)
            continue;
        if (!(xcrs->xcrs[i].value & 1))
            return -EINVAL;
        state->xcr0 = xcrs->xcrs[i].value;
        break;
    }
    *rule = RULE_COUNT;
    return 0;
}

static int set_msrs(struct vcpu_state *state, const uint8_t *data, size_t len)
{
    uint32_t n = load_le32(data);
    if (n > (len - sizeof(struct kvm_msrs)) / sizeof(struct kvm_msr_entry))
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++) {
        struct kvm_msr_entry entry;
        memcpy(&entry, data + sizeof(struct kvm_msrs) + i * sizeof(entry), sizeof(entry));
        if (entry.index == MSR_EFER)
            state->sregs.efer = entry.data;
        else if (entry.index == MSR_FS_BASE)
            state->sregs.fs.base = entry.data;
        else if (entry.index == MSR_GS_BASE)
            state->sregs.gs.base = entry.data;
        for (size_t m = 0; m < VCPU_MSR_COUNT; m++) {
            if (msr_index[m] == entry.index)
                state->msr[m] = entry.data;
        }
    }
    return (int)n;
}

static void set_fpu(struct vcpu_state *state, const struct kvm_fpu *fpu)
{
    /* kvm_arch_vcpu_ioctl_set_fpu() leaves MXCSR alone. */
    memcpy(state->fxsave + 32, fpu->fpr, 128);
    store_le16(state->fxsave, fpu->fcw);
    store_le16(state->fxsave + 2, fpu->fsw);
    store_le16(state->fxsave + 4, fpu->ftwx);
    store_le16(state->fxsave + 6, fpu->last_opcode);
    store_le64(state->fxsave + 8, fpu->last_ip);
    store_le64(state->fxsave + 16, fpu->last_dp);
    memcpy(state->fxsave + 160, fpu->xmm, sizeof(fpu->xmm));
}

static void set_xsave(struct vcpu_state *state, const uint8_t *region, size_t len)
{
    /* copy_uabi_to_xstate(): components that XSTATE_BV does not name keep what was there. */
    uint64_t present = load_le64(region + 512);
    if (present & XFEATURE_FP)
        memcpy(state->fxsave, region, 160);
    else if (present & (XFEATURE_SSE | XFEATURE_YMM))
        memcpy(state->fxsave + 24, region + 24, 8);
    if (present & XFEATURE_SSE)
        memcpy(state->fxsave + 160, region + 160, 256);
    if (present & XFEATURE_YMM)
        memcpy(state->ymm, region + 576, sizeof(state->ymm));
    else
        memset(state->ymm, 0, sizeof(state->ymm));
    uint32_t size, offset, ecx, edx;
    if ((present & XFEATURE_PKRU) && __get_cpuid_count(0xd, 9, &size, &offset, &ecx, &edx) &&
        size && range_within(offset, 4, len))
        state->pkru = load_le32(region + offset);
}

static int set_debugregs(struct vcpu_state *state, const struct kvm_debugregs *regs,
                         enum rule_id *rule)
{
    if (regs->flags || regs->dr6 >> 32 || regs->dr7 >> 32) {
        *rule = RULE_DEBUGREGS;
        return -EINVAL;
    }
    state->debugregs = *regs;
    return 0;
}

static int set_sregs(struct vcpu_state *state, const struct kvm_sregs *sregs, enum rule_id *rule)
{
    if (!sregs_valid(sregs)) {
        *rule = RULE_SREGS_MODE;
        return -EINVAL;
    }
    state->sregs = *sregs;
    return 0;
}

int vcpu_state_set(struct vcpu_state *state, unsigned long request, const void *data, size_t len,
                   enum rule_id *rule)
{
    *rule = RULE_COUNT;
    if (len < _IOC_SIZE(request))
        return -EFAULT;
    switch (request) {
    case KVM_SET_REGS:
        memcpy(&state->regs, data, sizeof(state->regs));
        state->regs.rflags |= 2;
        return 0;
    case KVM_SET_SREGS: {
        struct kvm_sregs sregs;
        memcpy(&sregs, data, sizeof(sregs));
        return set_sregs(state, &sregs, rule);
    }
    case KVM_SET_SREGS2: {
        /* The two structures are the same up to apic_base, which is all that a VMSA needs. */
        struct kvm_sregs sregs = state->sregs;
        memcpy(&sregs, data, offsetof(struct kvm_sregs2, flags));
        return set_sregs(state, &sregs, rule);
    }
    case KVM_SET_DEBUGREGS: {
        struct kvm_debugregs regs;
        memcpy(&regs, data, sizeof(regs));
        return set_debugregs(state, &regs, rule);
    }
    case KVM_SET_XCRS: {
        struct kvm_xcrs xcrs;
        memcpy(&xcrs, data, sizeof(xcrs));
        return set_xcrs(state, &xcrs, rule);
    }
    case KVM_SET_MSRS:
        return set_msrs(state, data, len);
    case KVM_SET_FPU: {
        struct kvm_fpu fpu;
        memcpy(&fpu, data, sizeof(fpu));
        set_fpu(state, &fpu);
        return 0;
    }
    case KVM_SET_XSAVE:
        set_xsave(state, data, len);
        return 0;
    case KVM_SET_GUEST_DEBUG: {
        uint32_t control = load_le32(data);
        state->guest_debug = control & KVM_GUESTDBG_ENABLE ? control : 0;
        return 0;
    }
    default:
        return 0;
    }
}

static int get_msrs(const struct vcpu_state *state, uint8_t *data, size_t len)
{
    uint32_t n = load_le32(data);
    if (len < sizeof(struct kvm_msrs) ||
        n > (len - sizeof(struct kvm_msrs)) / sizeof(struct kvm_msr_entry))
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *entry = data + sizeof(struct kvm_msrs) + i * sizeof(struct kvm_msr_entry);
        uint64_t value = 0;
        for (size_t m = 0; m < VCPU_MSR_COUNT; m++) {
            if (msr_index[m] == load_le32(entry))
                value = state->msr[m];
        }
        store_le64(entry + offsetof(struct kvm_msr_entry, data), value);
    }
    return (int)n;
}

/** seen_sregs() - svm_get_segment(): data segments are shown as accessed, the task register as busy. */
static struct kvm_sregs seen_sregs(const struct kvm_sregs *sregs)
{
    struct kvm_sregs seen = *sregs;
    struct kvm_segment *const data[] = {&seen.ds, &seen.es, &seen.fs, &seen.gs};
    for (size_t i = 0; i < ARRAY_SIZE(data); i++)
        data[i]->type |= 1;
    seen.tr.type |= 2;
    return seen;
}

int vcpu_state_get(const struct vcpu_state *state, unsigned long request, void *data, size_t len)
{
    if (len < _IOC_SIZE(request))
        return -EFAULT;
    switch (request) {
    case KVM_GET_REGS:
        memcpy(data, &state->regs, sizeof(state->regs));
        return 0;
    case KVM_GET_SREGS:
    case KVM_GET_SREGS2: {
        /* What no VMSA holds, CR8, the APIC's base and pending interrupts, stays as it came. */
        struct kvm_sregs seen = seen_sregs(&state->sregs);
        memcpy(data, &seen, offsetof(struct kvm_sregs, cr8));
        memcpy((uint8_t *)data + offsetof(struct kvm_sregs, efer), &seen.efer, sizeof(seen.efer));
        return 0;
    }
    case KVM_GET_DEBUGREGS:
        memcpy(data, &state->debugregs, sizeof(state->debugregs));
        return 0;
    case KVM_GET_XCRS: {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1};
        xcrs.xcrs[0].value = state->xcr0;
        memcpy(data, &xcrs, sizeof(xcrs));
        return 0;
    }
    case KVM_GET_MSRS:
        return get_msrs(state, data, len);
    case KVM_GET_XSAVE:
    case KVM_GET_XSAVE2:
        memset(data, 0, sizeof(struct kvm_xsave));
        memcpy(data, state->fxsave, sizeof(state->fxsave));
        store_le64((uint8_t *)data + 512, XFEATURE_FP | XFEATURE_SSE);
        return 0;
    default:
        return -ENOTTY;
    }
}
