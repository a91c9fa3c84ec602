/*
 * One vhost-user connection as its front-end sees it: the handshake, and each message as a function. Nothing that the
 * back-end sends is trusted: answers are checked for request, length and contents, descriptors that were not asked for
 * are closed, and everything between two calls of frontend_begin() has one deadline.
 *
 * Failures: -EREMOTEIO is a refusal, after which the connection goes on; -ETIMEDOUT means that the answer may still come,
 * and a later call passes over it; after any other the connection is of no more use.
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
/* For the first answers of a process that has just been made, before there is a guest that waits. */
#define VHOST_USER_START_TIMEOUT_MS 30000

struct vhost_user_frontend {
    int fd;         /* -1: no connection */
    int backend_fd; /* where the back-end sends requests of its own, -1: nowhere */
    uint64_t features;
    uint64_t protocol_features; /* those in use */
    uint64_t n_queues;          /* at most; 1 if the back-end does not say */
    int64_t deadline_ms;        /* of the monotonic clock: when what is under way has to be over */
    bool owed;                  /* an answer was waited for in vain and may still come */
    bool config_changed;        /* the back-end said so; whoever has read it anew clears this */
};

#define VHOST_USER_FRONTEND_INIT ((struct vhost_user_frontend){.fd = -1, .backend_fd = -1})

/* How one virtqueue is started. */
struct vhost_user_queue {
    unsigned index;
    uint16_t size, base;
    uint64_t desc, driver, used; /* addresses in this process */
    int kick_fd, call_fd;
    int err_fd; /* signalled if the driver broke the queue */
    bool off;   /* set up, but not enabled yet */
};

/**
 * frontend_open() - the handshake over @fd, which is owned from now on, on failure too.
 * @timeout_ms: for all of it.
 *
 * Return: 0; -ENOTSUP if the back-end is too old for virtio 1.x; another -errno.
 */
int frontend_open(struct vhost_user_frontend *frontend, int fd, int timeout_ms, struct error *err);
void frontend_close(struct vhost_user_frontend *frontend);

/** frontend_begin() - all calls from here to the next frontend_begin() have @timeout_ms together. */
void frontend_begin(struct vhost_user_frontend *frontend, int timeout_ms);

/** frontend_settle() - take the answer that is owed, if there is one. Returns 0 or -errno. */
int frontend_settle(struct vhost_user_frontend *frontend, struct error *err);

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

/** frontend_start_queue() - set it up and, unless it is off, enable it. */
int frontend_start_queue(struct vhost_user_frontend *frontend, const struct vhost_user_queue *queue,
                         struct error *err);

/** frontend_enable_queue() - or disable one that is set up. */
int frontend_enable_queue(struct vhost_user_frontend *frontend, unsigned index, bool enable,
                          struct error *err);

/** frontend_stop_queue() - returns when the back-end has finished what it had taken. */
int frontend_stop_queue(struct vhost_user_frontend *frontend, unsigned index, struct error *err);

/** frontend_reset() - RESET_DEVICE, once all queues have stopped; nothing where the back-end does not know it. */
int frontend_reset(struct vhost_user_frontend *frontend, struct error *err);

/**
 * frontend_backend_request() - take one request of the back-end's, when backend_fd is readable, and answer it. What it
 * asks for is seen in @config_changed. Done too while an answer is waited for, as the back-end may wait for this one first.
 *
 * Return: 0, or -errno if that channel is of no more use (it is closed then).
 */
int frontend_backend_request(struct vhost_user_frontend *frontend, struct error *err);

#endif
