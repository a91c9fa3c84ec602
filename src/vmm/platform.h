/* The platform devices of a machine: which there are, at which addresses, and what their lines are tied to. */
#ifndef HUSK_VMM_PLATFORM_H
#define HUSK_VMM_PLATFORM_H

#include "base/error.h"
#include "devices/bus.h"
#include "devices/pci.h"
#include "memory/memory.h"
#include "vmm/consoles.h"
#include "vmm/machine.h"

struct platform;

struct platform_in {
    const struct vm_config *config;
    struct machine *machine; /* told of power-off and reset */
    struct event_monitor *events;
    struct consoles *consoles;
    const struct firmware_files *firmware_files;
    const struct guest_memory *memory;
    struct kvm_routes *routes;
    int vm_fd;
    struct bus *ports;
    struct bus *mmio;
};

/** platform_create() - make the devices and put them on the buses. NULL with @err filled on failure. */
struct platform *platform_create(const struct platform_in *in, struct error *err);
void platform_destroy(struct platform *platform);

/** platform_pci() - the bus for further devices; they are to be freed before the platform. */
struct pci_host *platform_pci(struct platform *platform);

/** platform_power_button() - press it; from any thread. */
void platform_power_button(struct platform *platform);

/** platform_eoi() - a local APIC has ended the level-triggered interrupt @vector; from any thread. */
void platform_eoi(struct platform *platform, uint8_t vector);

#endif
