/* The small port devices: serial, clock, ACPI ports, keyboard controller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/acpi_pm.h"
#include "devices/legacy_ports.h"
#include "devices/rtc.h"
#include "devices/serial.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct host {
    char sent[64];
    size_t n_sent;
    unsigned ready;
    unsigned edges;
    bool level;
    unsigned power_offs, resets;
};

static void on_irq(void *ctx, unsigned gsi, bool level)
{
    struct host *host = ctx;
    assert_int_equal(gsi, 4);
    host->edges += level && !host->level;
    host->level = level;
}

static void on_output(void *ctx, const uint8_t *data, size_t len)
{
    struct host *host = ctx;
    assert_in_range(host->n_sent + len, 0, sizeof(host->sent) - 1);
    memcpy(host->sent + host->n_sent, data, len);
    host->n_sent += len;
}

static void on_ready(void *ctx)
{
    ((struct host *)ctx)->ready++;
}

static struct serial *new_serial(struct host *host)
{
    struct serial_params params = {.irq = {.set = on_irq, .ctx = host, .gsi = 4},
                                   .output = on_output,
                                   .input_ready = on_ready,
                                   .ctx = host};
    struct serial *serial = serial_new(&params);
    assert_non_null(serial);
    return serial;
}

static void outb(struct serial *serial, unsigned reg, uint8_t value)
{
    serial_bus_ops.write(serial, reg, &value, 1);
}

static uint8_t inb(struct serial *serial, unsigned reg)
{
    uint8_t value;
    serial_bus_ops.read(serial, reg, &value, 1);
    return value;
}

static void what_the_guest_sends_goes_out(void **state)
{
    (void)state;
    struct host host = {0};
    struct serial *serial = new_serial(&host);
    outb(serial, 3, 0x80); /* the divisor is no data */
    outb(serial, 0, 1);
    outb(serial, 1, 0);
    assert_int_equal(inb(serial, 0), 1);
    outb(serial, 3, 0x03);
    assert_int_equal(inb(serial, 5) & 0x60, 0x60);
    outb(serial, 0, 'h');
    outb(serial, 0, 'i');
    assert_string_equal(host.sent, "hi");
    assert_int_equal(host.edges, 0);
    serial_free(serial);
}

static void the_transmit_interrupt_comes_once_for_each_byte(void **state)
{
    (void)state;
    struct host host = {0};
    struct serial *serial = new_serial(&host);
    assert_int_equal(inb(serial, 2), 0x01);
    outb(serial, 1, 0x02);
    assert_true(host.level);
    assert_int_equal(inb(serial, 2), 0x02);
    assert_false(host.level);
    assert_int_equal(inb(serial, 2), 0x01);
    outb(serial, 0, 'x');
    assert_true(host.level);
    assert_int_equal(host.edges, 2);
    serial_free(serial);
}

static void input_fills_the_fifo_and_no_byte_is_lost(void **state)
{
    (void)state;
    struct host host = {0};
    struct serial *serial = new_serial(&host);
    const uint8_t text[] = "the quick brown fox jumps";
    assert_int_equal(serial_input(serial, text, sizeof(text)), 1); /* no FIFO yet */
    assert_int_equal(inb(serial, 0), 't');
    assert_int_equal(host.ready, 1);

    outb(serial, 2, 0xc1); /* FIFO, trigger at 14 */
    outb(serial, 1, 0x01);
    assert_int_equal(serial_input(serial, text, sizeof(text)), 16);
    assert_int_equal(inb(serial, 2), 0xc4);
    assert_int_equal(inb(serial, 5) & 1, 1);
    char got[sizeof(text)] = "";
    size_t n = 0, offered = 16;
    while (inb(serial, 5) & 1) {
        got[n++] = (char)inb(serial, 0);
        if (offered < sizeof(text))
            offered += serial_input(serial, text + offered, sizeof(text) - offered);
    }
    assert_int_equal(n, sizeof(text));
    assert_memory_equal(got, text, sizeof(text));
    assert_false(host.level);
    assert_int_equal(inb(serial, 2), 0xc1);
    serial_free(serial);
}

static void fewer_bytes_than_the_trigger_time_out(void **state)
{
    (void)state;
    struct host host = {0};
    struct serial *serial = new_serial(&host);
    outb(serial, 2, 0x81);
    outb(serial, 1, 0x01);
    assert_int_equal(serial_input(serial, (const uint8_t *)"a", 1), 1);
    assert_true(host.level);
    assert_int_equal(inb(serial, 2), 0xcc);
    outb(serial, 2, 0x83); /* cleared */
    assert_int_equal(inb(serial, 5) & 1, 0);
    assert_false(host.level);
    serial_free(serial);
}

static void loopback_keeps_bytes_inside(void **state)
{
    (void)state;
    struct host host = {0};
    struct serial *serial = new_serial(&host);
    outb(serial, 4, 0x1a); /* loopback, OUT2, RTS: what Linux probes with */
    assert_int_equal(inb(serial, 6) & 0xf0, 0x90);
    outb(serial, 0, 'z');
    assert_int_equal(host.n_sent, 0);
    assert_int_equal(inb(serial, 0), 'z');
    assert_int_equal(serial_input(serial, (const uint8_t *)"a", 1), 0);
    outb(serial, 0, '1');
    outb(serial, 0, '2');
    assert_int_equal(inb(serial, 5) & 0x02, 0x02); /* overrun: there is no FIFO */
    assert_int_equal(inb(serial, 5) & 0x02, 0x00);
    assert_int_equal(inb(serial, 0), '1');
    outb(serial, 4, 0x08);
    assert_int_equal(host.ready, 1);
    serial_free(serial);
}

static time_t fixed_time(void *ctx)
{
    return *(time_t *)ctx;
}

static uint8_t cmos(struct rtc *rtc, uint8_t reg)
{
    rtc_bus_ops.write(rtc, 0, &reg, 1);
    uint8_t value;
    rtc_bus_ops.read(rtc, 1, &value, 1);
    return value;
}

static void set_cmos(struct rtc *rtc, uint8_t reg, uint8_t value)
{
    rtc_bus_ops.write(rtc, 0, &reg, 1);
    rtc_bus_ops.write(rtc, 1, &value, 1);
}

static void assert_shows(struct rtc *rtc, const char *expected)
{
    char text[64];
    snprintf(text, sizeof(text), "%02x%02x-%02x-%02x %02x:%02x:%02x day %02x", cmos(rtc, 0x32),
             cmos(rtc, 9), cmos(rtc, 8), cmos(rtc, 7), cmos(rtc, 4), cmos(rtc, 2), cmos(rtc, 0),
             cmos(rtc, 6));
    assert_string_equal(text, expected);
}

static void the_clock_shows_utc_in_each_format(void **state)
{
    (void)state;
    time_t now = 951827696; /* 2000-02-29 12:34:56, a Tuesday */
    struct rtc_params params = {.now = fixed_time, .ctx = &now};
    struct rtc *rtc = rtc_new(&params);
    assert_shows(rtc, "2000-02-29 12:34:56 day 03");
    now += 86400;
    assert_shows(rtc, "2000-03-01 12:34:56 day 04");
    set_cmos(rtc, 0x0b, 0x06);
    assert_int_equal(cmos(rtc, 0), 56);
    assert_int_equal(cmos(rtc, 0x32), 20);
    set_cmos(rtc, 0x0b, 0x00); /* 12 hours, BCD: noon is 12 with bit 7 */
    assert_int_equal(cmos(rtc, 4), 0x92);
    now -= 12 * 3600;
    assert_int_equal(cmos(rtc, 4), 0x12);
    assert_int_equal(cmos(rtc, 0x0a) & 0x80, 0);
    assert_int_equal(cmos(rtc, 0x0d), 0x80);
    rtc_free(rtc);
}

static void a_time_that_was_set_goes_on(void **state)
{
    (void)state;
    time_t now = 951827696;
    struct rtc_params params = {.now = fixed_time, .ctx = &now};
    struct rtc *rtc = rtc_new(&params);
    set_cmos(rtc, 0x0b, 0x82);
    now += 1000; /* it stands still meanwhile */
    set_cmos(rtc, 0x32, 0x19);
    set_cmos(rtc, 9, 0x99);
    set_cmos(rtc, 8, 0x12);
    set_cmos(rtc, 7, 0x31);
    set_cmos(rtc, 4, 0x23);
    set_cmos(rtc, 2, 0x59);
    set_cmos(rtc, 0, 0x59);
    set_cmos(rtc, 0x0b, 0x02);
    assert_shows(rtc, "1999-12-31 23:59:59 day 06");
    now += 1;
    assert_shows(rtc, "2000-01-01 00:00:00 day 07");
    rtc_free(rtc);
}

static void cmos_tells_how_much_ram_there_is(void **state)
{
    (void)state;
    struct rtc_params params = {.low_ram = GIB(3), .high_ram = GIB(5)};
    struct rtc *rtc = rtc_new(&params);
    assert_int_equal(cmos(rtc, 0x34) | cmos(rtc, 0x35) << 8, (GIB(3) - MIB(16)) >> 16);
    assert_int_equal(cmos(rtc, 0x5b) | cmos(rtc, 0x5c) << 8 | cmos(rtc, 0x5d) << 16, GIB(5) >> 16);
    assert_int_equal(cmos(rtc, 0x15) | cmos(rtc, 0x16) << 8, 640);
    assert_int_equal(cmos(rtc, 0x15 | 0x80), 640 & 0xff); /* bit 7 is not part of the index */
    rtc_free(rtc);
}

static void on_power_off(void *ctx)
{
    ((struct host *)ctx)->power_offs++;
}

static void on_reset(void *ctx)
{
    ((struct host *)ctx)->resets++;
}

static void the_acpi_ports_power_off_and_reset(void **state)
{
    (void)state;
    struct host host = {0};
    struct bus *ports = bus_new("port");
    struct error err = ERROR_INIT;
    struct acpi_pm_params params = {.irq = {.set = on_irq, .ctx = &host, .gsi = 4},
                                    .power_off = on_power_off,
                                    .reset = on_reset,
                                    .ctx = &host};
    struct acpi_pm *pm = acpi_pm_new(ports, &params, &err);
    assert_non_null(pm);
    uint8_t value = 0x30; /* sleep type without SLP_EN, then SLP_EN with another type */
    bus_write(ports, 0x600, &value, 1);
    value = 0x20;
    bus_write(ports, 0x600, &value, 1);
    assert_int_equal(host.power_offs + host.resets, 0);
    value = 0x34;
    bus_write(ports, 0x600, &value, 1);
    assert_int_equal(host.power_offs, 1);
    value = 0x01;
    bus_write(ports, 0x600, &value, 1);
    assert_int_equal(host.resets, 1);

    acpi_pm_notify(pm, 1);
    assert_int_equal(host.edges, 1);
    assert_true(bus_read(ports, 0x60c, &value, 1));
    assert_int_equal(value, 1);
    assert_true(bus_read(ports, 0x60c, &value, 1));
    assert_int_equal(value, 0);
    acpi_pm_free(pm);
    bus_free(ports);
}

static void the_pm_timer_runs_at_its_rate(void **state)
{
    (void)state;
    struct bus *ports = bus_new("port");
    struct error err = ERROR_INIT;
    struct acpi_pm_params params = {0};
    struct acpi_pm *pm = acpi_pm_new(ports, &params, &err);
    struct timespec before, after;
    uint32_t first, second;
    clock_gettime(CLOCK_MONOTONIC, &before);
    bus_read(ports, 0x608, &first, 4);
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    bus_read(ports, 0x608, &second, 4);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    /* At least the pause, at most what passed around both reads. */
    assert_in_range(second - first, (uint32_t)(0.020 * 3579545) - 1,
                    (uint32_t)(seconds * 3579545) + 1);
    acpi_pm_free(pm);
    bus_free(ports);
}

static void the_keyboard_controller_resets(void **state)
{
    (void)state;
    struct host host = {0};
    struct bus *ports = bus_new("port");
    struct error err = ERROR_INIT;
    struct legacy_ports_params params = {
        .reset = on_reset, .debug = on_output, .debug_port = 0xe9, .ctx = &host};
    struct legacy_ports *legacy = legacy_ports_new(ports, &params, &err);
    assert_non_null(legacy);
    uint8_t value = 0xfe;
    bus_write(ports, 0x60, &value, 1);
    assert_int_equal(host.resets, 0);
    bus_write(ports, 0x64, &value, 1);
    assert_int_equal(host.resets, 1);
    uint8_t a, b;
    bus_read(ports, 0x61, &a, 1);
    bus_read(ports, 0x61, &b, 1);
    assert_int_equal((a ^ b) & 0x10, 0x10);
    value = '!';
    bus_write(ports, 0xe9, &value, 1);
    assert_string_equal(host.sent, "!");
    bus_read(ports, 0xe9, &value, 1);
    assert_int_equal(value, 0xe9);
    legacy_ports_free(legacy);
    bus_free(ports);
}

static void firmware_writes_to_the_debug_console_by_a_port_of_its_own(void **state)
{
    (void)state;
    for (unsigned one = 0; one < 2; one++) {
        struct host host = {0};
        struct bus *ports = bus_new("port");
        struct legacy_ports_params params = {.reset = on_reset,
                                             .debug = on_output,
                                             .debug_port = one ? 0x402 : 0xe9,
                                             .firmware_port = 0x402,
                                             .ctx = &host};
        struct legacy_ports *legacy = legacy_ports_new(ports, &params, &(struct error){0});
        assert_non_null(legacy);
        uint8_t value = '!';
        bus_write(ports, 0x402, &value, 1);
        value = '?';
        bus_write(ports, 0xe9, &value, 1);
        assert_string_equal(host.sent, one ? "!" : "!?");
        bus_read(ports, 0x402, &value, 1);
        assert_int_equal(value, 0xe9);
        legacy_ports_free(legacy);
        bus_free(ports);
    }
}

static void without_a_debug_console_nobody_answers_firmware(void **state)
{
    (void)state;
    struct host host = {0};
    struct bus *ports = bus_new("port");
    struct legacy_ports_params params = {
        .reset = on_reset, .debug_port = 0xe9, .firmware_port = 0x402, .ctx = &host};
    struct legacy_ports *legacy = legacy_ports_new(ports, &params, &(struct error){0});
    uint8_t value = 0;
    bus_read(ports, 0x402, &value, 1);
    assert_int_equal(value, 0xff);
    legacy_ports_free(legacy);
    bus_free(ports);
}

static void a_debug_port_that_is_taken_is_refused(void **state)
{
    (void)state;
    struct host host = {0};
    struct error err = ERROR_INIT;
    struct legacy_ports_params params = {
        .reset = on_reset, .debug = on_output, .debug_port = 0x64, .ctx = &host};
    struct bus *again = bus_new("port");
    assert_null(legacy_ports_new(again, &params, &err));
    assert_string_equal(err.message, "port 0x64 (--debug-console) is taken by i8042");
    bus_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_guest_sends_goes_out),
        cmocka_unit_test(the_transmit_interrupt_comes_once_for_each_byte),
        cmocka_unit_test(input_fills_the_fifo_and_no_byte_is_lost),
        cmocka_unit_test(fewer_bytes_than_the_trigger_time_out),
        cmocka_unit_test(loopback_keeps_bytes_inside),
        cmocka_unit_test(the_clock_shows_utc_in_each_format),
        cmocka_unit_test(a_time_that_was_set_goes_on),
        cmocka_unit_test(cmos_tells_how_much_ram_there_is),
        cmocka_unit_test(the_acpi_ports_power_off_and_reset),
        cmocka_unit_test(the_pm_timer_runs_at_its_rate),
        cmocka_unit_test(the_keyboard_controller_resets),
        cmocka_unit_test(firmware_writes_to_the_debug_console_by_a_port_of_its_own),
        cmocka_unit_test(without_a_debug_console_nobody_answers_firmware),
        cmocka_unit_test(a_debug_port_that_is_taken_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
