#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/pci.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define WINDOW64 BIT64(40)

struct probe {
    struct pci_device *pci;
    uint64_t mapped;
    unsigned reads;
};

struct machine {
    struct bus *ports, *mmio;
    struct pci_host *host;
};

static void machine_init(struct machine *m)
{
    m->ports = bus_new("port");
    m->mmio = bus_new("MMIO");
    m->host = pci_host_new(m->ports, m->mmio, WINDOW64, MIB(8), NULL);
    assert_non_null(m->host);
}

static void machine_destroy(struct machine *m)
{
    pci_host_free(m->host);
    bus_free(m->ports);
    bus_free(m->mmio);
}

static void bar_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    (void)offset;
    memset(data, 0x5a, len);
}

static void bar_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)device;
    (void)offset;
    (void)data;
    (void)len;
}

static void on_bar_moved(void *device, unsigned bar, uint64_t base)
{
    (void)bar;
    ((struct probe *)device)->mapped = base;
}

/** on_read() - a register that counts how often it is read. */
static void on_read(void *device, unsigned offset, unsigned len)
{
    struct probe *probe = device;
    if (ranges_overlap(offset, len, 0x42, 1))
        pci_device_config(probe->pci)[0x42] = (uint8_t)++probe->reads;
}

static const struct bus_ops bar_ops = {bar_read, bar_write};

static int probe_add(struct machine *m, struct probe *probe, uint64_t size, bool is_64bit)
{
    static const struct pci_device_ops ops = {.bar_moved = on_bar_moved,
                                              .config_will_be_read = on_read};
    struct pci_device_params params = {
        .name = "probe", .vendor_id = 0x1234, .device_id = 0x5678, .ops = &ops, .device = probe};
    *probe = (struct probe){.pci = pci_device_add(m->host, &params, NULL)};
    if (!probe->pci)
        return -ENOSPC;
    const uint8_t body[2] = {0};
    pci_device_add_capability(probe->pci, 0x09, body, sizeof(body), NULL);
    int ret = pci_device_add_bar(probe->pci, 0, size, is_64bit, &bar_ops, NULL);
    pci_device_start(probe->pci);
    return ret;
}

static uint32_t config_read(struct machine *m, unsigned slot, unsigned offset, unsigned len)
{
    uint8_t value[8] = {0};
    assert_true(bus_read(m->mmio, LAYOUT_ECAM + (slot << 15) + offset, value, len));
    return load_le32(value);
}

static void what_a_removed_device_had_is_free_again(void **state)
{
    (void)state;
    struct machine m;
    struct probe first, second, third;
    uint8_t byte;
    machine_init(&m);
    assert_int_equal(probe_add(&m, &first, MIB(4), true), 0);
    assert_int_equal(probe_add(&m, &second, MIB(4), true), 0);
    assert_int_equal(probe_add(&m, &third, MIB(4), true), -ENOSPC);
    pci_device_remove(third.pci);
    uint64_t base = first.mapped;
    assert_true(base >= WINDOW64 && bus_read(m.mmio, base, &byte, 1));

    pci_device_remove(first.pci);
    assert_int_equal(first.mapped, 0);
    assert_false(bus_read(m.mmio, base, &byte, 1));
    assert_int_equal(config_read(&m, 1, 0, 4), 0xffffffff);
    assert_int_equal(config_read(&m, 2, 0, 4), 0x56781234);
    assert_int_equal(probe_add(&m, &third, MIB(4), true), 0);
    assert_true(third.mapped == base);
    assert_int_equal(config_read(&m, 1, 0, 4), 0x56781234);
    machine_destroy(&m);
}

static void a_guest_that_scatters_its_bars_keeps_no_device_out(void **state)
{
    (void)state;
    struct machine m;
    struct probe first, second;
    uint8_t reg[4];
    machine_init(&m);
    assert_int_equal(probe_add(&m, &first, MIB(4), true), 0);
    store_le32(reg, (uint32_t)(WINDOW64 + MIB(4)) | 0xc);
    assert_true(bus_write(m.mmio, LAYOUT_ECAM + (1 << 15) + 0x10, reg, 4));
    assert_true(first.mapped == WINDOW64 + MIB(4));
    assert_int_equal(probe_add(&m, &second, MIB(4), true), 0);
    assert_int_equal(second.mapped, 0);
    store_le32(reg, (uint32_t)WINDOW64);
    assert_true(bus_write(m.mmio, LAYOUT_ECAM + (1 << 15) + 0x10, reg, 4));
    assert_true(second.mapped == WINDOW64 + MIB(4));
    machine_destroy(&m);
}

static void a_device_hears_of_a_read_before_it_is_made(void **state)
{
    (void)state;
    struct machine m;
    struct probe probe;
    machine_init(&m);
    assert_int_equal(probe_add(&m, &probe, 4096, false), 0);
    assert_int_equal(config_read(&m, 1, 0x42, 1), 1);
    assert_int_equal(config_read(&m, 1, 0x40, 4) >> 16, 2);
    assert_int_equal(config_read(&m, 1, 0x3b, 8),
                     0); /* 0x3b to 0x42; the capability list is at 0x40 */
    assert_int_equal(probe.reads, 3);
    uint8_t bytes[4];
    store_le32(bytes, 0x80000840);
    assert_true(bus_write(m.ports, LAYOUT_PORT_PCI, bytes, 4));
    assert_true(bus_read(m.ports, LAYOUT_PORT_PCI + 6, bytes, 1));
    assert_int_equal(bytes[0], 4);
    machine_destroy(&m);
}

static atomic_bool stop;

static void *look_around(void *opaque)
{
    struct machine *m = opaque;
    while (!stop)
        for (unsigned slot = 0; slot < PCI_DEVICES_MAX; slot++)
            config_read(m, slot, 0x10, 4);
    return NULL;
}

static void devices_come_and_go_while_the_guest_looks(void **state)
{
    (void)state;
    struct machine m;
    pthread_t guest;
    machine_init(&m);
    assert_int_equal(pthread_create(&guest, NULL, look_around, &m), 0);
    for (unsigned i = 0; i < 300; i++) {
        struct probe probes[4];
        for (unsigned n = 0; n < ARRAY_SIZE(probes); n++)
            assert_int_equal(probe_add(&m, &probes[n], 4096, n & 1), 0);
        for (unsigned n = 0; n < ARRAY_SIZE(probes); n++)
            pci_device_remove(probes[n].pci);
    }
    stop = true;
    pthread_join(guest, NULL);
    assert_int_equal(config_read(&m, 1, 0, 4), 0xffffffff);
    machine_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_removed_device_had_is_free_again),
        cmocka_unit_test(a_guest_that_scatters_its_bars_keeps_no_device_out),
        cmocka_unit_test(a_device_hears_of_a_read_before_it_is_made),
        cmocka_unit_test(devices_come_and_go_while_the_guest_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
