/* The network device behind a tap interface, as the parts of it share it. */
#ifndef HUSK_BACKENDS_NET_H
#define HUSK_BACKENDS_NET_H

#include "backends/kind.h"
#include "backends/rate_limit.h"
#include "virtio/net.h"

#include <pthread.h>
#include <stdatomic.h>

extern const struct backend_kind net_kind;

/* A receive and a transmit queue, and the queue of the tap that both use. */
struct net_pair {
    int tap_fd;
    unsigned users; /* threads that serve its queues; under the device's lock */
};

struct net_device {
    pthread_mutex_t lock;
    struct net_pair pairs[NET_PAIRS_MAX];
    unsigned n_pairs;
    bool multi_queue;  /* queues of the tap can be attached and detached */
    unsigned offloads; /* TAP_OFFLOAD_* that the kernel knows */
    struct rate_limit rx_limit, tx_limit;
    struct net_config_space config;
    bool has_mtu;
    atomic_bool tap_gone; /* said once */
};

/** net_features() - what the device offers. */
uint64_t net_features(const struct net_device *device);

/** net_header_bytes() - before each frame, for a driver that accepted @features. */
unsigned net_header_bytes(uint64_t features);

/**
 * net_header_sound() - whether a driver that accepted @features may send a frame with @header. Where checksum and
 * segments lie in the frame is the kernel's to check.
 */
bool net_header_sound(const struct net_header *header, uint64_t features);

/**
 * net_header_agreed() - whether a driver that accepted @features may be given a frame with @header, whose flags are made
 * such as it may see. What lies in the tap since before the driver need not be.
 */
bool net_header_agreed(struct net_header *header, uint64_t features);

/** net_attach() - the tap's queue of @pair takes part, as the driver wants its frames. Returns 0 or -errno. */
int net_attach(struct net_device *device, struct net_pair *pair, uint64_t features,
               struct error *err);

/** net_detach() - the kernel gives that queue no frames any more, once both queues of the pair rest. */
void net_detach(struct net_device *device, struct net_pair *pair);

/**
 * net_tap_failed() - what it means that the tap answers with @error: that the interface was deleted, which is said once, or
 * that a frame is lost. EIO only says that it is down, and EINVAL that the frame is none. Returns true for the former.
 */
bool net_tap_failed(struct net_device *device, int error);

/** net_rx_run(), net_tx_run() - the body of a queue's thread, as vu_backend_ops's run(). */
void net_rx_run(struct net_device *device, struct net_pair *pair, struct vu_queue *queue);
void net_tx_run(struct net_device *device, struct net_pair *pair, struct vu_queue *queue);

#endif
