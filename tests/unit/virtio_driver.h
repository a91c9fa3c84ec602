/* A driver's view of one virtio device on a PCI bus of its own: what tests and fuzzers of the transport share. */
#ifndef HUSK_TESTS_VIRTIO_DRIVER_H
#define HUSK_TESTS_VIRTIO_DRIVER_H

#include "devices/pci.h"
#include "virtio/pci.h"

#define DRIVER_QUEUES 3
#define DRIVER_QUEUE_SIZE 128
#define DRIVER_CONFIG_BYTES 12
#define DRIVER_FEATURES 0x1100000000000205ull /* and VERSION_1, which the transport adds */
#define DRIVER_SLOT 1

/* Offsets in BAR 0, as the capabilities say them. */
struct virtio_places {
    uint32_t common, notify, notify_step, isr, device, table, pba;
    unsigned window, msix; /* of the capabilities themselves */
};

struct virtio_driver {
    struct bus *ports, *mmio;
    struct pci_host *host;
    struct virtio_pci *transport;
    struct virtio_places at;
    unsigned activated, reset;
    uint8_t config[DRIVER_CONFIG_BYTES];
};

/** driver_init() - the machine with its device, on KVM's @vm_fd and @routes. Returns 0 or -errno. */
int driver_init(struct virtio_driver *d, int vm_fd, struct kvm_routes *routes);
void driver_destroy(struct virtio_driver *d);

/* Configuration space of the device. */
uint64_t driver_pci_read(struct virtio_driver *d, unsigned offset, unsigned len);
void driver_pci_write(struct virtio_driver *d, unsigned offset, uint64_t value, unsigned len);

/** driver_bar() - where BAR 0's register says it is. */
uint64_t driver_bar(struct virtio_driver *d);

/** driver_find_places() - walk the capability list. */
void driver_find_places(struct virtio_driver *d);

/* BAR 0, at @offset. */
uint64_t driver_read(struct virtio_driver *d, uint64_t offset, unsigned len);
void driver_write(struct virtio_driver *d, uint64_t offset, uint64_t value, unsigned len);

/** driver_accept() - acknowledge the device and @features. Returns whether FEATURES_OK held. */
bool driver_accept(struct virtio_driver *d, uint64_t features);

/** driver_start() - all features, every queue enabled with vector @queue + 1, configuration with 0, DRIVER_OK. */
void driver_start(struct virtio_driver *d);

/** driver_message() - vector @vector sends @data, and is @masked. */
void driver_message(struct virtio_driver *d, unsigned vector, uint32_t data, bool masked);

/* Registers of the common configuration (virtio 1.2, 4.1.4.3). */
enum {
    COMMON_FEATURE_SELECT = 0x00,
    COMMON_FEATURE = 0x04,
    COMMON_DRIVER_FEATURE_SELECT = 0x08,
    COMMON_DRIVER_FEATURE = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_NUM_QUEUES = 0x12,
    COMMON_STATUS = 0x14,
    COMMON_GENERATION = 0x15,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_DRIVER = 0x28,
    COMMON_QUEUE_USED = 0x30,
};

#endif
