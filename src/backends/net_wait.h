/* What a network queue's thread sleeps on. */
#ifndef HUSK_BACKENDS_NET_WAIT_H
#define HUSK_BACKENDS_NET_WAIT_H

#include "backends/server.h"

#include <stdbool.h>
#include <stdint.h>

struct net_wait {
    int tap_fd;       /* -1: not waited for */
    short tap_events; /* POLLIN or POLLOUT */
    bool kick;        /* the driver's kick is waited for */
    uint64_t ns;      /* the longest, 0 for none */
};

/** net_wait() - until something of @what, or until the queue is to stop. Returns false for that. */
bool net_wait(struct vu_queue *queue, const struct net_wait *what);

/** net_stopping() - whether the queue is to stop; asks the kernel. */
bool net_stopping(const struct vu_queue *queue);

/** net_now_ns() - of a clock that never goes back. */
uint64_t net_now_ns(void);

#endif
