#include "backends/net_options.h"

#include "backends/kind.h"
#include "base/bytes.h"
#include "base/units.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

enum option_id {
    OPT_TAP = BACKEND_OPTION_FIRST,
    OPT_TAP_FD,
    OPT_MAC,
    OPT_MTU,
    OPT_NUM_QUEUES,
    OPT_QUEUE_SIZE,
    OPT_BW_SIZE,
    OPT_BW_BURST,
    OPT_BW_REFILL,
    OPT_OPS_SIZE,
    OPT_OPS_BURST,
    OPT_OPS_REFILL,
};

const struct option net_long_options[] = {
    {"tap", required_argument, NULL, OPT_TAP},
    {"tap-fd", required_argument, NULL, OPT_TAP_FD},
    {"mac", required_argument, NULL, OPT_MAC},
    {"mtu", required_argument, NULL, OPT_MTU},
    {"num-queues", required_argument, NULL, OPT_NUM_QUEUES},
    {"queue-size", required_argument, NULL, OPT_QUEUE_SIZE},
    {"bw-size", required_argument, NULL, OPT_BW_SIZE},
    {"bw-one-time-burst", required_argument, NULL, OPT_BW_BURST},
    {"bw-refill-time", required_argument, NULL, OPT_BW_REFILL},
    {"ops-size", required_argument, NULL, OPT_OPS_SIZE},
    {"ops-one-time-burst", required_argument, NULL, OPT_OPS_BURST},
    {"ops-refill-time", required_argument, NULL, OPT_OPS_REFILL},
    {0},
};

const char net_options_help[] =
    "  --tap NAME               the tap interface; made if there is none, gone with this process "
    "then\n"
    "  --tap-fd N               the same, already open; once for each pair of queues\n"
    "  --mac ADDRESS            what the guest's interface is to be called (a random one)\n"
    "  --mtu N                  set it, and tell the guest; 68 to 65535\n"
    "  --num-queues N           queues, two for each pair, 2 to 64 (2, or what --tap-fd needs)\n"
    "  --queue-size N           descriptors that a queue may have, a power of two, 16 to 4096 "
    "(1024)\n"
    "  --bw-size BYTES          bytes that may pass each way in --bw-refill-time milliseconds\n"
    "  --bw-one-time-burst BYTES  that many more, once\n"
    "  --bw-refill-time MS\n"
    "  --ops-size N             the same for frames\n"
    "  --ops-one-time-burst N\n"
    "  --ops-refill-time MS\n";

void net_options_init(struct net_options *options)
{
    *options = (struct net_options){.queue_size = 1024};
}

void net_options_clear(struct net_options *options)
{
    free(options->tap);
    options->tap = NULL;
}

static int set_mac(struct net_options *o, const char *value, struct error *err)
{
    if (units_parse_mac(value, o->mac) < 0)
        return error_set(err, -EINVAL,
                         "--mac takes an address of one interface, as 52:54:00:12:34:56, not '%s'",
                         value);
    o->has_mac = true;
    return 0;
}

static int add_tap_fd(struct net_options *o, const char *value, struct error *err)
{
    uint64_t fd;
    if (units_parse_size(value, &fd) < 0 || fd > INT_MAX)
        return error_set(err, -EINVAL, "--tap-fd %s: not a descriptor", value);
    if (o->n_tap_fds == NET_PAIRS_MAX)
        return error_set(err, -EINVAL, "--tap-fd can be given %u times", NET_PAIRS_MAX);
    o->tap_fds[o->n_tap_fds++] = (int)fd;
    return 0;
}

static const char *option_name(int val)
{
    const struct option *option = net_long_options;
    while (option->name && option->val != val)
        option++;
    return option->name;
}

static int set_number(struct net_options *o, int val, const char *value, struct error *err)
{
    struct rate_bucket_params *bw = &o->limits.bandwidth, *ops = &o->limits.ops;
    const struct {
        int val;
        unsigned min;
        uint64_t max;
        unsigned *count; /* stored in one of these */
        uint64_t *amount;
    } numbers[] = {
        {OPT_MTU, NET_MTU_MIN, NET_MTU_MAX, .count = &o->mtu},
        {OPT_NUM_QUEUES, 2, 2 * NET_PAIRS_MAX, .count = &o->n_queues},
        {OPT_QUEUE_SIZE, 16, NET_QUEUE_SIZE_MAX, .count = &o->queue_size},
        {OPT_BW_SIZE, 0, UINT64_MAX, .amount = &bw->size},
        {OPT_BW_BURST, 0, UINT64_MAX, .amount = &bw->one_time_burst},
        {OPT_BW_REFILL, 0, UINT64_MAX, .amount = &bw->refill_ms},
        {OPT_OPS_SIZE, 0, UINT64_MAX, .amount = &ops->size},
        {OPT_OPS_BURST, 0, UINT64_MAX, .amount = &ops->one_time_burst},
        {OPT_OPS_REFILL, 0, UINT64_MAX, .amount = &ops->refill_ms},
    };
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        uint64_t n;
        if (numbers[i].val != val)
            continue;
        if (units_parse_size(value, &n) < 0 || n < numbers[i].min || n > numbers[i].max)
            return error_set(err, -EINVAL, "--%s takes a number from %u to %llu, not '%s'",
                             option_name(val), numbers[i].min, (unsigned long long)numbers[i].max,
                             value);
        if (numbers[i].count)
            *numbers[i].count = (unsigned)n;
        else if (numbers[i].amount)
            *numbers[i].amount = n;
    }
    return 0;
}

int net_options_set(struct net_options *o, int val, const char *value, struct error *err)
{
    switch (val) {
    case OPT_TAP:
        free(o->tap);
        o->tap = strdup(value);
        return o->tap ? 0 : error_set(err, -ENOMEM, "out of memory");
    case OPT_TAP_FD:
        return add_tap_fd(o, value, err);
    case OPT_MAC:
        return set_mac(o, value, err);
    default:
        return set_number(o, val, value, err);
    }
}

int net_options_check(struct net_options *o, struct error *err)
{
    if (!o->tap == !o->n_tap_fds)
        return error_set(err, -EINVAL, "give either --tap or --tap-fd");
    if (!o->n_queues)
        o->n_queues = o->n_tap_fds ? 2 * o->n_tap_fds : 2;
    if (o->n_queues % 2)
        return error_set(err, -EINVAL, "--num-queues takes an even number, not %u", o->n_queues);
    if (o->n_tap_fds && o->n_queues != 2 * o->n_tap_fds)
        return error_set(err, -EINVAL, "%u queues need --tap-fd %u times, not %u", o->n_queues,
                         o->n_queues / 2, o->n_tap_fds);
    if (o->queue_size & (o->queue_size - 1))
        return error_set(err, -EINVAL, "--queue-size takes a power of two, not %u", o->queue_size);
    if (!o->limits.bandwidth.size != !o->limits.bandwidth.refill_ms)
        return error_set(err, -EINVAL, "--bw-size and --bw-refill-time belong together");
    if (!o->limits.ops.size != !o->limits.ops.refill_ms)
        return error_set(err, -EINVAL, "--ops-size and --ops-refill-time belong together");
    return 0;
}
