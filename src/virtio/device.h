/*
 * A vhost-user device through its life: the first connection, activation by the driver, resets, and a back-end that dies
 * and comes back. Each has a control thread, so that no vCPU ever waits for a back-end.
 *
 * A back-end that ends is connected to or started again: at once, then after a time that doubles from 100 ms to 5 s until
 * one has lived for a minute. It must be what it was: features, queues, in-flight region and capacity. Its queues go on
 * from the in-flight region, else from used->idx. One that is husk's own and does not do a job in time is killed; another
 * program's makes the device say DEVICE_NEEDS_RESET, and a reset that it does not answer ends when it does, or is gone.
 *
 * A back-end that keeps state of its own, which no other could go on with, makes the device say so too when it ends.
 *
 * The control queue of a network device is served by that thread, too.
 */
#ifndef HUSK_VIRTIO_DEVICE_H
#define HUSK_VIRTIO_DEVICE_H

#include "api/event_monitor.h"
#include "base/error.h"
#include "devices/pci.h"
#include "kvm/kvm.h"
#include "memory/memory.h"
#include "virtio/net.h"

#include <stdbool.h>
#include <stdint.h>

struct vhost_user_device;

struct vhost_user_link {
    int socket_fd;
    int pidfd; /* -1: somebody else's process */
};

struct vhost_user_device_ops {
    /* Start the back-end or connect to it; @again: not for the first time. Takes at most 5 s. Called before vCPUs run,
     * then from the control thread. The descriptors of @link are the device's from then on. */
    int (*connect)(void *ctx, bool again, struct vhost_user_link *link, struct error *err);
    /* Kill the back-end, which is husk's own. */
    void (*kill)(void *ctx);
};

/* A network device: MAC address, link, MTU and the control queue are the front-end's, whoever moves the frames. */
struct vhost_user_net {
    unsigned pairs; /* of queues, 1 to NET_PAIRS_MAX */
    uint8_t mac[NET_MAC_BYTES];
    uint16_t mtu; /* 0: the driver is not told one */
};

struct vhost_user_device_params {
    const char *name; /* for messages and events; outlives the device */
    uint16_t virtio_id;
    uint32_t class_code;
    unsigned n_queues; /* for a network device: two for each pair, and the control queue */
    uint16_t queue_size;
    uint32_t config_len; /* bytes of configuration, at most 256 */
    const void
        *config; /* where they are, until vhost_user_device_new() returns; NULL: the back-end's */
    const struct vhost_user_net *net; /* NULL: no network device */
    bool bars_64bit;
    uint64_t features_off; /* not to be offered, though the back-end has them */
    bool
        isolated; /* the guest has memory that no device reaches: its driver has to know, by ACCESS_PLATFORM */
    bool own_backend; /* ops->kill() ends it */
    bool keeps_state; /* no other back-end can go on where this one ended */
    int timeout_ms; /* for the back-end to do one job (reset, start, a change); 0: VHOST_USER_TIMEOUT_MS */
    const struct guest_memory *memory;
    struct pci_host *pci;
    int vm_fd;
    struct kvm_routes *routes;
    struct event_monitor *events;
    const struct vhost_user_device_ops *ops;
    void *ctx;
};

/** vhost_user_device_new() - connect, shake hands, and show the device on the PCI bus. NULL with @err filled. */
struct vhost_user_device *vhost_user_device_new(const struct vhost_user_device_params *params,
                                                struct error *err);

/** vhost_user_device_end() - let the back-end begin to finish, and do not wait for it; vhost_user_device_free() does. */
void vhost_user_device_end(struct vhost_user_device *device);

/** vhost_user_device_free() - let the back-end finish (5 s at most), and go. No vCPU may run. NULL is allowed. */
void vhost_user_device_free(struct vhost_user_device *device);

#endif
