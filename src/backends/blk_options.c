#include "backends/blk_options.h"

#include "backends/kind.h"
#include "base/bytes.h"
#include "base/units.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define QUEUES_MAX 64
#define QUEUE_SIZE_MIN 4u /* header, data and status are three */
#define LOCK_WAIT_MS_MAX 60000
#define POLL_US_MAX 1000
#define POLL_US_DEFAULT 50

enum option_id {
    OPT_PATH = BACKEND_OPTION_FIRST,
    OPT_FILE_FD,
    OPT_FILE_NAME,
    OPT_READONLY,
    OPT_DIRECT,
    OPT_NUM_QUEUES,
    OPT_QUEUE_SIZE,
    OPT_SERIAL,
    OPT_LOCK,
    OPT_LOCK_WAIT,
    OPT_POLL,
    OPT_BW_SIZE,
    OPT_BW_BURST,
    OPT_BW_REFILL,
    OPT_OPS_SIZE,
    OPT_OPS_BURST,
    OPT_OPS_REFILL,
};

const struct option blk_long_options[] = {
    {"path", required_argument, NULL, OPT_PATH},
    {"file-fd", required_argument, NULL, OPT_FILE_FD},
    {"file-name", required_argument, NULL, OPT_FILE_NAME},
    {"readonly", no_argument, NULL, OPT_READONLY},
    {"direct", no_argument, NULL, OPT_DIRECT},
    {"num-queues", required_argument, NULL, OPT_NUM_QUEUES},
    {"queue-size", required_argument, NULL, OPT_QUEUE_SIZE},
    {"serial", required_argument, NULL, OPT_SERIAL},
    {"lock", required_argument, NULL, OPT_LOCK},
    {"lock-wait", required_argument, NULL, OPT_LOCK_WAIT},
    {"poll-us", required_argument, NULL, OPT_POLL},
    {"bw-size", required_argument, NULL, OPT_BW_SIZE},
    {"bw-one-time-burst", required_argument, NULL, OPT_BW_BURST},
    {"bw-refill-time", required_argument, NULL, OPT_BW_REFILL},
    {"ops-size", required_argument, NULL, OPT_OPS_SIZE},
    {"ops-one-time-burst", required_argument, NULL, OPT_OPS_BURST},
    {"ops-refill-time", required_argument, NULL, OPT_OPS_REFILL},
    {0},
};

const char blk_options_help[] =
    "  --path FILE              the raw image file or block device (or --file-fd)\n"
    "  --file-fd N              the same, already open\n"
    "  --file-name TEXT         what messages call that\n"
    "  --readonly               refuse writes\n"
    "  --direct                 go around the host's page cache (O_DIRECT)\n"
    "  --num-queues N           queues, 1 to 64 (1)\n"
    "  --queue-size N           descriptors that queues are made for, a power of two, 4 to 1024 "
    "(128)\n"
    "  --serial TEXT            the serial number that the guest sees, at most 20 bytes\n"
    "  --lock WHAT              byte-range (the default), full or off\n"
    "  --lock-wait MS           how long to wait for another process to let go of the lock (0)\n"
    "  --poll-us US             watch a busy queue that long before sleeping, 0 to 1000 (50)\n"
    "  --bw-size BYTES          bytes that may pass in --bw-refill-time milliseconds\n"
    "  --bw-one-time-burst BYTES  that many more, once\n"
    "  --bw-refill-time MS\n"
    "  --ops-size N             the same for requests\n"
    "  --ops-one-time-burst N\n"
    "  --ops-refill-time MS\n";

void blk_options_init(struct blk_options *options)
{
    *options = (struct blk_options){
        .file_fd = -1,
        .n_queues = 1,
        .queue_size = 128,
        .poll_us = POLL_US_DEFAULT,
    };
}

void blk_options_clear(struct blk_options *options)
{
    free(options->path);
    free(options->file_name);
    options->path = options->file_name = NULL;
}

static int set_copy(char **to, const char *value, struct error *err)
{
    free(*to);
    *to = strdup(value);
    return *to ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int set_lock(enum blk_lock_kind *kind, const char *value, struct error *err)
{
    if (!strcmp(value, "byte-range"))
        *kind = BLK_LOCK_BYTE_RANGE;
    else if (!strcmp(value, "full"))
        *kind = BLK_LOCK_FULL;
    else if (!strcmp(value, "off"))
        *kind = BLK_LOCK_OFF;
    else
        return error_set(err, -EINVAL, "--lock takes byte-range, full or off, not '%s'", value);
    return 0;
}

static int set_text(struct blk_options *o, int val, const char *value, struct error *err)
{
    switch (val) {
    case OPT_READONLY:
        o->readonly = true;
        return 0;
    case OPT_DIRECT:
        o->direct = true;
        return 0;
    case OPT_LOCK:
        return set_lock(&o->lock, value, err);
    case OPT_SERIAL: {
        size_t len = strlen(value);
        if (len > BLK_SERIAL_BYTES)
            return error_set(err, -EINVAL, "--serial takes at most %u bytes", BLK_SERIAL_BYTES);
        memcpy(o->serial, value, len + 1);
        return 0;
    }
    case OPT_FILE_NAME:
        return set_copy(&o->file_name, value, err);
    default: /* OPT_PATH */
        return set_copy(&o->path, value, err);
    }
}

static const char *option_name(int val)
{
    const struct option *option = blk_long_options;
    while (option->name && option->val != val)
        option++;
    return option->name;
}

int blk_options_set(struct blk_options *o, int val, const char *value, struct error *err)
{
    struct rate_bucket_params *bw = &o->limits.bandwidth, *ops = &o->limits.ops;
    const struct {
        int val;
        unsigned min;
        uint64_t max;
        int *number; /* stored in one of these */
        unsigned *count;
        uint64_t *amount;
    } numbers[] = {
        {OPT_FILE_FD, 0, INT_MAX, .number = &o->file_fd},
        {OPT_NUM_QUEUES, 1, QUEUES_MAX, .count = &o->n_queues},
        {OPT_QUEUE_SIZE, QUEUE_SIZE_MIN, BLK_QUEUE_SIZE_MAX, .count = &o->queue_size},
        {OPT_LOCK_WAIT, 0, LOCK_WAIT_MS_MAX, .count = &o->lock_wait_ms},
        {OPT_POLL, 0, POLL_US_MAX, .count = &o->poll_us},
        {OPT_BW_SIZE, 0, UINT64_MAX, .amount = &bw->size},
        {OPT_BW_BURST, 0, UINT64_MAX, .amount = &bw->one_time_burst},
        {OPT_BW_REFILL, 0, UINT64_MAX, .amount = &bw->refill_ms},
        {OPT_OPS_SIZE, 0, UINT64_MAX, .amount = &ops->size},
        {OPT_OPS_BURST, 0, UINT64_MAX, .amount = &ops->one_time_burst},
        {OPT_OPS_REFILL, 0, UINT64_MAX, .amount = &ops->refill_ms},
    };
    size_t i = 0;
    while (i < ARRAY_SIZE(numbers) && numbers[i].val != val)
        i++;
    if (i == ARRAY_SIZE(numbers))
        return set_text(o, val, value, err);

    uint64_t n;
    if (units_parse_size(value, &n) < 0 || n < numbers[i].min || n > numbers[i].max)
        return error_set(err, -EINVAL, "--%s takes a number from %u to %llu, not '%s'",
                         option_name(val), numbers[i].min, (unsigned long long)numbers[i].max,
                         value);
    if (numbers[i].number)
        *numbers[i].number = (int)n;
    else if (numbers[i].count)
        *numbers[i].count = (unsigned)n;
    else if (numbers[i].amount)
        *numbers[i].amount = n;
    return 0;
}

int blk_options_check(const struct blk_options *o, struct error *err)
{
    if (!o->path == (o->file_fd < 0))
        return error_set(err, -EINVAL, "give either --path or --file-fd");
    if (o->queue_size & (o->queue_size - 1))
        return error_set(err, -EINVAL, "--queue-size takes a power of two, not %u", o->queue_size);
    if (!o->limits.bandwidth.size != !o->limits.bandwidth.refill_ms)
        return error_set(err, -EINVAL, "--bw-size and --bw-refill-time belong together");
    if (!o->limits.ops.size != !o->limits.ops.refill_ms)
        return error_set(err, -EINVAL, "--ops-size and --ops-refill-time belong together");
    return 0;
}
