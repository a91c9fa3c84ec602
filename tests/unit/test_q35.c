#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/q35.h"
#include "x86/layout.h"

struct machine {
    struct bus *ports, *mmio;
    struct q35 *q35;
    unsigned resets, smm;
    uint64_t bar; /* where the device's BAR answers */
};

static void on_reset(void *ctx)
{
    ((struct machine *)ctx)->resets++;
}

static void on_needs_smm(void *ctx)
{
    ((struct machine *)ctx)->smm++;
}

static void bar_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    memset(data, (int)offset, len);
}

static void bar_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)device;
    (void)offset;
    (void)data;
    (void)len;
}

static void bar_moved(void *device, unsigned bar, uint64_t base)
{
    (void)bar;
    ((struct machine *)device)->bar = base;
}

static int setup(void **state)
{
    static struct machine m;
    m = (struct machine){.ports = bus_new("port"), .mmio = bus_new("MMIO")};
    struct q35_params params = {
        .ports = m.ports,
        .mmio = m.mmio,
        .low_ram_end = GIB(2),
        .mmio64 = GIB(8),
        .mmio64_len = GIB(100),
        .reset = on_reset,
        .needs_smm = on_needs_smm,
        .ctx = &m,
    };
    m.q35 = q35_new(&params, NULL);
    *state = &m;
    return m.q35 ? 0 : -1;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    q35_free(m->q35);
    bus_free(m->ports);
    bus_free(m->mmio);
    return 0;
}

static void select_register(struct machine *m, unsigned slot, unsigned reg)
{
    uint32_t address = 1u << 31 | slot << 11 | reg;
    assert_true(bus_write(m->ports, 0xcf8, &address, 4));
}

static uint32_t config_read(struct machine *m, unsigned slot, unsigned reg)
{
    uint32_t value = 0;
    select_register(m, slot, reg);
    assert_true(bus_read(m->ports, 0xcfc, &value, 4));
    return value;
}

static void config_write(struct machine *m, unsigned slot, unsigned reg, uint32_t value)
{
    select_register(m, slot, reg);
    assert_true(bus_write(m->ports, 0xcfc, &value, 4));
}

static void firmware_finds_both_bridges(void **state)
{
    struct machine *m = *state;
    assert_int_equal(config_read(m, 0, 0), 0x29c08086);
    assert_int_equal(config_read(m, 31, 0), 0x29188086);
    assert_int_equal(config_read(m, 31, 8) >> 8, 0x060100);
    assert_int_equal(config_read(m, 1, 0), 0xffffffff);
}

static void ecam_is_where_firmware_puts_it(void **state)
{
    struct machine *m = *state;
    uint32_t id = 0;
    assert_int_equal(q35_ecam(m->q35), 0);
    assert_false(bus_read(m->mmio, 0xb0000000, &id, 4));
    /* As OVMF does: high half, low half, then enable. */
    config_write(m, 0, 0x64, 0);
    config_write(m, 0, 0x60, 0xb0000000);
    assert_int_equal(q35_ecam(m->q35), 0);
    config_write(m, 0, 0x60, 0xb0000001);
    assert_int_equal(q35_ecam(m->q35), 0xb0000000);
    assert_true(bus_read(m->mmio, 0xb0000000 + (31u << 15), &id, 4));
    assert_int_equal(id, 0x29188086);
    config_write(m, 0, 0x60, 0xe0000001);
    assert_int_equal(q35_ecam(m->q35), 0xe0000000);
    assert_false(bus_read(m->mmio, 0xb0000000, &id, 4));
    assert_true(bus_read(m->mmio, 0xe0000000, &id, 4));
    assert_int_equal(id, 0x29c08086);
    config_write(m, 0, 0x60, 0);
    assert_false(bus_read(m->mmio, 0xe0000000, &id, 4));
}

static void ecam_over_the_io_apic_answers_nowhere_and_can_leave(void **state)
{
    struct machine *m = *state;
    static const struct bus_ops ops = {bar_read, bar_write};
    assert_int_equal(bus_add(m->mmio, 0xf0000000, 0x1000, "taken", &ops, m, NULL), 0);
    config_write(m, 0, 0x60, 0xf0000001);
    uint32_t value = 0;
    assert_true(bus_read(m->mmio, 0xf0000004, &value, 4));
    assert_int_equal(value, 0x04040404);
    config_write(m, 0, 0x60, 0xe0000001);
    assert_true(bus_read(m->mmio, 0xf0000004, &value, 4));
    assert_true(bus_read(m->mmio, 0xe0000000, &value, 4));
}

static void lpc_registers_that_firmware_writes_keep_their_values(void **state)
{
    struct machine *m = *state;
    config_write(m, 31, 0x40, 0xffffffff);
    assert_int_equal(config_read(m, 31, 0x40), 0xff81);
    config_write(m, 31, 0x40, 0x600);
    assert_int_equal(config_read(m, 31, 0x40), 0x601);
    config_write(m, 31, 0x44, 0x80);
    assert_int_equal(config_read(m, 31, 0x44) & 0xff, 0x80);
    assert_int_equal(config_read(m, 31, 0x60), 0x80808080);
    config_write(m, 31, 0x60, 0x0b0a0b0a);
    assert_int_equal(config_read(m, 31, 0x60), 0x0b0a0b0a);
    config_write(m, 31, 0xf0, 0xfed1c001);
    assert_int_equal(config_read(m, 31, 0xf0), 0xfed1c001);
}

static void port_cf9_resets_when_bit_2_is_written(void **state)
{
    struct machine *m = *state;
    uint8_t value = 0x02;
    bus_write(m->ports, 0xcf9, &value, 1);
    assert_int_equal(m->resets, 0);
    value = 0x06;
    bus_write(m->ports, 0xcf9, &value, 1);
    assert_int_equal(m->resets, 1);
    /* The address register beside it is not touched by any of this. */
    uint32_t address = 0x80000600;
    bus_write(m->ports, 0xcf8, &address, 4);
    assert_int_equal(m->resets, 1);
}

static void only_the_question_of_firmware_for_smm_is_taken_as_that(void **state)
{
    struct machine *m = *state;
    uint16_t value = 0x1234;
    select_register(m, 0, 0x50);
    bus_write(m->ports, 0xcfc, &value, 2);
    config_write(m, 0, 0x4c, 0xffffffff);
    config_write(m, 0, 0x54, 0xffffffff);
    assert_int_equal(m->smm, 0);
    value = 0xffff;
    select_register(m, 0, 0x50);
    bus_write(m->ports, 0xcfc, &value, 2);
    assert_int_equal(m->smm, 1);
    bus_read(m->ports, 0xcfc, &value, 2);
    assert_int_equal(value, 0);
}

static void no_device_has_a_place_until_firmware_gives_it_one(void **state)
{
    struct machine *m = *state;
    static const struct pci_device_ops ops = {.bar_moved = bar_moved};
    static const struct bus_ops bar_ops = {bar_read, bar_write};
    struct pci_device_params params = {
        .name = "probe", .vendor_id = 0x1234, .device_id = 1, .ops = &ops, .device = m};
    struct pci_device *device = pci_device_add(q35_pci(m->q35), &params, NULL);
    assert_non_null(device);
    assert_int_equal(pci_device_add_bar(device, 0, 0x1000, false, &bar_ops, NULL), 0);
    pci_device_start(device);
    assert_int_equal(config_read(m, 1, 0x10), 0);
    assert_int_equal(config_read(m, 1, 4) & 2, 0);
    config_write(m, 1, 0x10, 0xffffffff);
    assert_int_equal(config_read(m, 1, 0x10), 0xfffff000);
    config_write(m, 1, 0x10, 0xc1000000);
    assert_int_equal(m->bar, 0);
    config_write(m, 1, 4, 2);
    assert_int_equal(m->bar, 0xc1000000);
    /* Not over RAM. */
    config_write(m, 1, 0x10, 0x10000000);
    assert_int_equal(m->bar, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(firmware_finds_both_bridges),
        TEST(ecam_is_where_firmware_puts_it),
        TEST(ecam_over_the_io_apic_answers_nowhere_and_can_leave),
        TEST(lpc_registers_that_firmware_writes_keep_their_values),
        TEST(port_cf9_resets_when_bit_2_is_written),
        TEST(only_the_question_of_firmware_for_smm_is_taken_as_that),
        TEST(no_device_has_a_place_until_firmware_gives_it_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
