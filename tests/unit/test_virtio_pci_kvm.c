/* The transport on the real /dev/kvm: a guest of a few instructions rings, and KVM takes what is asked of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memory/memory.h"
#include "virtio_driver.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct machine {
    struct kvm kvm;
    int vm;
    struct kvm_routes *routes;
    struct virtio_driver driver;
};

/** machine_open() - skips, by name, where there is no KVM. */
static void machine_open(struct machine *m)
{
    struct error err = ERROR_INIT;
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        print_message("skipped: needs a /dev/kvm that can be opened\n");
        skip();
    }
    assert_int_equal(kvm_open(&m->kvm, "/dev/kvm", &err), 0);
    m->vm = kvm_create_vm(&m->kvm, 0, &err);
    assert_true(m->vm >= 0);
    assert_int_equal(kvm_split_irqchip(m->vm, 24, &err), 0);
    m->routes = kvm_routes_new(m->vm, 24);
    assert_non_null(m->routes);
    assert_int_equal(driver_init(&m->driver, m->vm, m->routes), 0);
}

static void machine_close(struct machine *m)
{
    driver_destroy(&m->driver);
    kvm_routes_free(m->routes);
    close(m->vm);
    kvm_close(&m->kvm);
}

static bool has_doorbell(struct machine *m, uint64_t addr)
{
    struct kvm_ioeventfd_at at = {.addr = addr, .len = kvm_ioeventfd_any_width(m->vm) ? 0 : 2};
    int event = eventfd(0, EFD_CLOEXEC);
    int ret = kvm_ioeventfd(m->vm, event, &at, true, NULL);
    if (ret == 0)
        assert_int_equal(kvm_ioeventfd(m->vm, event, &at, false, NULL), 0);
    close(event);
    assert_true(ret == 0 || ret == -EEXIST);
    return ret == -EEXIST;
}

static void kvm_has_the_doorbells_where_the_bar_is(void **state)
{
    (void)state;
    struct machine m;
    machine_open(&m);
    struct virtio_driver *d = &m.driver;
    uint64_t base = driver_bar(d) + d->at.notify;
    for (unsigned i = 0; i <= DRIVER_QUEUES; i++)
        assert_int_equal(has_doorbell(&m, base + 4 * i), i < DRIVER_QUEUES);
    driver_start(d);
    driver_pci_write(d, 0x10, driver_bar(d) + 0x100000, 4);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        assert_false(has_doorbell(&m, base + 4 * i));
        assert_true(has_doorbell(&m, base + 0x100000 + 4 * i));
    }
    driver_pci_write(d, 0x04, 0, 2);
    assert_false(has_doorbell(&m, base + 0x100000));
    machine_close(&m);
}

static void a_guest_rings_without_leaving_kvm(void **state)
{
    (void)state;
    struct machine m;
    machine_open(&m);
    struct error err = ERROR_INIT;
    struct guest_memory memory;
    struct memory_params params = {.size = MIB(2), .low_size = MIB(2)};
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    assert_int_equal(memory_register(&memory, &m.kvm, m.vm, &err), 0);
    /* mov %ax, doorbell of queue 1; out %al, $0x80 */
    uint8_t code[] = {0x66, 0xa3, 0, 0, 0, 0, 0xe6, 0x80};
    store_le32(code + 2, (uint32_t)(driver_bar(&m.driver) + m.driver.at.notify + 4));
    memcpy(memory_ptr(&memory, 0x1000, sizeof(code)), code, sizeof(code));

    struct kvm_vcpu vcpu;
    assert_int_equal(kvm_vcpu_create(&m.kvm, m.vm, 0, &vcpu, &err), 0);
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
    assert_int_equal(ioctl(vcpu.fd, KVM_RUN, 0), 0);
    assert_int_equal(vcpu.run->exit_reason, KVM_EXIT_IO); /* not KVM_EXIT_MMIO */
    eventfd_t count = 0;
    assert_int_equal(eventfd_read(virtio_pci_queue(m.driver.transport, 1)->kick_fd, &count), 0);
    assert_int_equal(count, 1);

    kvm_vcpu_destroy(&vcpu);
    machine_close(&m);
    memory_destroy(&memory);
}

static void kvm_listens_only_to_vectors_that_are_not_masked(void **state)
{
    (void)state;
    struct machine m;
    machine_open(&m);
    struct virtio_driver *d = &m.driver;
    int call = virtio_pci_queue(d->transport, 0)->call_fd;
    eventfd_t count = 0;
    driver_start(d);
    driver_message(d, 1, 0x41, true);
    driver_pci_write(d, d->at.msix + 2, 0x8000, 2);
    eventfd_write(call, 1);
    assert_int_equal(driver_read(d, d->at.pba, 8), 2);
    driver_message(d, 1, 0x41, false);
    assert_int_equal(driver_read(d, d->at.pba, 8), 0);
    /* KVM reads the eventfd as it is signalled. */
    eventfd_write(call, 1);
    assert_int_equal(eventfd_read(call, &count), -1);
    driver_message(d, 1, 0x41, true);
    assert_int_equal(driver_read(d, d->at.pba, 8), 0);
    eventfd_write(call, 1);
    assert_int_equal(driver_read(d, d->at.pba, 8), 2);
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kvm_has_the_doorbells_where_the_bar_is),
        cmocka_unit_test(a_guest_rings_without_leaving_kvm),
        cmocka_unit_test(kvm_listens_only_to_vectors_that_are_not_masked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
