/*
 * A virtqueue for tests of devices, without any ring: requests are put in as lists of buffers, and what the device gives back is
 * kept. The queue asks its thread to stop when every request was taken and the thread is about to sleep, so
 * blk_queue_run() and its like can be called as functions.
 */
#ifndef HUSK_TESTS_FAKE_QUEUE_H
#define HUSK_TESTS_FAKE_QUEUE_H

#include "backends/server.h"

#define FAKE_REQUESTS_MAX 256

struct fake_request {
    struct iovec iov[64];
    unsigned n_out, n_in;
    bool answered;
    uint32_t written;
};

struct vu_queue {
    uint64_t features;
    unsigned index, size;
    int kick_fd, stop_fd;
    struct fake_request requests[FAKE_REQUESTS_MAX];
    unsigned n_requests, n_popped, n_answered, n_notified, n_config_changed;
    bool changes_iov;                  /* the device may change a chain's entries */
    unsigned break_after;              /* requests after which the ring is broken; 0: never */
    bool (*may_stop)(void);            /* whether the thread may be asked to; NULL: always */
    unsigned order[FAKE_REQUESTS_MAX]; /* as they were answered */
};

/** fake_queue_init() - empty, a driver that flushes; 0 or -errno. */
int fake_queue_init(struct vu_queue *queue);

/** fake_queue_clear() - close what it holds. */
void fake_queue_clear(struct vu_queue *queue);

/** fake_queue_add() - the next request: @out buffers that the device reads, then @in buffers that it writes. */
struct fake_request *fake_queue_add(struct vu_queue *queue, const struct iovec *out, unsigned n_out,
                                    const struct iovec *in, unsigned n_in);

/** fake_queue_rewind() - as new, the buffers of old requests forgotten; stoppable again. */
void fake_queue_rewind(struct vu_queue *queue);

#endif
