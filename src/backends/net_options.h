/* The words of `husk-backend net`. */
#ifndef HUSK_BACKENDS_NET_OPTIONS_H
#define HUSK_BACKENDS_NET_OPTIONS_H

#include "backends/rate_limit.h"
#include "base/error.h"
#include "virtio/net.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#define NET_QUEUE_SIZE_MAX 4096u

struct net_options {
    char *tap;
    int tap_fds[NET_PAIRS_MAX]; /* instead of @tap */
    unsigned n_tap_fds;
    bool has_mac;
    uint8_t mac[NET_MAC_BYTES];
    unsigned mtu;      /* 0: not told */
    unsigned n_queues; /* two a pair; 0 while not given */
    unsigned queue_size;
    struct rate_limit_params limits; /* in each direction */
};

/* For getopt_long; ended by a zero entry. */
extern const struct option net_long_options[];
/* A line for each of them. */
extern const char net_options_help[];

/** net_options_init() - the defaults. */
void net_options_init(struct net_options *options);

/** net_options_set() - store @value of the option whose .val is @val. Returns 0 or -errno with @err filled. */
int net_options_set(struct net_options *options, int val, const char *value, struct error *err);

/** net_options_check() - whether all of them make sense together; completes them. Returns 0 or -EINVAL. */
int net_options_check(struct net_options *options, struct error *err);

/** net_options_clear() - free what they hold. */
void net_options_clear(struct net_options *options);

#endif
