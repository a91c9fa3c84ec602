/*
 * Rate limits of one device: a token bucket for bytes and one for requests, in Cloud Hypervisor's and Firecracker's
 * meaning. Shared by the device's queues.
 */
#ifndef HUSK_BACKENDS_RATE_LIMIT_H
#define HUSK_BACKENDS_RATE_LIMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct rate_bucket_params {
    uint64_t size;           /* tokens that refill_ms brings, and the most it holds; 0: no limit */
    uint64_t one_time_burst; /* tokens that are there once, used first */
    uint64_t refill_ms;
};

struct rate_limit_params {
    struct rate_bucket_params bandwidth, ops; /* tokens are bytes, and requests */
};

struct rate_bucket {
    struct rate_bucket_params params;
    uint64_t burst;   /* what is left of it */
    uint64_t level;   /* tokens there */
    uint64_t debt;    /* tokens taken that were not there yet */
    uint64_t last_ns; /* time up to which tokens have been brought */
};

struct rate_limit {
    pthread_mutex_t lock;
    bool on;
    struct rate_bucket bandwidth, ops;
};

/** rate_limit_init() - full buckets. @now_ns is of a clock that never goes back. */
void rate_limit_init(struct rate_limit *limit, const struct rate_limit_params *params,
                     uint64_t now_ns);

/**
 * rate_limit_take() - let one request of @bytes through, if both buckets have enough.
 *
 * A request larger than a bucket is let through when the bucket is full, and those after it wait until what it took too
 * much has come in.
 *
 * Return: 0 if it may go on; else the nanoseconds after which it is worth asking again, and nothing was taken.
 */
uint64_t rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns);

#endif
