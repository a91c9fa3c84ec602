/*
 * The virtio 1.2 PCI transport (4.1), modern only: configuration registers, virtqueue set-up, MSI-X, doorbells as
 * ioeventfds. It knows no device and no back-end: a device is told when the driver is ready and when it resets, and takes
 * the queues' addresses and eventfds from here.
 */
#ifndef HUSK_VIRTIO_PCI_H
#define HUSK_VIRTIO_PCI_H

#include "base/error.h"
#include "devices/pci.h"
#include "kvm/kvm.h"

#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)

#define VIRTIO_PCI_QUEUES_MAX 256

struct virtio_pci;

/* Called on vCPU threads with the transport's lock held: must not block, and must not call back but for
 * virtio_pci_queue() and virtio_pci_features(). */
struct virtio_pci_ops {
    /* DRIVER_OK was written: the queues may be read with virtio_pci_queue(). */
    void (*activate)(void *device);
    /* 0 was written to status after that: virtio_pci_reset_done() when drained; until then status reads non-zero. */
    void (*reset)(void *device);
    void (*config_read)(void *device, unsigned offset, void *data, unsigned len);
    void (*config_write)(void *device, unsigned offset, const void *data, unsigned len);
};

struct virtio_pci_params {
    const char *name; /* for messages; outlives it */
    struct pci_host *pci;
    int vm_fd;
    struct kvm_routes *routes;
    uint16_t virtio_id;
    uint32_t class_code;
    unsigned n_queues;
    uint16_t queue_size; /* at most, a power of two */
    uint64_t features;   /* offered; VERSION_1 is offered in any case */
    uint32_t config_len; /* bytes of the device's configuration */
    bool bars_64bit;
    const struct virtio_pci_ops *ops;
    void *device;
};

/** virtio_pci_new() - on the bus, and shown to the guest. Features of the transport's own that it lacks are not offered.
 *
 * Return: NULL with @err, which may be NULL, filled on failure: -EINVAL for a number or size of queues that cannot be,
 * -ENOSPC if the bus is full, -ENOMEM, -EMFILE.
 */
struct virtio_pci *virtio_pci_new(const struct virtio_pci_params *params, struct error *err);

/** virtio_pci_free() - off the bus; no vCPU may run. NULL is allowed. */
void virtio_pci_free(struct virtio_pci *transport);

struct virtio_pci_queue {
    bool enabled;
    uint16_t size;
    uint64_t desc, driver, used; /* guest addresses, unchecked */
    int kick_fd, call_fd;        /* eventfds, the transport's */
};

/** virtio_pci_queue() - number @index; its contents are stable from activation to the end of the next reset. */
const struct virtio_pci_queue *virtio_pci_queue(const struct virtio_pci *transport, unsigned index);

/** virtio_pci_features() - as the driver accepted them. */
uint64_t virtio_pci_features(const struct virtio_pci *transport);

/** virtio_pci_reset_done() - after ops->reset(): the device is as new. From any thread, not from ops. */
void virtio_pci_reset_done(struct virtio_pci *transport);

/** virtio_pci_config_changed() - new generation, interrupt. From any thread, not from ops. */
void virtio_pci_config_changed(struct virtio_pci *transport);

/** virtio_pci_needs_reset() - set DEVICE_NEEDS_RESET and interrupt (2.1.2); nothing to a driver that is not there or is
 * resetting. From any thread, not from ops. */
void virtio_pci_needs_reset(struct virtio_pci *transport);

/** virtio_pci_interrupt_all() - one interrupt for each vector of an enabled queue, so that nothing completed stays
 * unseen. From any thread, not from ops. */
void virtio_pci_interrupt_all(struct virtio_pci *transport);

#endif
