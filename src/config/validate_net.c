/* The rules of --net: what goes together. */
#include "base/units.h"
#include "config/options.h"
#include "config/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/** own_key() - a key that only husk's own back-end can follow, and that is given; NULL if there is none. */
static const char *own_key(const struct net_config *net)
{
    const struct {
        const char *name;
        bool given;
    } keys[] = {
        {"tap", net->tap != NULL},
        {"fd", net->fds.n != 0},
        {"ip", net->ip != NULL},
        {"mask", net->mask != NULL},
        {"bw_size", net->bandwidth.size || net->bandwidth.refill_time},
        {"bw_one_time_burst", net->bandwidth.one_time_burst != 0},
        {"ops_size", net->ops.size || net->ops.refill_time},
        {"ops_one_time_burst", net->ops.one_time_burst != 0},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (keys[i].given)
            return keys[i].name;
    return NULL;
}

static int check_address(const char *key, const char *text, struct in_addr *address,
                         struct error *err)
{
    if (inet_pton(AF_INET, text, address) == 1)
        return 0;
    return error_set(err, -EINVAL, "%s: '%s' is not an IPv4 address", key,
                     option_excerpt(text, strlen(text)).text);
}

static int check_ip(const struct net_config *net, struct error *err)
{
    struct in_addr address;
    int ret = net->ip ? check_address("ip", net->ip, &address, err) : 0;
    if (ret < 0 || !net->mask)
        return ret;
    if (!net->ip)
        return error_set(err, -EINVAL, "mask needs ip=<address>");
    ret = check_address("mask", net->mask, &address, err);
    uint32_t host = ~ntohl(address.s_addr);
    if (ret == 0 && host & (host + 1))
        return error_set(err, -EINVAL, "mask: '%s' has gaps", net->mask);
    return ret;
}

/** check_fds() - a queue of a tap serves one pair. */
static int check_fds(const struct net_config *net, struct error *err)
{
    if (net->fds.n && net->num_queues != 2 * net->fds.n)
        return error_set(err, -EINVAL, "num_queues=%u needs %u descriptors in fd, not %zu",
                         net->num_queues, net->num_queues / 2, net->fds.n);
    for (size_t i = 0; i < net->fds.n; i++)
        for (size_t j = 0; j < i; j++)
            if (net->fds.fds[i] == net->fds.fds[j])
                return error_set(err, -EINVAL, "fd: %d is given twice", net->fds.fds[i]);
    return 0;
}

static int check_source(const struct net_config *net, struct error *err)
{
    if (net->vhost_user) {
        const char *own = own_key(net);
        if (own)
            return error_set(err, -EINVAL,
                             "'%s' is the back-end's matter, it cannot be given with vhost_user=on",
                             own);
        return net->socket ? 0 : error_set(err, -EINVAL, "vhost_user=on needs socket=<socket>");
    }
    if (net->socket)
        return error_set(err, -EINVAL, "'socket' is for vhost_user=on only");
    if (net->fds.n && (net->tap || net->ip))
        return error_set(err, -EINVAL, "'%s' is for a tap that husk opens, not for one by fd",
                         net->tap ? "tap" : "ip");
    if (check_fds(net, err) < 0)
        return err->code;
    /* The kernel makes a number of it. */
    if (net->tap && strpbrk(net->tap, "%/ "))
        return error_set(err, -EINVAL, "tap: '%s' is no name of an interface",
                         option_excerpt(net->tap, strlen(net->tap)).text);
    return check_ip(net, err);
}

static int check_net(const struct net_config *net, struct error *err)
{
    uint8_t mac[UNITS_MAC_BYTES];
    int ret = check_source(net, err);
    if (ret == 0)
        ret = config_check_rate(&net->bandwidth, "bw", err);
    if (ret == 0)
        ret = config_check_rate(&net->ops, "ops", err);
    if (ret == 0 && net->num_queues % 2)
        ret = error_set(err, -EINVAL, "num_queues=%u is not even", net->num_queues);
    if (ret == 0 && (net->queue_size & (net->queue_size - 1)))
        ret = error_set(err, -EINVAL, "queue_size=%u is not a power of two", net->queue_size);
    if (ret == 0 && net->mac && units_parse_mac(net->mac, mac) < 0)
        ret = error_set(err, -EINVAL, "mac: '%s' is not the address of one interface",
                        option_excerpt(net->mac, strlen(net->mac)).text);
    return ret;
}

/** check_tap() - the kernel gives one tap to two devices where it has several queues, and each a part of the frames. */
static int check_tap(const struct vm_config *config, size_t number, struct error *err)
{
    const char *tap = config->nets[number].tap;
    for (size_t i = 0; i < number && tap; i++)
        if (config->nets[i].tap && strcmp(config->nets[i].tap, tap) == 0)
            return error_set(err, -EINVAL, "tap: two devices have '%s'",
                             option_excerpt(tap, strlen(tap)).text);
    return 0;
}

/** make_mac() - a random address that nobody was given: the same in each life of the guest. */
static int make_mac(struct net_config *net, struct error *err)
{
    uint8_t mac[UNITS_MAC_BYTES];
    if (getrandom(mac, sizeof(mac), 0) != (ssize_t)sizeof(mac))
        return error_set_errno(err, -errno, "could not make a MAC address");
    mac[0] = (uint8_t)((mac[0] & ~1u) | 2); /* of one interface, administered here (IEEE 802) */
    if (asprintf(&net->mac, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                 mac[5]) < 0) {
        net->mac = NULL;
        return error_set_errno(err, -ENOMEM, "could not make a MAC address");
    }
    return 0;
}

int config_validate_nets(struct vm_config *config, struct error *err)
{
    for (size_t i = 0; i < config->n_nets; i++) {
        struct net_config *net = &config->nets[i];
        int ret = check_net(net, err);
        if (ret == 0)
            ret = check_tap(config, i, err);
        if (ret == 0 && !net->mac)
            ret = make_mac(net, err);
        if (ret < 0 && (net->id || net->tap || net->socket)) {
            const char *name = net->id ? net->id : net->tap ? net->tap : net->socket;
            return error_context(err, "--net: %s", option_excerpt(name, strlen(name)).text);
        }
        if (ret < 0)
            return error_context(err, "--net");
    }
    return 0;
}
