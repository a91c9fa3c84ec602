/* The VMSA: where a vCPU's registers are saved, and measured from (AMD APM volume 2, table B-4). */
#ifndef HUSK_SNP_VMSA_H
#define HUSK_SNP_VMSA_H

#include <stddef.h>
#include <stdint.h>

struct __attribute__((packed)) vmsa_segment {
    uint16_t selector;
    uint16_t attributes; /* VMCB form, 12 bits */
    uint32_t limit;
    uint64_t base;
};

struct __attribute__((packed)) vmsa {
    struct vmsa_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    uint64_t pl_ssp[4];
    uint64_t u_cet;
    uint8_t reserved1[2];
    uint8_t vmpl;
    uint8_t cpl;
    uint8_t reserved2[4];
    uint64_t efer;
    uint8_t reserved3[104];
    uint64_t xss;
    uint64_t cr4, cr3, cr0;
    uint64_t dr7, dr6;
    uint64_t rflags;
    uint64_t rip;
    uint64_t dr[4];
    uint64_t dr_mask[4];
    uint8_t reserved4[24];
    uint64_t rsp;
    uint64_t s_cet, ssp, isst_addr;
    uint64_t rax;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t cr2;
    uint8_t reserved5[32];
    uint64_t g_pat;
    uint64_t dbgctl, br_from, br_to, last_excp_from, last_excp_to;
    uint8_t reserved6[72];
    uint64_t spec_ctrl;
    uint32_t pkru;
    uint32_t tsc_aux;
    uint8_t reserved7[24];
    uint64_t rcx, rdx, rbx;
    uint64_t reserved8;
    uint64_t rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint8_t reserved9[16];
    uint64_t exit_info1, exit_info2, exit_int_info, next_rip;
    uint64_t sev_features;
    uint64_t vintr_ctrl, guest_exit_code, virtual_tom, tlb_id, pcpu_id, event_inj;
    uint64_t xcr0;
    uint8_t reserved10[16];
    uint64_t x87_dp;
    uint32_t mxcsr;
    uint16_t x87_ftw, x87_fsw, x87_fcw, x87_fop, x87_ds, x87_cs;
    uint64_t x87_rip;
    uint8_t fpreg_x87[80];
    uint8_t fpreg_xmm[256];
    uint8_t fpreg_ymm[256];
    uint8_t unused[2448];
};

_Static_assert(sizeof(struct vmsa) == 4096, "a VMSA is a page");
_Static_assert(offsetof(struct vmsa, cpl) == 0xcb, "APM table B-4");
_Static_assert(offsetof(struct vmsa, efer) == 0xd0, "APM table B-4");
_Static_assert(offsetof(struct vmsa, xss) == 0x140, "APM table B-4");
_Static_assert(offsetof(struct vmsa, rip) == 0x178, "APM table B-4");
_Static_assert(offsetof(struct vmsa, rsp) == 0x1d8, "APM table B-4");
_Static_assert(offsetof(struct vmsa, rax) == 0x1f8, "APM table B-4");
_Static_assert(offsetof(struct vmsa, g_pat) == 0x268, "APM table B-4");
_Static_assert(offsetof(struct vmsa, rcx) == 0x308, "APM table B-4");
_Static_assert(offsetof(struct vmsa, sev_features) == 0x3b0, "APM table B-4");
_Static_assert(offsetof(struct vmsa, xcr0) == 0x3e8, "APM table B-4");
_Static_assert(offsetof(struct vmsa, mxcsr) == 0x408, "APM table B-4");
_Static_assert(offsetof(struct vmsa, x87_fcw) == 0x410, "APM table B-4");

/* SEV_FEATURES (APM volume 2, table B-4). */
#define SEV_FEATURE_SNP_ACTIVE (1u << 0)

/* Where KVM has the secure processor measure VMSAs: address bits 51:12 set. */
#define VMSA_GPA 0xFFFFFFFFF000ULL

#endif
