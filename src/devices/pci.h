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
    /* The guest reads @len bytes at @offset: the last moment to change what is there. */
    void (*config_will_be_read)(void *device, unsigned offset, unsigned len);
};

struct pci_device_params {
    const char *name; /* for messages; outlives the device */
    unsigned slot;    /* 0: the first free one */
    uint16_t vendor_id, device_id;
    uint16_t subsystem_vendor_id, subsystem_id;
    uint32_t class_code; /* base class, subclass, programming interface: 24 bits */
    uint8_t revision;
    const struct pci_device_ops *ops; /* NULL: it wants to be told of nothing */
    void *device;                     /* handed to @ops and to the BARs' bus_ops */
};

/* A host whose firmware places everything, as a PC's. */
struct pci_host_params {
    struct bus *ports, *mmio;
    const struct pci_device_params *bridge; /* in slot 0; pci_host_bridge() gives it */
    uint64_t mmio32, mmio32_len;            /* where 32-bit BARs may be */
    uint64_t mmio64, mmio64_len;            /* where 64-bit BARs may be as well */
    /* The guest wrote @value to port 0xcf9. From a vCPU thread. */
    void (*reset_control)(void *ctx, uint8_t value);
    void *ctx;
};

/** pci_host_new_bare() - no BAR has an address, memory decoding is off, and there is no ECAM yet.
 *
 * Return: as pci_host_new().
 */
struct pci_host *pci_host_new_bare(const struct pci_host_params *params, struct error *err);

/** pci_host_bridge() - the device in slot 0. */
struct pci_device *pci_host_bridge(struct pci_host *host);

/** pci_host_set_ecam() - configuration space of bus 0 answers at @base from now on; 0: nowhere. For @config_written. */
void pci_host_set_ecam(struct pci_host *host, uint64_t base);

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

/**
 * pci_device_add() - in the first free slot. The guest sees it after pci_device_start(); until then one thread may add
 * BARs and capabilities, while vCPUs run and other devices come and go.
 *
 * Return: the device, or NULL with @err, which may be NULL, filled: -ENOMEM, -ENOSPC.
 */
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

/**
 * pci_device_remove() - off the bus, and freed: its slot and addresses are free for another. Its @bar_moved is called for
 * BARs that answered. No vCPU may be in its BARs' bus_ops. From any thread, not from @ops.
 */
void pci_device_remove(struct pci_device *device);

/** pci_device_writable() - which bits of its configuration space the guest can change, 256 bytes; before it is started. */
uint8_t *pci_device_writable(struct pci_device *device);

/** pci_device_config() - its configuration space, 256 bytes; for @config_written, whose caller holds the lock. */
uint8_t *pci_device_config(struct pci_device *device);

#endif
