#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/pvpanic.h"
#include "x86/layout.h"

#define SLOT1 (LAYOUT_ECAM + 0x8000)

struct machine {
    struct bus *ports, *mmio;
    struct pci_host *host;
    struct pvpanic *pvpanic;
    uint8_t seen;
};

static void on_panic(void *ctx, uint8_t events)
{
    *(uint8_t *)ctx |= events;
}

static int setup(void **state)
{
    static struct machine m;
    m = (struct machine){.ports = bus_new("port"), .mmio = bus_new("MMIO")};
    m.host = pci_host_new(m.ports, m.mmio, 0, 0, NULL);
    m.pvpanic = pvpanic_new(m.host, on_panic, &m.seen, NULL);
    *state = &m;
    return m.pvpanic ? 0 : -1;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    pci_host_free(m->host);
    pvpanic_free(m->pvpanic);
    bus_free(m->ports);
    bus_free(m->mmio);
    return 0;
}

static uint32_t mmio_read(struct machine *m, uint64_t addr, unsigned len)
{
    uint8_t value[4] = {0};
    assert_true(bus_read(m->mmio, addr, value, len));
    return load_le32(value);
}

static void mmio_write(struct machine *m, uint64_t addr, uint8_t value)
{
    assert_true(bus_write(m->mmio, addr, &value, 1));
}

static void linux_finds_the_device_it_has_a_driver_for(void **state)
{
    struct machine *m = *state;
    assert_int_equal(mmio_read(m, SLOT1, 4), 0x00111b36);
    assert_int_equal(mmio_read(m, SLOT1 + 8, 4) >> 8, 0x088000);
}

static void the_events_on_offer_are_panicked_and_crash_loaded(void **state)
{
    struct machine *m = *state;
    uint64_t base = mmio_read(m, SLOT1 + 0x10, 4);
    assert_int_equal(mmio_read(m, base, 1), 3);
    assert_int_equal(mmio_read(m, base, 4), 3);
    assert_int_equal(mmio_read(m, base + 1, 1), 0);
}

static void events_on_offer_are_passed_on_and_nothing_else(void **state)
{
    struct machine *m = *state;
    uint64_t base = mmio_read(m, SLOT1 + 0x10, 4);
    mmio_write(m, base, 0);
    mmio_write(m, base, 0xfc);
    mmio_write(m, base + 4, PVPANIC_PANICKED);
    assert_int_equal(m->seen, 0);
    mmio_write(m, base, 0xfc | PVPANIC_PANICKED);
    assert_int_equal(m->seen, PVPANIC_PANICKED);
    mmio_write(m, base, PVPANIC_CRASH_LOADED);
    assert_int_equal(m->seen, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(linux_finds_the_device_it_has_a_driver_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_events_on_offer_are_panicked_and_crash_loaded, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(events_on_offer_are_passed_on_and_nothing_else, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
