/* The virtio devices of a machine: which there are, and which process serves each. */
#ifndef HUSK_VMM_DEVICES_H
#define HUSK_VMM_DEVICES_H

#include "api/event_monitor.h"
#include "base/error.h"
#include "config/config.h"
#include "devices/pci.h"
#include "kvm/kvm.h"
#include "memory/memory.h"
#include "sandbox/broker.h"

struct devices;

/* All of it must outlive the devices. */
struct devices_in {
    const struct vm_config *config;
    struct broker *broker; /* NULL if no device needs it */
    struct event_monitor *events;
    const struct guest_memory *memory;
    struct pci_host *pci;
    struct kvm_routes *routes;
    int vm_fd;
};

/**
 * devices_create() - start the back-ends and show the devices on the PCI bus, in the order of the configuration.
 *
 * Return: the devices, or NULL with @err filled.
 */
struct devices *devices_create(const struct devices_in *in, struct error *err);

/** devices_destroy() - close the connections, which ends husk's own back-ends; no vCPU may run. NULL is allowed. */
void devices_destroy(struct devices *devices);

#endif
