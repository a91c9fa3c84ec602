/*
 * PCI: one bus of 32 single-function devices behind Cloud Hypervisor's host bridge (8086:0d57), its configuration space
 * reached through ports 0xcf8 and 0xcfc and through ECAM. Memory BARs only; a BAR that the guest puts where it cannot be
 * (over RAM, over another device) answers nowhere until it is moved away.
 */
#ifndef HUSK_DEVICES_PCI_H
#define HUSK_DEVICES_PCI_H

#include "base/error.h"
#include "devices/bus.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCI_DEVICES_MAX 32
#define PCI_BARS_MAX 6

struct pci_host;
struct pci_device;

/* What a device is told of. All but @bar_moved may be NULL together with the struct. Called from vCPU threads (and from
 * pci_device_start()) with the host's lock held: a callback must not call back into the PCI host. */
struct pci_device_ops {
    /* BAR @bar answers at @base from now on; @base 0: nowhere. */
    void (*bar_moved)(void *device, unsigned bar, uint64_t base);
    /* The guest wrote @len bytes of configuration space at @offset; the new contents are there already. */
    void (*config_written)(void *device, unsigned offset, unsigned len);
};

struct pci_device_params {
    const char *name; /* for messages; outlives the device */
    uint16_t vendor_id, device_id;
    uint16_t subsystem_vendor_id, subsystem_id;
    uint32_t class_code; /* base class, subclass, programming interface: 24 bits */
    uint8_t revision;
    const struct pci_device_ops *ops; /* NULL: it wants to be told of nothing */
    void *device;                     /* handed to @ops and to the BARs' bus_ops */
};

/**
 * pci_host_new() - the bus with its host bridge, on @ports and @mmio.
 * @mmio64: base of the window for 64-bit BARs; @mmio64_len: its length, 0 for none.
 *
 * Return: the host, or NULL with @err filled.
 */
struct pci_host *pci_host_new(struct bus *ports, struct bus *mmio, uint64_t mmio64,
                              uint64_t mmio64_len, struct error *err);

/** pci_host_free() - frees the devices too; no vCPU may run any more. */
void pci_host_free(struct pci_host *host);

/** pci_device_add() - in the first free slot. NULL with @err filled on failure. The guest sees it after pci_device_start(). */
struct pci_device *pci_device_add(struct pci_host *host, const struct pci_device_params *params,
                                  struct error *err);

/**
 * pci_device_add_bar() - memory BAR number @bar, @size bytes (a power of two, 16 at least) that @ops answer.
 * @is_64bit: takes the next BAR's register too and goes to the 64-bit window, if there is one.
 *
 * The BAR gets an address in its window, as firmware would give it.
 *
 * Return: 0, -ENOSPC if the window is full, -EINVAL for a number or size that cannot be, or a register that is taken.
 */
int pci_device_add_bar(struct pci_device *device, unsigned bar, uint64_t size, bool is_64bit,
                       const struct bus_ops *ops, struct error *err);

/**
 * pci_device_add_capability() - append to the capability list.
 * @body: what follows the two header bytes, @len bytes; @writable: the bits of them that the guest may write, or NULL.
 *
 * Return: the capability's offset, or -ENOSPC.
 */
int pci_device_add_capability(struct pci_device *device, uint8_t id, const void *body, size_t len,
                              const void *writable);

/** pci_device_start() - the device is complete: show it to the guest, memory decoding on. */
void pci_device_start(struct pci_device *device);

/** pci_device_config() - its configuration space, 256 bytes; for @config_written, whose caller holds the lock. */
uint8_t *pci_device_config(struct pci_device *device);

#endif
