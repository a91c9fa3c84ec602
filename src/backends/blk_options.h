/* The words of `husk-backend blk`. */
#ifndef HUSK_BACKENDS_BLK_OPTIONS_H
#define HUSK_BACKENDS_BLK_OPTIONS_H

#include "backends/blk_disk.h"
#include "backends/blk_lock.h"
#include "backends/rate_limit.h"
#include "base/error.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#define BLK_QUEUE_SIZE_MAX 1024u

struct blk_options {
    char *path;
    int file_fd;     /* instead of path; -1 if not given */
    char *file_name; /* what messages call it; NULL: its path, if /proc tells that */
    bool readonly, direct;
    unsigned n_queues, queue_size;
    char serial[BLK_SERIAL_BYTES + 1];
    enum blk_lock_kind lock;
    unsigned lock_wait_ms;
    unsigned poll_us; /* how long a queue may watch its ring before it sleeps */
    struct rate_limit_params limits;
};

/* For getopt_long; ended by a zero entry. */
extern const struct option blk_long_options[];
/* A line for each of them. */
extern const char blk_options_help[];

/** blk_options_init() - the defaults. */
void blk_options_init(struct blk_options *options);

/** blk_options_set() - store @value of the option whose .val is @val. Returns 0 or -errno with @err filled. */
int blk_options_set(struct blk_options *options, int val, const char *value, struct error *err);

/** blk_options_check() - whether all of them make sense together. Returns 0 or -EINVAL with @err filled. */
int blk_options_check(const struct blk_options *options, struct error *err);

/** blk_options_clear() - free what they hold. */
void blk_options_clear(struct blk_options *options);

#endif
