/* The VMSA: what KVM copies from the VMCB and its own copies of the registers (Linux 6.12, sev.c sev_es_sync_vmsa). */
#include "sim/vcpu_state.h"

#include "base/bytes.h"

#define EFER_SVME BIT64(12)
#define CR4_MCE BIT64(6)
#define CR0_CD_NW (BIT64(30) | BIT64(29))

/* Offsets within the save area (APM volume 2, table B-4). */
enum vmsa_offset {
    VMSA_ES = 0x000,
    VMSA_CS = 0x010,
    VMSA_SS = 0x020,
    VMSA_DS = 0x030,
    VMSA_FS = 0x040,
    VMSA_GS = 0x050,
    VMSA_GDTR = 0x060,
    VMSA_LDTR = 0x070,
    VMSA_IDTR = 0x080,
    VMSA_TR = 0x090,
    VMSA_CPL = 0x0cb,
    VMSA_EFER = 0x0d0,
    VMSA_XSS = 0x140,
    VMSA_CR4 = 0x148,
    VMSA_CR3 = 0x150,
    VMSA_CR0 = 0x158,
    VMSA_DR7 = 0x160,
    VMSA_DR6 = 0x168,
    VMSA_RFLAGS = 0x170,
    VMSA_RIP = 0x178,
    VMSA_RSP = 0x1d8,
    VMSA_RAX = 0x1f8,
    VMSA_STAR = 0x200, /* LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE, SYSENTER_CS, _ESP, _EIP follow */
    VMSA_G_PAT = 0x268,
    VMSA_DBGCTL = 0x270,
    VMSA_SPEC_CTRL = 0x2e0,
    VMSA_PKRU = 0x2e8,
    VMSA_RCX = 0x308,
    VMSA_RDX = 0x310,
    VMSA_RBX = 0x318,
    VMSA_RBP = 0x328,
    VMSA_RSI = 0x330,
    VMSA_RDI = 0x338,
    VMSA_R8 = 0x340,
    VMSA_SEV_FEATURES = 0x3b0,
    VMSA_XCR0 = 0x3e8,
    VMSA_X87_DP = 0x400,
    VMSA_MXCSR = 0x408,
    VMSA_X87_FTW = 0x40c,
    VMSA_X87_FSW = 0x40e,
    VMSA_X87_FCW = 0x410,
    VMSA_X87_FOP = 0x412,
    VMSA_X87_RIP = 0x418,
    VMSA_FPREG_X87 = 0x420,
    VMSA_FPREG_XMM = 0x470,
    VMSA_FPREG_YMM = 0x570,
};

/** put_segment() - svm_set_segment(): attributes in the VMCB's 12-bit form. */
static void put_segment(uint8_t *at, const struct kvm_segment *s)
{
    uint32_t attributes = (s->type & 0xfu) | (s->s & 1u) << 4 | (s->dpl & 3u) << 5 |
                          ((s->present & 1u) && !s->unusable ? BIT(7) : 0) | (s->avl & 1u) << 8 |
                          (s->l & 1u) << 9 | (s->db & 1u) << 10 | (s->g & 1u) << 11;
    store_le16(at, s->selector);
    store_le16(at + 2, (uint16_t)attributes);
    store_le32(at + 4, s->limit);
    store_le64(at + 8, s->base);
}

static void put_table(uint8_t *at, const struct kvm_dtable *table)
{
    store_le32(at + 4, table->limit);
    store_le64(at + 8, table->base);
}

static void put_segments(const struct kvm_sregs *s, uint8_t *page)
{
    put_segment(page + VMSA_ES, &s->es);
    put_segment(page + VMSA_CS, &s->cs);
    put_segment(page + VMSA_SS, &s->ss);
    put_segment(page + VMSA_DS, &s->ds);
    put_segment(page + VMSA_FS, &s->fs);
    put_segment(page + VMSA_GS, &s->gs);
    put_table(page + VMSA_GDTR, &s->gdt);
    put_segment(page + VMSA_LDTR, &s->ldt);
    put_table(page + VMSA_IDTR, &s->idt);
    put_segment(page + VMSA_TR, &s->tr);
    page[VMSA_CPL] = s->ss.dpl & 3;
}

static void put_general(const struct kvm_regs *r, uint8_t *page)
{
    store_le64(page + VMSA_RAX, r->rax);
    store_le64(page + VMSA_RBX, r->rbx);
    store_le64(page + VMSA_RCX, r->rcx);
    store_le64(page + VMSA_RDX, r->rdx);
    store_le64(page + VMSA_RSP, r->rsp);
    store_le64(page + VMSA_RBP, r->rbp);
    store_le64(page + VMSA_RSI, r->rsi);
    store_le64(page + VMSA_RDI, r->rdi);
    const uint64_t high[] = {r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    for (size_t i = 0; i < ARRAY_SIZE(high); i++)
        store_le64(page + VMSA_R8 + 8 * i, high[i]);
    store_le64(page + VMSA_RIP, r->rip);
    store_le64(page + VMSA_RFLAGS, r->rflags);
}

/** put_fpu() - the x87 registers are eight times their low 8 bytes, then eight times their high 2. */
static void put_fpu(const struct vcpu_state *state, uint8_t *page)
{
    const uint8_t *fx = state->fxsave;
    memcpy(page + VMSA_X87_DP, fx + 16, 8);
    memcpy(page + VMSA_MXCSR, fx + 24, 4);
    memcpy(page + VMSA_X87_FTW, fx + 4, 2);
    memcpy(page + VMSA_X87_FSW, fx + 2, 2);
    memcpy(page + VMSA_X87_FCW, fx, 2);
    memcpy(page + VMSA_X87_FOP, fx + 6, 2);
    memcpy(page + VMSA_X87_RIP, fx + 8, 8);
    for (size_t i = 0; i < 8; i++) {
        memcpy(page + VMSA_FPREG_X87 + 8 * i, fx + 32 + 16 * i, 8);
        memcpy(page + VMSA_FPREG_X87 + 64 + 2 * i, fx + 32 + 16 * i + 8, 2);
    }
    memcpy(page + VMSA_FPREG_XMM, fx + 160, 256);
    memcpy(page + VMSA_FPREG_YMM, state->ymm, 256);
}

void vcpu_state_vmsa(const struct vcpu_state *state, uint64_t features, bool keep_cd_nw,
                     uint8_t page[VMSA_BYTES])
{
    memset(page, 0, VMSA_BYTES);
    put_segments(&state->sregs, page);
    put_general(&state->regs, page);

    const struct kvm_sregs *s = &state->sregs;
    store_le64(page + VMSA_EFER, s->efer | EFER_SVME);
    store_le64(page + VMSA_CR4,
               s->cr4 | CR4_MCE); /* svm_set_cr4() adds the host's, which Linux sets */
    store_le64(page + VMSA_CR3, s->cr3);
    store_le64(page + VMSA_CR0, keep_cd_nw ? s->cr0 : s->cr0 & ~CR0_CD_NW);
    store_le64(page + VMSA_DR7, state->debugregs.dr7);
    store_le64(page + VMSA_DR6, state->debugregs.dr6);
    store_le64(page + VMSA_XCR0, state->xcr0);
    store_le32(page + VMSA_PKRU, state->pkru);

    for (size_t i = VCPU_MSR_STAR; i <= VCPU_MSR_SYSENTER_EIP; i++)
        store_le64(page + VMSA_STAR + 8 * i, state->msr[i]);
    store_le64(page + VMSA_G_PAT, state->msr[VCPU_MSR_PAT]);
    store_le64(page + VMSA_DBGCTL, state->msr[VCPU_MSR_DEBUGCTL]);
    store_le64(page + VMSA_SPEC_CTRL, state->msr[VCPU_MSR_SPEC_CTRL]);
    store_le64(page + VMSA_XSS, state->msr[VCPU_MSR_XSS]);
    store_le64(page + VMSA_SEV_FEATURES, features);
    put_fpu(state, page);
}
