/* The transport's state, for its two halves: registers (pci_common.c), and bus, capabilities and events (pci.c). */
#ifndef HUSK_VIRTIO_PCI_INTERNAL_H
#define HUSK_VIRTIO_PCI_INTERNAL_H

#include "virtio/msix.h"
#include "virtio/pci.h"

#include <pthread.h>

/* virtio 1.2, 2.1 */
#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER 2u
#define STATUS_DRIVER_OK 4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 64u
#define STATUS_FAILED 128u

#define ISR_CONFIG 2u

#define COMMON_BYTES 0x3c

struct virtio_pci {
    struct virtio_pci_params params;
    pthread_mutex_t lock; /* all below; taken after the PCI host's where both are */
    struct pci_device *pci;
    unsigned msix_offset, window_offset; /* of the capabilities MSI-X and VIRTIO_PCI_CAP_PCI_CFG */
    struct msix *msix;
    bool any_width; /* KVM takes a doorbell of any width at one address */
    uint64_t
        *doorbells; /* one a queue: the address for which KVM signals its eventfd, 0 for none */
    /* What interrupts: one a queue, its call_fd, and behind them one for changes of configuration. */
    int *source_fds;
    struct virtio_pci_queue *queues;
    uint64_t features, driver_features;
    uint32_t feature_select, driver_feature_select;
    uint16_t queue_select;
    uint8_t status;
    uint8_t generation;
    uint8_t isr;
    bool active;    /* ops->activate() was called */
    bool resetting; /* ops->reset() was called, virtio_pci_reset_done() not yet */
};

/** virtio_pci_common_read(), virtio_pci_common_write() - the common configuration (4.1.4.3); the lock is held. */
void virtio_pci_common_read(const struct virtio_pci *transport, uint64_t offset, void *data,
                            unsigned len);
void virtio_pci_common_write(struct virtio_pci *transport, uint64_t offset, const void *data,
                             unsigned len);

/** virtio_pci_clear() - all that the driver has set is as at the start; the lock is held. */
void virtio_pci_clear(struct virtio_pci *transport);

/** config_source() - the index of the interrupt source for changes of configuration. */
static inline unsigned config_source(const struct virtio_pci *transport)
{
    return transport->params.n_queues;
}

#endif
