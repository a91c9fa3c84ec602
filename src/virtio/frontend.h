/*
 * One vhost-user connection as its front-end sees it: the handshake, and each message as a function. Everything waits at
 * most VHOST_USER_TIMEOUT_MS for the back-end; after any failure but a refusal the connection is of no more use.
 *
 * Not for vCPU threads, and for one thread at a time.
 */
#ifndef HUSK_VIRTIO_FRONTEND_H
#define HUSK_VIRTIO_FRONTEND_H

#include "base/error.h"
#include "memory/memory.h"
#include "virtio/vhost_user.h"

#include <stdbool.h>
#include <stdint.h>

#define VHOST_USER_TIMEOUT_MS 5000

struct vhost_user_frontend {
    int fd;         /* -1: no connection */
    int backend_fd; /* where the back-end sends requests of its own, -1: nowhere */
    uint64_t features;
    uint64_t protocol_features; /* those in use */
    uint64_t n_queues;          /* at most; 1 if the back-end does not say */
};

#define VHOST_USER_FRONTEND_INIT ((struct vhost_user_frontend){.fd = -1, .backend_fd = -1})

/* How one virtqueue is started. */
struct vhost_user_queue {
    unsigned index;
    uint16_t size, base;
    uint64_t desc, driver, used; /* addresses in this process */
    int kick_fd, call_fd;
};

/**
 * frontend_open() - the handshake over @fd, which is owned from now on, on failure too.
 *
 * Return: 0; -ENOTSUP if the back-end is too old for virtio 1.x or lacks CONFIG; another -errno.
 */
int frontend_open(struct vhost_user_frontend *frontend, int fd, struct error *err);
void frontend_close(struct vhost_user_frontend *frontend);

/** frontend_get_config(), frontend_set_config() - @len bytes of the device's configuration. */
int frontend_get_config(struct vhost_user_frontend *frontend, uint32_t offset, void *data,
                        uint32_t len, struct error *err);
int frontend_set_config(struct vhost_user_frontend *frontend, uint32_t offset, const void *data,
                        uint32_t len, struct error *err);

/** frontend_set_features() - what the driver accepted; vhost-user's own bit is added. */
int frontend_set_features(struct vhost_user_frontend *frontend, uint64_t features,
                          struct error *err);

/** frontend_set_memory() - all of the guest's RAM. */
int frontend_set_memory(struct vhost_user_frontend *frontend, const struct guest_memory *memory,
                        struct error *err);

/**
 * frontend_get_inflight() - have the back-end make an in-flight region.
 * @where: in: n_queues and queue_size; out: the rest.
 *
 * Return: its descriptor, the caller's; -ENOTSUP if the back-end has no such thing; another -errno.
 */
int frontend_get_inflight(struct vhost_user_frontend *frontend, struct vhost_user_inflight *where,
                          struct error *err);
int frontend_set_inflight(struct vhost_user_frontend *frontend,
                          const struct vhost_user_inflight *where, int fd, struct error *err);

/** frontend_start_queue() - set it up and enable it. */
int frontend_start_queue(struct vhost_user_frontend *frontend, const struct vhost_user_queue *queue,
                         struct error *err);

/** frontend_stop_queue() - returns when the back-end has finished what it had taken. */
int frontend_stop_queue(struct vhost_user_frontend *frontend, unsigned index, struct error *err);

/**
 * frontend_backend_request() - take one request of the back-end's, when backend_fd is readable, and answer it.
 * @config_changed: set if it said so.
 *
 * Return: 0, or -errno if that channel is of no more use (it is closed then).
 */
int frontend_backend_request(struct vhost_user_frontend *frontend, bool *config_changed,
                             struct error *err);

#endif
