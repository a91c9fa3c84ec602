#include "kvm/kvm.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int kvm_vcpu_create(const struct kvm *kvm, int vm_fd, uint32_t id, struct kvm_vcpu *vcpu,
                    struct error *err)
{
    _cleanup_close_ int fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
    if (fd < 0) {
        int code = -errno;
        error_set_errno(err, code, "KVM could not make a vCPU with APIC id %u", id);
        if (code == -EINVAL)
            error_hint(err, "this KVM allows %u vCPUs in a VM", kvm->max_vcpus);
        return code;
    }
    void *run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (run == MAP_FAILED)
        return error_set_errno(err, -errno, "could not map the state of the vCPU with APIC id %u",
                               id);
    *vcpu = (struct kvm_vcpu){.run = run, .run_size = kvm->run_size};
    vcpu->fd = take_fd(&fd);
    return 0;
}

void kvm_vcpu_destroy(struct kvm_vcpu *vcpu)
{
    if (vcpu->run)
        munmap(vcpu->run, vcpu->run_size);
    cleanup_close(&vcpu->fd);
    *vcpu = (struct kvm_vcpu){.fd = -1};
}

/** segment_of() - a plan's segment (VMCB attributes, AMD APM volume 2, 15.5.1) as KVM takes it. */
static struct kvm_segment segment_of(const struct plan_segment *s)
{
    uint16_t a = s->attributes;
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = a & 0xf,
        .s = (a >> 4) & 1,
        .dpl = (a >> 5) & 3,
        .present = (a >> 7) & 1,
        .avl = (a >> 8) & 1,
        .l = (a >> 9) & 1,
        .db = (a >> 10) & 1,
        .g = (a >> 11) & 1,
        .unusable = !((a >> 7) & 1),
    };
}

static int refused(const char *what, const struct plan_vcpu *state, struct error *err)
{
    return error_set_errno(err, -errno, "KVM refused the %s of vCPU %u", what, state->index);
}

static int set_special_registers(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                                 struct error *err)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return error_set_errno(err, -errno, "KVM did not tell the registers of vCPU %u",
                               state->index);
    sregs.cs = segment_of(&state->cs);
    sregs.ds = segment_of(&state->ds);
    sregs.es = segment_of(&state->es);
    sregs.fs = segment_of(&state->fs);
    sregs.gs = segment_of(&state->gs);
    sregs.ss = segment_of(&state->ss);
    sregs.tr = segment_of(&state->tr);
    sregs.ldt = segment_of(&state->ldtr);
    sregs.gdt.base = state->gdtr.base;
    sregs.gdt.limit = (uint16_t)state->gdtr.limit;
    sregs.idt.base = state->idtr.base;
    sregs.idt.limit = (uint16_t)state->idtr.limit;
    sregs.cr0 = state->cr0;
    sregs.cr3 = state->cr3;
    sregs.cr4 = state->cr4;
    sregs.efer = state->efer;
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
        return refused("control registers and segments", state, err);
    return 0;
}

static int set_general_registers(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                                 struct error *err)
{
    struct kvm_regs regs = {
        .rax = state->rax,
        .rbx = state->rbx,
        .rcx = state->rcx,
        .rdx = state->rdx,
        .rsi = state->rsi,
        .rdi = state->rdi,
        .rsp = state->rsp,
        .rbp = state->rbp,
        .r8 = state->r8,
        .r9 = state->r9,
        .r10 = state->r10,
        .r11 = state->r11,
        .r12 = state->r12,
        .r13 = state->r13,
        .r14 = state->r14,
        .r15 = state->r15,
        .rip = state->rip,
        .rflags = state->rflags,
    };
    if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
        return refused("general registers", state, err);
    return 0;
}

/* The XSAVE area: AMD APM volume 2, 11.5.10. */
#define XSAVE_FCW 0
#define XSAVE_MXCSR 24
#define XSAVE_XSTATE_BV 512
#define XSTATE_X87 BIT64(0)
#define XSTATE_SSE BIT64(1)

/** set_floating_point() - KVM_SET_FPU would leave MXCSR out, and FCW too where the state is marked as initial. */
static int set_floating_point(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                              struct error *err)
{
    struct kvm_xsave xsave;
    if (ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave) < 0)
        return error_set_errno(err, -errno, "KVM did not tell the floating-point state of vCPU %u",
                               state->index);
    uint8_t *area = (uint8_t *)xsave.region;
    store_le16(area + XSAVE_FCW, state->fcw);
    store_le32(area + XSAVE_MXCSR, state->mxcsr);
    store_le64(area + XSAVE_XSTATE_BV, load_le64(area + XSAVE_XSTATE_BV) | XSTATE_X87 | XSTATE_SSE);
    if (ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave) < 0)
        return refused("floating-point control words", state, err);
    return 0;
}

static int set_debug_registers(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                               struct error *err)
{
    struct kvm_debugregs debugregs = {.dr6 = state->dr6, .dr7 = state->dr7};
    if (ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debugregs) < 0)
        return refused("debug registers", state, err);
    return 0;
}

static int set_xcr0(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state, struct error *err)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state->xcr0}}};
    if (ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) < 0)
        return refused("XCR0", state, err);
    return 0;
}

static int set_pat(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state, struct error *err)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {.head.nmsrs = 1, .entry = {.index = 0x277 /* IA32_PAT */, .data = state->pat}};
    int set = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
    if (set < 0)
        return refused("PAT", state, err);
    if (set == 0)
        return error_set(err, -EINVAL, "KVM refused the PAT of vCPU %u", state->index);
    return 0;
}

int kvm_vcpu_set_state(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                       struct error *err)
{
    struct plan_vcpu reset;
    plan_vcpu_reset(&reset, state->index);

    int ret = set_special_registers(vcpu, state, err);
    if (ret == 0)
        ret = set_general_registers(vcpu, state, err);
    if (ret == 0 && (state->fcw != reset.fcw || state->mxcsr != reset.mxcsr))
        ret = set_floating_point(vcpu, state, err);
    if (ret == 0 && (state->dr6 != reset.dr6 || state->dr7 != reset.dr7))
        ret = set_debug_registers(vcpu, state, err);
    if (ret == 0 && state->xcr0 != reset.xcr0)
        ret = set_xcr0(vcpu, state, err);
    if (ret == 0 && state->pat != reset.pat)
        ret = set_pat(vcpu, state, err);
    return ret;
}

uint64_t kvm_vcpu_rip(const struct kvm_vcpu *vcpu)
{
    struct kvm_regs regs;
    return ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}
