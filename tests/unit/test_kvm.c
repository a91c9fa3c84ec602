/* Against the real /dev/kvm: what these tests need of it, every KVM has, paravirtual ones included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kvm/kvm.h"
#include "memory/memory.h"

#include <errno.h>
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
        cmocka_unit_test(events_and_routes_can_be_tied_and_untied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
