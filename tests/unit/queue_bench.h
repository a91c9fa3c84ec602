/* A back-end's queue on the ring of a test's driver, without threads or messages. */
#ifndef HUSK_TESTS_QUEUE_BENCH_H
#define HUSK_TESTS_QUEUE_BENCH_H

#include "ring_driver.h"

#define BENCH_NUM 16u /* descriptors */
#define RING_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_INDIRECT_DESC)

struct bench {
    struct ring_driver driver;
    struct guest_map map;
    struct inflight inflight;
    struct vu_queue queue;
    struct iovec iov[VU_CHAIN_IOV_MAX];
};

/** bench_open() - an empty ring, and a queue that was started on it. */
struct bench *bench_open(uint64_t features);
void bench_close(struct bench *b);

/** bench_track() - give the queue an in-flight region, before it has served anything. */
void bench_track(struct bench *b);

/** bench_restart() - the queue of a new process on the same memory. */
void bench_restart(struct bench *b);

/** bench_pop() - vu_queue_pop() into the bench's entries. */
int bench_pop(struct bench *b, struct vu_chain *chain);

/** bench_take_count() - what an eventfd holds. */
uint64_t bench_take_count(int fd);

/** bench_serve_one() - one request, start to end. */
void bench_serve_one(struct bench *b);

#endif
