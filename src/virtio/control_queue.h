/*
 * The one virtqueue that the VMM reads itself: a split ring (virtio 1.2, 2.7) of requests that are copied in whole, with a
 * bound on everything, and answered by one byte each.
 */
#ifndef HUSK_VIRTIO_CONTROL_QUEUE_H
#define HUSK_VIRTIO_CONTROL_QUEUE_H

#include "base/error.h"
#include "memory/memory.h"
#include "virtio/pci.h"

#include <stddef.h>
#include <stdint.h>

/* Longer requests are answered by an error. */
#define CONTROL_REQUEST_BYTES 4096u
#define CONTROL_ERROR 1

struct control_queue {
    const struct guest_memory *memory; /* NULL: not started */
    uint16_t size, last_avail, used_idx;
    bool event_idx, indirect;
    uint8_t *desc, *avail, *used; /* in guest memory */
    int kick_fd, call_fd;
    uint8_t request[CONTROL_REQUEST_BYTES];
};

/** control_queue_start() - @queue as the driver has set it up, with @features accepted. Returns 0 or -EINVAL. */
int control_queue_start(struct control_queue *control, const struct guest_memory *memory,
                        const struct virtio_pci_queue *queue, uint64_t features, struct error *err);

/** control_queue_stop() - nothing is read or written any more. */
void control_queue_stop(struct control_queue *control);

/**
 * control_queue_serve() - after a kick: one request, and the kick comes again as long as there was one. So a ring full of
 * requests that take time keeps the thread neither from a reset nor from its end, and each can have a deadline of its own.
 * @handle: gets the @len bytes of a request's readable part, and returns the answer.
 *
 * A request without a byte for the answer is not handed to @handle.
 *
 * Return: 0; -EPROTO if the driver broke the ring: it must not be served again.
 */
int control_queue_serve(struct control_queue *control,
                        uint8_t (*handle)(void *ctx, const uint8_t *request, size_t len), void *ctx,
                        struct error *err);

#endif
