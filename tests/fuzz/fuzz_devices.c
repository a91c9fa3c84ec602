/*
 * The platform devices, driven as a guest drives them: a sequence of reads and writes of ports and MMIO, with console
 * input and pin changes in between. Each step is 8 bytes: what, which address, width, value.
 */
#include "base/bytes.h"
#include "devices/acpi_pm.h"
#include "devices/bus.h"
#include "devices/ioapic.h"
#include "devices/legacy_ports.h"
#include "devices/rtc.h"
#include "devices/serial.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEP_BYTES 8

static void ignore(void *ctx)
{
    (void)ctx;
}

static void ignore_bytes(void *ctx, const uint8_t *data, size_t len)
{
    (void)ctx;
    (void)data;
    (void)len;
}

static void ignore_route(void *ctx, unsigned pin, bool masked, uint64_t addr, uint32_t data)
{
    (void)masked;
    (void)data;
    (void)ctx;
    /* A message goes to the local APICs' window and nowhere else, whatever the guest wrote. */
    if (pin >= IOAPIC_PINS || addr >> 20 != 0xfee)
        abort();
}

static void check_message(void *ctx, uint64_t addr, uint32_t data)
{
    ignore_route(ctx, 0, false, addr, data);
}

static void set_pin(void *ctx, unsigned gsi, bool level)
{
    ioapic_set_irq(ctx, gsi, level);
}

struct devices {
    struct bus *ports, *mmio;
    struct ioapic *ioapic;
    struct serial *serial;
    struct rtc *rtc;
    struct acpi_pm *pm;
    struct legacy_ports *legacy;
};

static void create(struct devices *d)
{
    static const struct ioapic_ops ops = {ignore_route, ignore, check_message};
    d->ports = bus_new("port");
    d->mmio = bus_new("MMIO");
    d->ioapic = ioapic_new(&ops, NULL);
    bus_add(d->mmio, 0xfec00000, IOAPIC_MMIO_LEN, "I/O APIC", &ioapic_bus_ops, d->ioapic, NULL);
    struct irq_line irq = {.set = set_pin, .ctx = d->ioapic, .gsi = 4};
    struct serial_params serial = {.irq = irq, .output = ignore_bytes, .input_ready = ignore};
    d->serial = serial_new(&serial);
    bus_add(d->ports, 0x3f8, SERIAL_PORTS, "serial", &serial_bus_ops, d->serial, NULL);
    struct rtc_params rtc = {.low_ram = GIB(3), .high_ram = GIB(1)};
    d->rtc = rtc_new(&rtc);
    bus_add(d->ports, 0x70, RTC_PORTS, "RTC", &rtc_bus_ops, d->rtc, NULL);
    struct acpi_pm_params pm = {.irq = irq, .power_off = ignore, .reset = ignore};
    d->pm = acpi_pm_new(d->ports, &pm, NULL);
    struct legacy_ports_params legacy = {
        .reset = ignore, .debug = ignore_bytes, .debug_port = 0xe9};
    d->legacy = legacy_ports_new(d->ports, &legacy, NULL);
}

static void destroy(struct devices *d)
{
    legacy_ports_free(d->legacy);
    acpi_pm_free(d->pm);
    rtc_free(d->rtc);
    serial_free(d->serial);
    ioapic_free(d->ioapic);
    bus_free(d->ports);
    bus_free(d->mmio);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct devices d;
    create(&d);
    for (; size >= STEP_BYTES; data += STEP_BYTES, size -= STEP_BYTES) {
        uint16_t addr = load_le16(data + 1);
        unsigned width = 1u << (data[3] & 3);
        uint8_t value[8] = {0};
        memcpy(value, data + 4, 4);
        switch (data[0] % 6) {
        case 0:
            bus_write(d.ports, addr, value, width);
            break;
        case 1:
            bus_read(d.ports, addr, value, width);
            break;
        case 2:
            bus_write(d.mmio, 0xfec00000 + addr, value, width);
            break;
        case 3:
            bus_read(d.mmio, 0xfec00000 + addr, value, width);
            break;
        case 4:
            serial_input(d.serial, value, 4);
            break;
        default:
            ioapic_set_irq(d.ioapic, data[1], data[2] & 1);
            ioapic_eoi(d.ioapic, data[4]);
            break;
        }
    }
    destroy(&d);
    return 0;
}
