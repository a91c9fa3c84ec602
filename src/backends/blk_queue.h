/* The body of a block queue's thread. */
#ifndef HUSK_BACKENDS_BLK_QUEUE_H
#define HUSK_BACKENDS_BLK_QUEUE_H

#include "backends/blk_disk.h"
#include "backends/rate_limit.h"
#include "backends/server.h"

/* More requests than that are not under way at once. */
#define BLK_RING_ENTRIES 128u

struct blk_device {
    struct blk_disk disk;
    struct rate_limit limit;
    struct blk_rings *rings; /* one a queue; NULL: requests wait for each other */
    unsigned n_queues, queue_size;
    unsigned poll_us; /* how long a queue may watch its ring before it sleeps; 0: not at all */
};

/** blk_queue_run() - serve @queue until it is to stop or the driver broke it; nothing is under way on return. */
void blk_queue_run(struct blk_device *device, struct vu_queue *queue);

#endif
