/*
 * The I/O APIC (Intel 82093AA), for KVM's split irqchip: local APICs are KVM's, this is husk's. Each redirection entry is
 * a message to a local APIC; entries are kept as routes of KVM, so that it reports the end of level-triggered ones.
 */
#ifndef HUSK_DEVICES_IOAPIC_H
#define HUSK_DEVICES_IOAPIC_H

#include "devices/bus.h"

#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_PINS 24
#define IOAPIC_MMIO_LEN 0x1000

struct ioapic;

/* What stands behind the pins. Called with the I/O APIC's lock held, from any thread. */
struct ioapic_ops {
    /* Pin @pin sends @data to @addr, or nothing if @masked. Collected until commit_routes. */
    void (*set_route)(void *ctx, unsigned pin, bool masked, uint64_t addr, uint32_t data);
    void (*commit_routes)(void *ctx);
    void (*signal_msi)(void *ctx, uint64_t addr, uint32_t data);
};

extern const struct bus_ops ioapic_bus_ops;

/** ioapic_new() - all entries masked, as after reset. NULL if memory ran out. */
struct ioapic *ioapic_new(const struct ioapic_ops *ops, void *ctx);
void ioapic_free(struct ioapic *ioapic);

/**
 * ioapic_set_irq() - drive pin @pin high or low; from any thread.
 *
 * An edge-triggered entry sends its message on each rising edge; an edge while it is masked is lost, as on hardware. A
 * level-triggered one sends when the pin is high and the last message has been ended.
 */
void ioapic_set_irq(struct ioapic *ioapic, unsigned pin, bool level);

/** ioapic_eoi() - a local APIC has ended @vector: entries whose pin is still high send again. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

#endif
