#include "launch/vcpu_vmsa.h"

#include "base/bytes.h"

#define EFER_SVME BIT64(12)
#define CR4_MCE BIT64(6)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define RFLAGS_FIXED 2u

/* GCE's own page attribute table at reset. */
#define GCE_PAT 0x00070106u

static struct vmsa_segment to_segment(const struct plan_segment *s)
{
    return (struct vmsa_segment){.selector = htole16(s->selector),
                                 .attributes = htole16(s->attributes & 0xfff),
                                 .limit = htole32(s->limit),
                                 .base = htole64(s->base)};
}

static struct plan_segment from_segment(const struct vmsa_segment *s)
{
    return (struct plan_segment){.selector = le16toh(s->selector),
                                 .attributes = le16toh(s->attributes),
                                 .limit = le32toh(s->limit),
                                 .base = le64toh(s->base)};
}

/* clang-format off */
/* Fields that have the same name and meaning in both. */
#define SEGMENTS(X) X(es) X(cs) X(ss) X(ds) X(fs) X(gs) X(gdtr) X(ldtr) X(idtr) X(tr)
#define NATIVE_REGISTERS(X)                                                                        \
    X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rsp) X(rbp) X(r8) X(r9) X(r10) X(r11) X(r12)       \
    X(r13) X(r14) X(r15) X(rip) X(cr0) X(cr3) X(cr4) X(efer)
#define REGISTERS(X) NATIVE_REGISTERS(X) X(rflags) X(xcr0) X(dr6) X(dr7)
/* clang-format on */

void vcpu_to_vmsa(struct vmsa *vmsa, const struct plan_vcpu *vcpu, uint64_t features,
                  enum launch_vmm vmm)
{
    struct plan_vcpu state = *vcpu;
    if (vmm == LAUNCH_CLOUD_HYPERVISOR) {
        struct plan_vcpu reset;
        plan_vcpu_reset(&reset, vcpu->index);
        state.pat = reset.pat;
        state.xcr0 = reset.xcr0;
        state.dr6 = reset.dr6;
        state.dr7 = reset.dr7;
        state.mxcsr = reset.mxcsr;
        state.fcw = reset.fcw;
    }
    state.efer |= EFER_SVME;
    state.cr4 |= CR4_MCE;
    state.cr0 &= ~(CR0_CD | CR0_NW);
    state.rflags |= RFLAGS_FIXED;
    state.gdtr.selector = state.gdtr.attributes = 0;
    state.idtr.selector = state.idtr.attributes = 0;

    *vmsa = (struct vmsa){
        .cpl = (uint8_t)(state.ss.attributes >> 5 & 3),
        .g_pat = htole64(state.pat),
        .sev_features = htole64(features),
        .mxcsr = htole32(state.mxcsr),
        .x87_fcw = htole16(state.fcw),
    };
#define COPY(name) vmsa->name = to_segment(&state.name);
    SEGMENTS(COPY)
#undef COPY
#define COPY(name) vmsa->name = htole64(state.name);
    REGISTERS(COPY)
#undef COPY
}

void vcpu_from_vmsa(struct plan_vcpu *vcpu, uint32_t index, const struct vmsa *vmsa)
{
    *vcpu = (struct plan_vcpu){
        .index = index,
        .pat = le64toh(vmsa->g_pat),
        .mxcsr = le32toh(vmsa->mxcsr),
        .fcw = le16toh(vmsa->x87_fcw),
    };
#define COPY(name) vcpu->name = from_segment(&vmsa->name);
    SEGMENTS(COPY)
#undef COPY
#define COPY(name) vcpu->name = le64toh(vmsa->name);
    REGISTERS(COPY)
#undef COPY
    /* KVM sets it in every guest's VMSA, and lets no guest have it that cannot run guests of its own. */
    vcpu->efer &= ~EFER_SVME;
}

void vcpu_from_native(struct plan_vcpu *vcpu, uint32_t index, const IgvmNativeVpContextX64 *c)
{
    plan_vcpu_reset(vcpu, index);
    struct plan_segment data = {.base = c->data_base,
                                .limit = c->data_limit,
                                .selector = c->data_selector,
                                .attributes = (c->data_attributes & 0xff) |
                                              (c->data_attributes >> 4 & 0xf00)};
    vcpu->cs = (struct plan_segment){
        .base = c->code_base,
        .limit = c->code_limit,
        .selector = c->code_selector,
        .attributes = (uint16_t)((c->code_attributes & 0xff) | (c->code_attributes >> 4 & 0xf00))};
    vcpu->es = vcpu->ss = vcpu->ds = vcpu->fs = vcpu->gs = data;
    vcpu->gs.base = c->gs_base;
    vcpu->gdtr = (struct plan_segment){.base = c->gdtr_base, .limit = c->gdtr_limit};
    vcpu->idtr = (struct plan_segment){.base = c->idtr_base, .limit = c->idtr_limit};
    vcpu->ldtr = (struct plan_segment){.limit = 0xffff, .attributes = 0x82};
    vcpu->tr = (struct plan_segment){.limit = 0xffff, .attributes = 0x8b};
#define COPY(name) vcpu->name = c->name;
    NATIVE_REGISTERS(COPY)
#undef COPY
    vcpu->rflags = c->rflags | RFLAGS_FIXED;
}

void vcpu_firmware_reset(struct plan_vcpu *vcpu, uint32_t index, uint32_t address, uint64_t rdx,
                         enum launch_vmm vmm)
{
    plan_vcpu_reset(vcpu, index);
    const struct plan_segment data = {.limit = 0xffff, .attributes = 0x93};
    vcpu->es = vcpu->ds = vcpu->fs = vcpu->gs = vcpu->ss = data;
    vcpu->cs = (struct plan_segment){
        .base = address & 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attributes = 0x9b};
    vcpu->gdtr = vcpu->idtr = (struct plan_segment){.limit = 0xffff};
    vcpu->ldtr = (struct plan_segment){.limit = 0xffff, .attributes = 0x82};
    vcpu->tr = (struct plan_segment){.limit = 0xffff, .attributes = 0x8b};
    vcpu->rip = address & 0xffff;
    vcpu->rdx = rdx;
    vcpu->cr0 = 0x10; /* CD and NW, set at reset, are cleared by KVM; ET is fixed */
    if (vmm == LAUNCH_EC2) {
        if (address == 0xfffffff0)
            vcpu->cs.attributes = 0x9a;
        vcpu->ss.attributes = 0x92;
        vcpu->tr.attributes = 0x83;
    }
    if (vmm == LAUNCH_EC2 || vmm == LAUNCH_GCE) {
        vcpu->mxcsr = 0;
        vcpu->fcw = 0;
    }
    if (vmm == LAUNCH_GCE)
        vcpu->pat = GCE_PAT;
}

const char *vmsa_difference(const struct vmsa *a, const struct vmsa *b)
{
#define COMPARE(name)                                     \
    if (memcmp(&a->name, &b->name, sizeof(a->name)) != 0) \
        return #name;
    SEGMENTS(COMPARE)
    REGISTERS(COMPARE)
    COMPARE(cpl)
    COMPARE(vmpl)
    COMPARE(cr2)
    COMPARE(g_pat)
    COMPARE(mxcsr)
    COMPARE(x87_fcw)
    COMPARE(sev_features)
#undef COMPARE
    return memcmp(a, b, sizeof(*a)) == 0 ? NULL : "another field";
}
