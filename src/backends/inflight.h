/*
 * The in-flight region: memory of the front-end's in which a back-end notes which requests it has taken, so that the
 * one started after a crash serves them again. Layout and steps: the vhost-user specification, "Inflight I/O tracking",
 * split virtqueues. Whoever may write the region is as hostile as guest memory.
 */
#ifndef HUSK_BACKENDS_INFLIGHT_H
#define HUSK_BACKENDS_INFLIGHT_H

#include "base/error.h"
#include "virtio/vhost_user.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight_desc {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;    /* of the last batch of used descriptors */
    uint64_t counter; /* order in which they were taken */
};

struct inflight_ring {
    uint64_t features;
    uint16_t version; /* 1; 0 while nobody has written it */
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    struct inflight_desc desc[];
};

struct inflight {
    uint8_t *bytes; /* NULL without a region */
    void *mapping;
    size_t mapping_len;
    uint16_t n_queues, queue_size;
};

/**
 * inflight_create() - a new region, all zero but for its headers.
 * @where: in: n_queues and queue_size; out: the other fields, too.
 *
 * Return: a sealed memfd, the caller's; -EINVAL if the numbers are zero or beyond virtio's; -errno.
 */
int inflight_create(struct vhost_user_inflight *where, struct error *err);

/**
 * inflight_map() - take a region into use. @region must be empty; @fd stays the caller's.
 *
 * Return: 0; -EINVAL if it is smaller than its queues, is beyond the end of @fd, or was made for other ones.
 */
int inflight_map(struct inflight *region, const struct vhost_user_inflight *where, int fd,
                 struct error *err);

/** inflight_unmap() - empty afterwards; an empty one is allowed. */
void inflight_unmap(struct inflight *region);

/** inflight_ring() - that of queue @index; NULL if the region has none with room for @num descriptors. */
struct inflight_ring *inflight_ring(const struct inflight *region, unsigned index, unsigned num);

/** inflight_take() - note that the request @head was taken, as number @counter. */
void inflight_take(struct inflight_ring *ring, uint16_t head, uint64_t counter);

/** inflight_giving() - @head is about to enter the used ring. */
void inflight_giving(struct inflight_ring *ring, uint16_t head);

/** inflight_gave() - the used ring's idx, now @used_idx, has told the driver of @head. */
void inflight_gave(struct inflight_ring *ring, uint16_t head, uint16_t used_idx);

/**
 * inflight_recover() - bring the ring in step with the used ring after a crash.
 * @num: descriptors of the virtqueue, not more than the ring has.
 * @used_idx: idx of the used ring.
 * @heads: receives the requests to serve again, oldest first; room for @num.
 * @counter: receives a number greater than that of any of them.
 *
 * Return: how many.
 */
unsigned inflight_recover(struct inflight_ring *ring, unsigned num, uint16_t used_idx,
                          uint16_t *heads, uint64_t *counter);

#endif
