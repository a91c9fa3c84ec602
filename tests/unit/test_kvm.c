/* Against the real /dev/kvm: what these tests need of it, every KVM has, paravirtual ones included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kvm/kvm.h"
#include "launch/vcpu_vmsa.h"
#include "memory/memory.h"
#include "x86/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void a_device_that_is_no_kvm_is_refused(void **state)
{
    (void)state;
    struct kvm kvm;
    struct error err = ERROR_INIT;
    assert_int_equal(kvm_open(&kvm, "/nonexistent/kvm", &err), -ENOENT);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(kvm_open(&kvm, "/dev/null", &err), -EPROTO);
    assert_non_null(strstr(err.message, "not KVM"));
}

/** open_kvm() - skips, by name, where there is none. */
static void open_kvm(struct kvm *kvm)
{
    struct error err = ERROR_INIT;
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        print_message("skipped: needs a /dev/kvm that can be opened\n");
        skip();
    }
    assert_int_equal(kvm_open(kvm, "/dev/kvm", &err), 0);
}

static void a_guest_runs_its_first_instruction(void **state)
{
    (void)state;
    struct kvm kvm;
    open_kvm(&kvm);
    struct error err = ERROR_INIT;
    int vm = kvm_create_vm(&kvm, 0, &err);
    assert_true(vm >= 0);
    assert_int_equal(kvm_split_irqchip(vm, 24, &err), 0);

    struct guest_memory memory;
    struct memory_params params = {.size = MIB(2), .low_size = MIB(2)};
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    assert_int_equal(memory_register(&memory, &kvm, vm, &err), 0);
    static const uint8_t out_42_to_80[] = {0xb0, 42, 0xe6, 0x80, 0xf4};
    memcpy(memory_ptr(&memory, 0x1000, 5), out_42_to_80, 5);

    struct kvm_vcpu vcpu;
    assert_int_equal(kvm_vcpu_create(&kvm, vm, 0, &vcpu, &err), 0);
    struct plan_vcpu cpu;
    plan_vcpu_reset(&cpu, 0);
    cpu.cr0 = 0x11;
    cpu.rip = 0x1000;
    cpu.cs = (struct plan_segment){.limit = 0xffffffff, .selector = 8, .attributes = 0xc9b};
    cpu.ss = cpu.ds = cpu.es = cpu.fs = cpu.gs =
        (struct plan_segment){.limit = 0xffffffff, .selector = 16, .attributes = 0xc93};
    cpu.tr = (struct plan_segment){.limit = 0x67, .attributes = 0x8b};
    cpu.ldtr = (struct plan_segment){.attributes = 0x82};
    assert_int_equal(kvm_vcpu_set_state(&vcpu, &cpu, &err), 0);
    assert_int_equal(kvm_vcpu_rip(&vcpu), 0x1000);

    assert_int_equal(ioctl(vcpu.fd, KVM_RUN, 0), 0);
    assert_int_equal(vcpu.run->exit_reason, KVM_EXIT_IO);
    assert_int_equal(vcpu.run->io.port, 0x80);
    assert_int_equal(*((uint8_t *)vcpu.run + vcpu.run->io.data_offset), 42);

    kvm_vcpu_destroy(&vcpu);
    close(vm);
    memory_destroy(&memory);
    kvm_close(&kvm);
}

/** assert_control_registers() - what KVM_GET_SREGS, KVM_GET_DEBUGREGS and KVM_GET_XCRS tell is @cpu's. */
static void assert_control_registers(const struct kvm_vcpu *vcpu, const struct plan_vcpu *cpu)
{
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_xcrs xcrs;
    assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
    assert_int_equal(ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &debug), 0);
    assert_int_equal(ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs), 0);
    assert_int_equal(sregs.cr0, cpu->cr0);
    assert_int_equal(sregs.cr3, cpu->cr3);
    assert_int_equal(sregs.cr4, cpu->cr4);
    assert_int_equal(sregs.efer, cpu->efer);
    assert_int_equal(sregs.gdt.base, cpu->gdtr.base);
    assert_int_equal(sregs.gdt.limit, cpu->gdtr.limit);
    assert_int_equal(sregs.idt.base, cpu->idtr.base);
    assert_int_equal(sregs.idt.limit, cpu->idtr.limit);
    assert_int_equal(sregs.cs.selector, cpu->cs.selector);
    assert_int_equal(sregs.cs.l, 1);
    assert_int_equal(sregs.cs.g, 1);
    assert_int_equal(sregs.cs.type, 0xb);
    assert_int_equal(sregs.fs.base, cpu->fs.base);
    assert_int_equal(sregs.gs.base, cpu->gs.base);
    assert_int_equal(debug.dr6, cpu->dr6);
    assert_int_equal(debug.dr7, cpu->dr7);
    assert_int_equal(xcrs.xcrs[0].value, cpu->xcr0);
}

static void the_registers_of_a_context_arrive(void **state)
{
    (void)state;
    struct kvm kvm;
    open_kvm(&kvm);
    struct error err = ERROR_INIT;
    int vm = kvm_create_vm(&kvm, 0, &err);
    assert_true(vm >= 0);
    assert_int_equal(kvm_split_irqchip(vm, 24, &err), 0);
    struct kvm_vcpu vcpu;
    assert_int_equal(kvm_vcpu_create(&kvm, vm, 0, &vcpu, &err), 0);
    struct kvm_cpuid2 *cpuid = cpuid_supported(&kvm, &err);
    assert_non_null(cpuid);
    assert_int_equal(cpuid_set(&vcpu, cpuid, 0, &err), 0);
    free(cpuid);

    const struct vmsa vmsa = {
        .es = {0x18, 0xc93, 0xffffffff, 0},
        .cs = {0x10, 0xa9b, 0xffffffff, 0},
        .ss = {0x18, 0xc93, 0xffffffff, 0},
        .ds = {0x18, 0xc93, 0xffffffff, 0},
        .fs = {0x18, 0xc93, 0xffffffff, 0x1122334455},
        .gs = {0x18, 0xc93, 0xffffffff, 0x5544332211},
        .gdtr = {0, 0, 0x27, 0x7000},
        .ldtr = {0, 0x82, 0xffff, 0},
        .idtr = {0, 0, 0xfff, 0x8000},
        .tr = {0, 0x8b, 0xffff, 0},
        .efer = 0x1d00, /* SVME, NXE, LMA, LME */
        .cr4 = 0x620,
        .cr3 = 0x9000,
        .cr0 = 0x80000033,
        .dr7 = 0x401,
        .dr6 = 0xffff4ff0,
        .rflags = 2,
        .rip = 0x123456,
        .g_pat = 0x0606060606060606,
        .xcr0 = 3,
        .mxcsr = 0x1fbf,
        .x87_fcw = 0x27f,
    };
    struct plan_vcpu cpu;
    vcpu_from_vmsa(&cpu, 0, &vmsa);
    assert_int_equal(cpu.efer, 0xd00);
    assert_int_equal(kvm_vcpu_set_state(&vcpu, &cpu, &err), 0);
    assert_control_registers(&vcpu, &cpu);
    assert_int_equal(kvm_vcpu_rip(&vcpu), 0x123456);
    struct kvm_xsave xsave;
    assert_int_equal(ioctl(vcpu.fd, KVM_GET_XSAVE, &xsave), 0);
    assert_int_equal(xsave.region[0] & 0xffff, 0x27f);
    assert_int_equal(xsave.region[6], 0x1fbf);
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {.head.nmsrs = 1, .entry.index = 0x277};
    assert_int_equal(ioctl(vcpu.fd, KVM_GET_MSRS, &msrs), 1);
    assert_int_equal(msrs.entry.data, 0x0606060606060606);

    kvm_vcpu_destroy(&vcpu);
    close(vm);
    kvm_close(&kvm);
}

static void events_and_routes_can_be_tied_and_untied(void **state)
{
    (void)state;
    struct kvm kvm;
    open_kvm(&kvm);
    struct error err = ERROR_INIT;
    int vm = kvm_create_vm(&kvm, 0, &err);
    assert_int_equal(kvm_split_irqchip(vm, 24, &err), 0);
    int event = eventfd(0, EFD_CLOEXEC);

    struct kvm_ioeventfd_at at = {.addr = 0xc0000000, .len = 2};
    assert_int_equal(kvm_ioeventfd(vm, event, &at, true, &err), 0);
    assert_int_equal(kvm_ioeventfd(vm, event, &at, true, &err), -EEXIST);
    assert_non_null(strstr(err.message, "0xc0000000"));
    assert_int_equal(kvm_ioeventfd(vm, event, &at, false, &err), 0);
    assert_int_equal(kvm_ioeventfd(vm, event, &at, false, &err), -ENOENT);

    struct kvm_routes *routes = kvm_routes_new(vm, 24);
    assert_non_null(routes);
    int first = kvm_routes_alloc(routes);
    int second = kvm_routes_alloc(routes);
    assert_int_equal(first, 24);
    assert_int_equal(second, 25);
    kvm_routes_release(routes, 24);
    assert_int_equal(kvm_routes_alloc(routes), 24);
    assert_int_equal(kvm_routes_set(routes, 4, 0xfee00000, 0x24), 0);
    assert_int_equal(kvm_routes_set(routes, 24, 0xfee00000, 0x25), 0);
    assert_int_equal(kvm_routes_set(routes, 4096, 0xfee00000, 0x25), -EINVAL);
    assert_int_equal(kvm_routes_commit(routes), 0);
    assert_int_equal(kvm_irqfd(vm, event, 24, true, &err), 0);
    assert_int_equal(kvm_irqfd(vm, event, 24, false, &err), 0);
    kvm_routes_clear(routes, 4);
    assert_int_equal(kvm_routes_commit(routes), 0);
    kvm_routes_free(routes);

    close(event);
    close(vm);
    kvm_close(&kvm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_is_no_kvm_is_refused),
        cmocka_unit_test(a_guest_runs_its_first_instruction),
        cmocka_unit_test(the_registers_of_a_context_arrive),
        cmocka_unit_test(events_and_routes_can_be_tied_and_untied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
