/* A virtio network device behind a tap interface, put together from its options. */
#include "backends/net.h"

#include "backends/net_options.h"
#include "backends/net_wait.h"
#include "base/log.h"
#include "base/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

struct net {
    struct net_options options;
    struct net_device device;
};

/* Queues come in pairs: receive, transmit (5.1.2). */
static void run(void *state, struct vu_queue *queue)
{
    struct net_device *device = state;
    unsigned index = vu_queue_index(queue);
    struct net_pair *pair = &device->pairs[index / 2];
    if (index % 2 == 0)
        net_rx_run(device, pair, queue);
    else
        net_tx_run(device, pair, queue);
}

static int config_read(void *state, uint32_t offset, void *data, uint32_t len)
{
    const struct net_device *device = state;
    memcpy(data, (const uint8_t *)&device->config + offset, len);
    return 0;
}

/* Nothing of it is the driver's to write for a device of virtio 1.0 (5.1.4). */
static int config_write(void *state, uint32_t offset, const void *data, uint32_t len)
{
    (void)state;
    (void)offset;
    (void)data;
    (void)len;
    return -EPERM;
}

static const struct vu_backend_ops ops = {
    .run = run,
    .config_read = config_read,
    .config_write = config_write,
};

static void *create(void)
{
    struct net *net = calloc(1, sizeof(*net));
    if (!net)
        return NULL;
    net_options_init(&net->options);
    pthread_mutex_init(&net->device.lock, NULL);
    return net;
}

static int set(void *state, int val, const char *value, struct error *err)
{
    struct net *net = state;
    return net_options_set(&net->options, val, value, err);
}

static int open_by_name(struct net *net, struct tap *tap, struct error *err)
{
    const struct net_options *options = &net->options;
    unsigned n = options->n_queues / 2;
    int fds[NET_PAIRS_MAX];
    int ret = tap_open(tap, options->tap, n, fds, err);
    if (ret < 0)
        return ret;
    for (; net->device.n_pairs < n; net->device.n_pairs++)
        net->device.pairs[net->device.n_pairs].tap_fd = fds[net->device.n_pairs];
    if (options->mtu)
        ret = tap_set_mtu(tap, options->mtu, err);
    return ret < 0 ? ret : tap_up(tap, err);
}

static int open_by_fd(struct net *net, struct tap *tap, struct error *err)
{
    const struct net_options *options = &net->options;
    for (unsigned i = 0; i < options->n_tap_fds; i++) {
        int ret = tap_adopt(tap, options->tap_fds[i], err);
        if (ret < 0)
            return ret;
        net->device.pairs[net->device.n_pairs++].tap_fd = options->tap_fds[i];
    }
    if (options->n_tap_fds > 1 && !tap->multi_queue)
        return error_set(err, -ENODEV, "'%s' is not made for several queues (multi_queue)",
                         tap->name);
    return 0;
}

static int fill_config(struct net *net, struct error *err)
{
    const struct net_options *options = &net->options;
    struct net_config_space *config = &net->device.config;
    memcpy(config->mac, options->mac, NET_MAC_BYTES);
    if (!options->has_mac) {
        if (getrandom(config->mac, NET_MAC_BYTES, 0) != (ssize_t)NET_MAC_BYTES)
            return error_set_errno(err, -errno, "no random MAC address");
        config->mac[0] = (uint8_t)((config->mac[0] & ~1u) | 2); /* of one interface, nobody's */
    }
    config->status = htole16(NET_STATUS_LINK_UP);
    config->max_pairs = htole16((uint16_t)net->device.n_pairs);
    config->mtu = htole16((uint16_t)options->mtu);
    net->device.has_mtu = options->mtu;
    return 0;
}

static int open_tap(struct net *net, struct error *err)
{
    struct net_device *device = &net->device;
    struct tap tap = {0};
    int ret = net->options.tap ? open_by_name(net, &tap, err) : open_by_fd(net, &tap, err);
    if (ret < 0) /* -EINVAL is for options alone */
        return ret == -EINVAL ? -EIO : ret;
    device->offloads = tap_offloads(device->pairs[0].tap_fd);
    /* With one queue there is nothing to choose from. */
    device->multi_queue = tap.multi_queue && device->n_pairs > 1;
    for (unsigned i = 0; i < device->n_pairs; i++) {
        device->pairs[i].users = 1; /* as the kernel has it */
        net_detach(device, &device->pairs[i]);
    }
    return 0;
}

static int open_net(void *state, struct vu_backend *backend, struct error *err)
{
    struct net *net = state;
    struct net_device *device = &net->device;
    int ret = net_options_check(&net->options, err);
    if (ret < 0)
        return ret;
    ret = open_tap(net, err);
    if (ret == 0)
        ret = fill_config(net, err);
    if (ret < 0)
        return ret;
    uint64_t now = net_now_ns();
    rate_limit_init(&device->rx_limit, &net->options.limits, now);
    rate_limit_init(&device->tx_limit, &net->options.limits, now);
    backend->ops = &ops;
    backend->device = device;
    backend->features = net_features(device);
    backend->n_queues = 2 * device->n_pairs;
    backend->queue_size = net->options.queue_size;
    backend->config_len = NET_CONFIG_BYTES;
    backend->in_order = true;
    return 0;
}

static void destroy(void *state)
{
    struct net *net = state;
    for (unsigned i = 0; i < net->device.n_pairs; i++)
        close(net->device.pairs[i].tap_fd);
    net_options_clear(&net->options);
    free(net);
}

const struct backend_kind net_kind = {
    .name = "net",
    .role = CAGE_NET,
    .summary = "a tap interface",
    .help = net_options_help,
    .options = net_long_options,
    .create = create,
    .set = set,
    .open = open_net,
    .destroy = destroy,
};
