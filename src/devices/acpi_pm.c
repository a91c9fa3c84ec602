/* ACPI 6.5: 4.8.3.7 (sleep control and status), 4.8.3.3 (PM timer), 5.6.9 (Generic Event Device). */
#include "devices/acpi_pm.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define PM_TIMER_HZ 3579545ull

/* PM1 registers (ACPI 6.5, 4.8.3.1 and 4.8.3.2), offsets from LAYOUT_PORT_PM1. */
#define PM1_BYTES 8
#define PM1_CONTROL 4
#define PM1_SCI_EN BIT(0)
#define PM1_SLP_EN BIT(13)

struct acpi_pm {
    struct acpi_pm_params params;
    struct timespec start;
    atomic_uchar events; /* pending, cleared when the guest reads them */
};

static void sleep_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    (void)offset;
    memset(data, 0, len);
}

static void sleep_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)offset;
    (void)len;
    struct acpi_pm *pm = device;
    uint8_t value = *(const uint8_t *)data;
    if (value == LAYOUT_SLEEP_S5)
        pm->params.power_off(pm->params.ctx);
    else if (value == LAYOUT_SLEEP_RESET)
        pm->params.reset(pm->params.ctx);
}

/** pm1_read() - no event is ever pending or enabled; ACPI mode is on. */
static void pm1_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    uint8_t registers[PM1_BYTES] = {[PM1_CONTROL] = PM1_SCI_EN};
    memset(data, 0, len);
    memcpy(data, registers + offset, MIN(len, (unsigned)(PM1_BYTES - offset)));
}

/** pm1_write() - the only state to sleep in is off. */
static void pm1_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    struct acpi_pm *pm = device;
    if (offset == PM1_CONTROL && len >= 2 && (load_le16(data) & PM1_SLP_EN))
        pm->params.power_off(pm->params.ctx);
}

/** timer_value() - a 32-bit counter, as the FADT says. */
static uint32_t timer_value(const struct acpi_pm *pm)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t seconds = (uint64_t)(now.tv_sec - pm->start.tv_sec);
    uint64_t ticks = seconds * PM_TIMER_HZ + (uint64_t)now.tv_nsec * PM_TIMER_HZ / 1000000000;
    return (uint32_t)ticks;
}

static void timer_read(void *device, uint64_t offset, void *data, unsigned len)
{
    uint32_t value = htole32(timer_value(device));
    uint8_t bytes[8] = {0};
    memcpy(bytes, &value, sizeof(value));
    memcpy(data, bytes + offset, MIN(len, (unsigned)(sizeof(bytes) - offset)));
}

static void timer_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    /* The timer is read-only. */
    (void)device;
    (void)offset;
    (void)data;
    (void)len;
}

static void events_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)offset;
    struct acpi_pm *pm = device;
    memset(data, 0, len);
    *(uint8_t *)data = atomic_exchange(&pm->events, 0);
}

static void events_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    /* Events are acknowledged by reading them. */
    (void)device;
    (void)offset;
    (void)data;
    (void)len;
}

static const struct bus_ops sleep_ops = {sleep_read, sleep_write};
static const struct bus_ops pm1_ops = {pm1_read, pm1_write};
static const struct bus_ops timer_ops = {timer_read, timer_write};
static const struct bus_ops events_ops = {events_read, events_write};

struct acpi_pm *acpi_pm_new(struct bus *ports, const struct acpi_pm_params *params,
                            struct error *err)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    if (!pm) {
        error_set(err, -ENOMEM, "out of memory for the ACPI ports");
        return NULL;
    }
    pm->params = *params;
    clock_gettime(CLOCK_MONOTONIC, &pm->start);
    uint64_t sleep = params->q35 ? LAYOUT_PORT_SLEEP_Q35 : LAYOUT_PORT_SLEEP;
    if ((params->q35 &&
         bus_add(ports, LAYOUT_PORT_PM1, PM1_BYTES, "ACPI PM1", &pm1_ops, pm, err) < 0) ||
        bus_add(ports, sleep, 1, "ACPI sleep control", &sleep_ops, pm, err) < 0 ||
        bus_add(ports, LAYOUT_PORT_PM_TIMER, 4, "ACPI PM timer", &timer_ops, pm, err) < 0 ||
        bus_add(ports, LAYOUT_PORT_GED, 1, "ACPI events", &events_ops, pm, err) < 0) {
        acpi_pm_free(pm);
        return NULL;
    }
    return pm;
}

void acpi_pm_free(struct acpi_pm *pm)
{
    free(pm);
}

void acpi_pm_notify(struct acpi_pm *pm, uint8_t bits)
{
    atomic_fetch_or(&pm->events, bits);
    irq_pulse(&pm->params.irq);
}
