/*
 * The ACPI ports of Cloud Hypervisor's platform: sleep control with reset, PM timer, and what the Generic Event Device's
 * interrupt means. On q35, where firmware expects PM1 registers at the same place, those too.
 */
#ifndef HUSK_DEVICES_ACPI_PM_H
#define HUSK_DEVICES_ACPI_PM_H

#include "base/error.h"
#include "devices/bus.h"
#include "devices/irq.h"

#include <stdbool.h>
#include <stdint.h>

struct acpi_pm;

struct acpi_pm_params {
    struct irq_line irq; /* of the Generic Event Device */
    bool q35;            /* PM1 registers, which firmware uses, and sleep control beside them */
    /* From a vCPU thread. */
    void (*power_off)(void *ctx);
    void (*reset)(void *ctx);
    void *ctx;
};

/** acpi_pm_new() - the device on @ports. NULL with @err filled on failure. */
struct acpi_pm *acpi_pm_new(struct bus *ports, const struct acpi_pm_params *params,
                            struct error *err);
void acpi_pm_free(struct acpi_pm *pm);

/** acpi_pm_notify() - raise the Generic Event Device's interrupt for the events @bits (LAYOUT_GED_*). */
void acpi_pm_notify(struct acpi_pm *pm, uint8_t bits);

#endif
