/* One connection of the vhost-user server: what server.c (its life), rings.c (threads) and messages.c share. */
#ifndef HUSK_BACKENDS_SERVER_INTERNAL_H
#define HUSK_BACKENDS_SERVER_INTERNAL_H

#include "backends/vring.h"

#include <pthread.h>

#define SERVER_TIMEOUT_MS 5000 /* for a message that has begun, and for the room for a reply */

struct ring {
    struct vu_queue queue;
    pthread_t thread;
    bool running; /* @thread, or the server's, serves it */
    bool started; /* by SET_VRING_KICK, until GET_VRING_BASE */
    bool fresh;   /* the next run begins with vring_start() */
    bool enabled;
};

struct vu_server {
    struct vu_backend *backend;
    int fd;
    uint64_t features, protocol; /* acknowledged */
    bool prepared;
    struct guest_map map;
    struct dirty_log log;
    struct inflight inflight;
    int log_fd, backend_fd; /* of SET_LOG_FD and SET_BACKEND_REQ_FD; -1 for none */
    int reply_fd;           /* goes with the reply that is being made */
    struct ring *rings;
    unsigned n_rings;
    /* With run_all(). */
    pthread_t thread;
    bool running; /* @thread exists */
    struct vu_queue **shared;
};

/** rings_create() - the backend's n_queues rings. Returns 0 or -errno. */
int rings_create(struct vu_server *server, struct error *err);

/** rings_destroy() - after rings_pause(). */
void rings_destroy(struct vu_server *server);

/** ring_pause() - end the ring's thread, which finishes what is under way first. A shared thread leaves all rings. */
void ring_pause(struct vu_server *server, struct ring *ring);

/** rings_pause() - all of them, at once. */
void rings_pause(struct vu_server *server);

/** rings_stopped() - pause a device with run_all() and tell it that driver and device begin anew. */
void rings_stopped(struct vu_server *server);

/**
 * rings_resume() - start the thread of each ring that is complete, started and enabled, and has none. A ring that is
 * not in guest memory is reported and left alone. Returns 0, or -errno if the device or a thread cannot be had.
 */
int rings_resume(struct vu_server *server, struct error *err);

/** message_handle() - check a message, do it, and answer. @fds: closed. Returns 0; -errno if the connection must end. */
int message_handle(struct vu_server *server, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                   struct error *err);

#endif
