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

#define COMMON_BYTES 0x3a

struct virtio_pci {
    struct virtio_pci_params params;
    pthread_mutex_t lock; /* all below; taken after the PCI host's where both are */
    struct pci_device *pci;
    unsigned msix_offset, window_offset; /* of the capabilities MSI-X and VIRTIO_PCI_CAP_PCI_CFG */
    uint64_t bar;                        /* where it answers, 0: nowhere */
    struct msix *msix;
    int *call_fds; /* those of @queues, side by side */
    struct virtio_pci_queue *queues;
    uint16_t *vectors; /* one a queue */
    uint64_t features, driver_features;
    uint32_t feature_select, driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
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

/** virtio_pci_config_interrupt() - ISR and the configuration's vector; the lock is held. */
void virtio_pci_config_interrupt(struct virtio_pci *transport);

#endif
