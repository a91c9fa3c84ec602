#include "vmm/platform.h"

#include "base/log.h"
#include "devices/acpi_pm.h"
#include "devices/ioapic.h"
#include "devices/legacy_ports.h"
#include "devices/pci.h"
#include "devices/pvpanic.h"
#include "devices/q35.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "vmm/firmware_items.h"
#include "vmm/machine_layout.h"
#include "x86/boot.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct platform {
    struct platform_in in;
    struct ioapic *ioapic;
    struct acpi_pm *pm;
    struct legacy_ports *legacy;
    struct rtc *rtc;
    struct serial *serial; /* NULL with --serial off */
    struct q35 *q35;       /* NULL on Cloud Hypervisor's platform */
    struct pci_host *pci;
    struct firmware_items *items; /* NULL without firmware */
    struct pvpanic *pvpanic;      /* NULL without --pvpanic */
};

static void stop_machine(struct platform *platform, enum stop_kind kind, const char *detail)
{
    struct stop_reason reason = {.kind = kind};
    strncpy(reason.detail, detail, sizeof(reason.detail) - 1);
    machine_stop(platform->in.machine, &reason);
}

static void on_power_off(void *ctx)
{
    stop_machine(ctx, STOP_POWER_OFF, "the guest switched itself off");
}

static void on_reset(void *ctx)
{
    stop_machine(ctx, STOP_RESET, "the guest asked for a reset");
}

static void on_needs_smm(void *ctx)
{
    stop_machine(ctx, STOP_HOST_ERROR,
                 "the firmware needs system management mode, which husk's guests do not have: take "
                 "a build that is not for secure boot (no *.secboot.fd, no *.ms.fd)");
}

static void set_route(void *ctx, unsigned pin, bool masked, uint64_t addr, uint32_t data)
{
    struct platform *platform = ctx;
    if (masked)
        kvm_routes_clear(platform->in.routes, pin);
    else if (kvm_routes_set(platform->in.routes, pin, addr, data) < 0)
        log_error("out of memory for the route of interrupt %u", pin);
}

static void commit_routes(void *ctx)
{
    struct platform *platform = ctx;
    int ret = kvm_routes_commit(platform->in.routes);
    if (ret < 0)
        log_error("KVM refused the interrupt routes: %s", strerror(-ret));
}

static void signal_msi(void *ctx, uint64_t addr, uint32_t data)
{
    struct platform *platform = ctx;
    /* A message that no local APIC takes is lost, as on a real machine. */
    int ret = kvm_signal_msi(platform->in.vm_fd, addr, data);
    if (ret < 0)
        log_debug("interrupt message 0x%x to 0x%llx was not taken: %s", data,
                  (unsigned long long)addr, strerror(-ret));
}

static void set_irq(void *ctx, unsigned gsi, bool level)
{
    struct platform *platform = ctx;
    ioapic_set_irq(platform->ioapic, gsi, level);
}

static int create_ioapic(struct platform *platform, struct error *err)
{
    static const struct ioapic_ops ops = {set_route, commit_routes, signal_msi};
    platform->ioapic = ioapic_new(&ops, platform);
    if (!platform->ioapic)
        return error_set(err, -ENOMEM, "out of memory for the I/O APIC");
    return bus_add(platform->in.mmio, LAYOUT_IOAPIC, IOAPIC_MMIO_LEN, "I/O APIC", &ioapic_bus_ops,
                   platform->ioapic, err);
}

static int create_pm(struct platform *platform, struct error *err)
{
    struct acpi_pm_params params = {
        .irq = {.set = set_irq, .ctx = platform, .gsi = LAYOUT_GSI_GED},
        .q35 = machine_is_q35(platform->in.config),
        .power_off = on_power_off,
        .reset = on_reset,
        .ctx = platform,
    };
    platform->pm = acpi_pm_new(platform->in.ports, &params, err);
    return platform->pm ? 0 : err->code;
}

static void debug_output(void *ctx, const uint8_t *data, size_t len)
{
    struct platform *platform = ctx;
    if (platform->in.consoles->debug)
        chardev_write(platform->in.consoles->debug, data, len);
}

static int create_legacy(struct platform *platform, struct error *err)
{
    const struct payload_config *payload = &platform->in.config->payload;
    const struct console_config *debug = &platform->in.config->debug_console;
    struct legacy_ports_params params = {
        .reset = on_reset,
        .debug = debug->mode == CONSOLE_OFF ? NULL : debug_output,
        .debug_port = debug->iobase,
        .firmware_port = payload->firmware || payload->igvm ? LAYOUT_PORT_FIRMWARE_DEBUG : 0,
        .ctx = platform,
    };
    platform->legacy = legacy_ports_new(platform->in.ports, &params, err);
    return platform->legacy ? 0 : err->code;
}

static int create_rtc(struct platform *platform, struct error *err)
{
    uint64_t ram = platform->in.config->memory.size;
    uint64_t low = machine_low_ram(platform->in.config);
    struct rtc_params params = {.low_ram = low, .high_ram = ram - low};
    platform->rtc = rtc_new(&params);
    if (!platform->rtc)
        return error_set(err, -ENOMEM, "out of memory for the clock");
    return bus_add(platform->in.ports, LAYOUT_PORT_CMOS, RTC_PORTS, "RTC", &rtc_bus_ops,
                   platform->rtc, err);
}

static void serial_output(void *ctx, const uint8_t *data, size_t len)
{
    struct platform *platform = ctx;
    if (platform->in.consoles->serial)
        chardev_write(platform->in.consoles->serial, data, len);
}

static void serial_input_ready(void *ctx)
{
    struct platform *platform = ctx;
    chardev_input_ready(platform->in.consoles->serial);
}

static size_t console_input(void *ctx, const uint8_t *data, size_t len)
{
    struct platform *platform = ctx;
    return serial_input(platform->serial, data, len);
}

static int create_serial(struct platform *platform, struct error *err)
{
    if (platform->in.config->serial.mode == CONSOLE_OFF)
        return 0;
    struct serial_params params = {
        .irq = {.set = set_irq, .ctx = platform, .gsi = LAYOUT_GSI_SERIAL},
        .output = serial_output,
        .input_ready = platform->in.consoles->serial ? serial_input_ready : NULL,
        .ctx = platform,
    };
    platform->serial = serial_new(&params);
    if (!platform->serial)
        return error_set(err, -ENOMEM, "out of memory for the serial port");
    int ret = bus_add(platform->in.ports, LAYOUT_PORT_SERIAL, SERIAL_PORTS, "--serial",
                      &serial_bus_ops, platform->serial, err);
    if (ret == 0 && platform->in.consoles->serial)
        chardev_set_input(platform->in.consoles->serial, console_input, platform);
    return ret;
}

static void on_panic(void *ctx, uint8_t bits)
{
    struct platform *platform = ctx;
    if (bits & PVPANIC_PANICKED)
        log_warn("the guest says that it has panicked");
    if (bits & PVPANIC_CRASH_LOADED)
        log_warn("the guest says that it has panicked and runs its crash kernel");
    event_emit(platform->in.events, "guest", "panic", "event",
               bits & PVPANIC_PANICKED ? "panicked" : "crash-loaded", NULL);
}

static int create_pci_host(struct platform *platform, struct error *err)
{
    const struct platform_in *in = &platform->in;
    struct pci_window window = machine_pci_window64(in->config, &in->memory->windows);
    if (!machine_is_q35(in->config)) {
        platform->pci = pci_host_new(in->ports, in->mmio, window.base, window.len, err);
        return platform->pci ? 0 : -ENOMEM;
    }
    struct q35_params params = {
        .ports = in->ports,
        .mmio = in->mmio,
        .low_ram_end = machine_pci_window32(in->config, &in->memory->windows).base,
        .mmio64 = window.base,
        .mmio64_len = window.len,
        .reset = on_reset,
        .needs_smm = on_needs_smm,
        .ctx = platform,
    };
    platform->q35 = q35_new(&params, err);
    if (!platform->q35)
        return -ENOMEM;
    platform->pci = q35_pci(platform->q35);
    return 0;
}

static int create_pci(struct platform *platform, struct error *err)
{
    int ret = create_pci_host(platform, err);
    if (ret < 0 || !platform->in.config->pvpanic)
        return ret;
    platform->pvpanic = pvpanic_new(platform->pci, on_panic, platform, err);
    return platform->pvpanic ? 0 : err->code;
}

static uint64_t placed_ecam(void *ctx)
{
    const struct platform *platform = ctx;
    return platform->q35 ? q35_ecam(platform->q35) : LAYOUT_ECAM;
}

static void items_failed(void *ctx, const struct error *err)
{
    struct platform *platform = ctx;
    stop_machine(platform, STOP_HOST_ERROR, err->message);
}

static int create_firmware_items(struct platform *platform, struct error *err)
{
    if (!machine_has_fw_cfg(platform->in.config))
        return 0;
    struct firmware_items_in in = {
        .config = platform->in.config,
        .files = platform->in.firmware_files,
        .memory = platform->in.memory,
        .ports = platform->in.ports,
        .placed_ecam = placed_ecam,
        .failed = items_failed,
        .ctx = platform,
    };
    platform->items = firmware_items_new(&in, err);
    return platform->items ? 0 : err->code;
}

struct platform *platform_create(const struct platform_in *in, struct error *err)
{
    struct platform *platform = calloc(1, sizeof(*platform));
    if (!platform) {
        error_set(err, -ENOMEM, "out of memory for the platform devices");
        return NULL;
    }
    platform->in = *in;
    int ret = create_ioapic(platform, err);
    if (ret == 0)
        ret = create_pm(platform, err);
    if (ret == 0)
        ret = create_legacy(platform, err);
    if (ret == 0)
        ret = create_rtc(platform, err);
    if (ret == 0)
        ret = create_serial(platform, err);
    if (ret == 0)
        ret = create_pci(platform, err);
    if (ret == 0)
        ret = create_firmware_items(platform, err);
    if (ret < 0) {
        platform_destroy(platform);
        return NULL;
    }
    return platform;
}

void platform_destroy(struct platform *platform)
{
    if (!platform)
        return;
    if (platform->in.consoles->serial)
        chardev_set_input(platform->in.consoles->serial, NULL, NULL);
    firmware_items_free(platform->items);
    if (platform->q35)
        q35_free(platform->q35);
    else
        pci_host_free(platform->pci);
    pvpanic_free(platform->pvpanic);
    serial_free(platform->serial);
    rtc_free(platform->rtc);
    legacy_ports_free(platform->legacy);
    acpi_pm_free(platform->pm);
    ioapic_free(platform->ioapic);
    free(platform);
}

struct pci_host *platform_pci(struct platform *platform)
{
    return platform->pci;
}

void platform_power_button(struct platform *platform)
{
    acpi_pm_notify(platform->pm, LAYOUT_GED_POWER_BUTTON);
}

void platform_eoi(struct platform *platform, uint8_t vector)
{
    ioapic_eoi(platform->ioapic, vector);
}
