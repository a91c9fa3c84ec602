/*
 * A split virtqueue from the device's side (virtio 1.2, 2.7). The server sets it up; then its thread alone uses it,
 * through the functions in server.h, until the server stops that thread.
 */
#ifndef HUSK_BACKENDS_VRING_H
#define HUSK_BACKENDS_VRING_H

#include "backends/dirty_log.h"
#include "backends/guest_map.h"
#include "backends/inflight.h"
#include "backends/server.h"

#define VRING_DESC_F_NEXT 1u
#define VRING_DESC_F_WRITE 2u
#define VRING_DESC_F_INDIRECT 4u
#define VRING_AVAIL_F_NO_INTERRUPT 1u
#define VRING_USED_F_NO_NOTIFY 1u

struct vring_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

struct vring_avail {
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[]; /* followed by used_event */
};

struct vring_used_elem {
    uint32_t id;
    uint32_t len;
};

struct vring_used {
    uint16_t flags;
    uint16_t idx;
    struct vring_used_elem ring[]; /* followed by avail_event, 16 bits */
};

struct vu_queue {
    /* What the server knows of it. */
    const char *name; /* of the back-end, for messages */
    unsigned index;
    const struct guest_map *map;
    const struct dirty_log *log; /* NULL while nothing is to be logged */
    const struct inflight *inflight;
    uint64_t features;
    uint16_t num; /* descriptors; a power of two; 0 until it is set */
    bool addr_set;
    struct vhost_user_vring_addr addr;
    int kick_fd, call_fd, err_fd, stop_fd; /* -1 for none */
    int log_fd, backend_fd;                /* the server's; -1 for none */

    /* The ring, resolved; valid from vring_map() until guest memory changes. */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    struct inflight_ring *tracked; /* NULL without an in-flight region */

    /* Where it stands. */
    uint16_t last_avail;   /* the next entry of the available ring to take */
    uint16_t shadow_avail; /* idx of the available ring as read last */
    uint16_t used_idx;
    uint16_t signalled; /* used_idx at the last vu_queue_notify() */
    bool signalled_valid, broken;
    uint64_t counter;   /* of requests taken, for the in-flight region */
    uint8_t *taken;     /* by head: whether it is under way; room for @num_max */
    uint16_t *resubmit; /* heads to serve again; room for @num_max */
    unsigned n_resubmit, next_resubmit;
    unsigned num_max;

    /* Why it is broken. On no stack: zeroing its 1.5 KiB there would be most of what taking a request costs. */
    struct error why;
};

/** vring_init() - an empty queue for rings of up to @num_max descriptors. Returns 0 or -errno. */
int vring_init(struct vu_queue *queue, const char *name, unsigned index, unsigned num_max);

/** vring_release() - close its descriptors and free its memory. */
void vring_release(struct vu_queue *queue);

/** vring_reset() - as after vring_init(): no size, addresses or descriptors but stop_fd. */
void vring_reset(struct vu_queue *queue);

/**
 * vring_map() - find the ring in guest memory, again whenever that, the size, addresses or features changed.
 *
 * Without room for it in the in-flight region, @tracked stays NULL.
 *
 * Return: 0; -EINVAL if size or addresses are missing, misaligned, or not each in one region of guest memory.
 */
int vring_map(struct vu_queue *queue, struct error *err);

/**
 * vring_start() - begin at used ring and in-flight region as a stopped ring or a dead back-end left them; after
 * vring_map(). Without an in-flight region @last_avail says where to go on.
 */
void vring_start(struct vu_queue *queue);

/** vring_break() - say why, tell the front-end, and serve no more. Returns @code. */
int vring_break(struct vu_queue *queue, int code, const struct error *why);

#endif
