/*
 * The entropy back-end: `husk-backend rng`. One queue of buffers, each of which the driver gets back with random bytes in
 * it (virtio 1.2, 5.4).
 *
 * A request stays in its queue until there are bytes for it: a source that has none to give holds up the driver's requests
 * and nothing else.
 */
#ifndef HUSK_BACKENDS_RNG_H
#define HUSK_BACKENDS_RNG_H

#include "backends/kind.h"

#include <stddef.h>

#define RNG_QUEUE_SIZE_MAX 1024u
/* The most that one request is given: the driver may ask for 4 GiB at once, and asks again for what it did not get. */
#define RNG_REQUEST_MAX 4096u

struct rng_device {
    int src_fd; /* does not block */
    uint8_t pool[RNG_REQUEST_MAX];
    size_t n;    /* bytes of @pool, from its beginning, that nobody has been given */
    bool is_dry; /* the source failed or ended, which was said */
};

/** rng_run() - serve the queue; for vu_backend_ops.run. */
void rng_run(struct rng_device *device, struct vu_queue *queue);

extern const struct backend_kind rng_kind;

#endif
