#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/ioapic.h"

#include <string.h>

struct listener {
    unsigned messages, commits, routes;
    uint64_t addr;
    uint32_t data;
    bool masked;
    unsigned pin;
};

static void on_route(void *ctx, unsigned pin, bool masked, uint64_t addr, uint32_t data)
{
    struct listener *l = ctx;
    l->routes++;
    l->pin = pin;
    l->masked = masked;
    l->addr = addr;
    l->data = data;
}

static void on_commit(void *ctx)
{
    ((struct listener *)ctx)->commits++;
}

static void on_message(void *ctx, uint64_t addr, uint32_t data)
{
    struct listener *l = ctx;
    l->messages++;
    l->addr = addr;
    l->data = data;
}

static const struct ioapic_ops ops = {on_route, on_commit, on_message};

static void write_reg(struct ioapic *ioapic, uint8_t index, uint32_t value)
{
    uint32_t select = index;
    ioapic_bus_ops.write(ioapic, 0x00, &select, 4);
    ioapic_bus_ops.write(ioapic, 0x10, &value, 4);
}

static uint32_t read_reg(struct ioapic *ioapic, uint8_t index)
{
    uint32_t select = index, value;
    ioapic_bus_ops.write(ioapic, 0x00, &select, 4);
    ioapic_bus_ops.read(ioapic, 0x10, &value, 4);
    return value;
}

static void set_entry(struct ioapic *ioapic, unsigned pin, uint32_t high, uint32_t low)
{
    write_reg(ioapic, (uint8_t)(0x11 + 2 * pin), high);
    write_reg(ioapic, (uint8_t)(0x10 + 2 * pin), low);
}

static void an_edge_sends_one_message(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    set_entry(ioapic, 4, 0x03000000, 0x0831); /* to logical 3, vector 0x31 */
    assert_int_equal(l.pin, 4);
    assert_int_equal(l.addr, 0xfee03004);
    assert_int_equal(l.data, 0x31);
    ioapic_set_irq(ioapic, 4, true);
    ioapic_set_irq(ioapic, 4, true);
    assert_int_equal(l.messages, 1);
    ioapic_set_irq(ioapic, 4, false);
    assert_int_equal(l.messages, 1);
    ioapic_set_irq(ioapic, 4, true);
    assert_int_equal(l.messages, 2);
    assert_int_equal(l.addr, 0xfee03004);
    assert_int_equal(l.data, 0x31);
    ioapic_free(ioapic);
}

static void a_masked_pin_sends_nothing(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic_set_irq(ioapic, pin, true);
        ioapic_set_irq(ioapic, pin, false);
    }
    ioapic_set_irq(ioapic, 24, true);
    assert_int_equal(l.messages, 0);
    ioapic_free(ioapic);
}

static void a_level_sends_again_until_it_is_low(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    set_entry(ioapic, 9, 0, 0x8000 | 0x52);
    ioapic_set_irq(ioapic, 9, true);
    assert_int_equal(l.messages, 1);
    assert_int_equal(l.data, 0xc052);
    assert_true(read_reg(ioapic, 0x10 + 18) & BIT(14));
    ioapic_set_irq(ioapic, 9, true); /* not ended yet */
    assert_int_equal(l.messages, 1);
    ioapic_eoi(ioapic, 0x53); /* another vector */
    assert_int_equal(l.messages, 1);
    ioapic_eoi(ioapic, 0x52);
    assert_int_equal(l.messages, 2);
    ioapic_set_irq(ioapic, 9, false);
    uint32_t vector = 0x52;
    ioapic_bus_ops.write(ioapic, 0x40, &vector, 4);
    assert_int_equal(l.messages, 2);
    assert_false(read_reg(ioapic, 0x10 + 18) & BIT(14));
    ioapic_free(ioapic);
}

static void a_level_that_was_high_sends_when_unmasked(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    set_entry(ioapic, 9, 0, 0x18000 | 0x52);
    ioapic_set_irq(ioapic, 9, true);
    assert_int_equal(l.messages, 0);
    write_reg(ioapic, 0x10 + 18, 0x8000 | 0x52);
    assert_int_equal(l.messages, 1);
    ioapic_free(ioapic);
}

static void a_level_masked_while_it_is_served_still_has_its_end_reported(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    write_reg(ioapic, 0x10 + 2 * 9, 0x8031);
    assert_int_equal(l.routes, 1);
    ioapic_set_irq(ioapic, 9, true);
    /* Linux masks a level-triggered pin around the EOI when it moves it. */
    write_reg(ioapic, 0x10 + 2 * 9, 0x18031);
    assert_int_equal(l.routes, 1);
    ioapic_eoi(ioapic, 0x31);
    assert_int_equal(l.messages, 1);
    write_reg(ioapic, 0x10 + 2 * 9, 0x8032);
    assert_int_equal(l.routes, 2);
    assert_int_equal(l.messages, 2);
    assert_int_equal(l.data & 0xff, 0x32);
    /* With nothing being served, a mask takes the route away. */
    ioapic_set_irq(ioapic, 9, false);
    ioapic_eoi(ioapic, 0x32);
    write_reg(ioapic, 0x10 + 2 * 9, 0x18032);
    assert_int_equal(l.routes, 3);
    assert_true(l.masked);
    ioapic_free(ioapic);
}

static void kvm_is_told_only_of_what_matters(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    /* As Linux does at boot: every entry written, masked. */
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        set_entry(ioapic, pin, 0x01000000, 0x10000 | (0x30 + pin));
    assert_int_equal(l.commits, 0);
    write_reg(ioapic, 0x10 + 8, 0x34);
    assert_int_equal(l.commits, 1);
    assert_false(l.masked);
    write_reg(ioapic, 0x10 + 8, 0x34);
    assert_int_equal(l.commits, 1);
    write_reg(ioapic, 0x10 + 8, 0x10034);
    assert_int_equal(l.commits, 2);
    assert_true(l.masked);
    ioapic_free(ioapic);
}

static void registers_read_as_the_data_sheet_says(void **state)
{
    (void)state;
    struct listener l = {0};
    struct ioapic *ioapic = ioapic_new(&ops, &l);
    assert_int_equal(read_reg(ioapic, 1), 0x00170020);
    write_reg(ioapic, 1, 0xffffffff);
    assert_int_equal(read_reg(ioapic, 1), 0x00170020);
    write_reg(ioapic, 0, 0xffffffff);
    assert_int_equal(read_reg(ioapic, 0), 0x0f000000);
    /* Delivery status and remote IRR cannot be written, undefined bits read as zero. */
    set_entry(ioapic, 23, 0xffffffff, 0xffffffff);
    assert_int_equal(read_reg(ioapic, 0x10 + 46), 0x0001afff);
    assert_int_equal(read_reg(ioapic, 0x11 + 46), 0xff000000);
    assert_int_equal(read_reg(ioapic, 0x40), 0xffffffff);
    ioapic_free(ioapic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_edge_sends_one_message),
        cmocka_unit_test(a_masked_pin_sends_nothing),
        cmocka_unit_test(a_level_sends_again_until_it_is_low),
        cmocka_unit_test(a_level_that_was_high_sends_when_unmasked),
        cmocka_unit_test(a_level_masked_while_it_is_served_still_has_its_end_reported),
        cmocka_unit_test(kvm_is_told_only_of_what_matters),
        cmocka_unit_test(registers_read_as_the_data_sheet_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
