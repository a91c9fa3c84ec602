/* What is behind a --net: a tap interface of the host's kernel. */
#include "sandbox/source.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>

static int open_hint(const struct net_config *net, int code, struct error *err)
{
    if (code == -EINVAL && net->num_queues > 2)
        return error_hint(err,
                          "`ip tuntap add %s mode tap multi_queue` makes one for several queues",
                          net->tap ? net->tap : "tap0");
    return code;
}

/**
 * open_tap() - the interface by its name, or a new one. @fds: one for each pair of queues.
 * @made: whether husk made it.
 */
static int open_tap(const struct net_config *net, struct tap *tap, struct source_fds *fds,
                    bool *made, struct error *err)
{
    *made = !net->tap || if_nametoindex(net->tap) == 0;
    int ret = tap_open(tap, net->tap, net->num_queues / 2, fds->fds, err);
    if (ret < 0)
        return open_hint(net, ret, err);
    fds->n = net->num_queues / 2;
    return 0;
}

/** adopt() - what husk was given with fd=; @fds are copies. */
static int adopt(const struct net_config *net, struct source_fds *fds, struct error *err)
{
    struct tap tap;
    for (size_t i = 0; i < net->fds.n; i++) {
        int ret = tap_adopt(&tap, net->fds.fds[i], err);
        if (ret == 0 && net->fds.n > 1 && !tap.multi_queue)
            ret = error_set(err, -EINVAL, "'%s' is not made for several queues", tap.name);
        if (ret == 0 && !tap_same(net->fds.fds[0], net->fds.fds[i]))
            ret = error_set(err, -EINVAL, "'%s' is another tap than that of fd=%d", tap.name,
                            net->fds.fds[0]);
        if (ret < 0)
            return error_context(err, "fd=%d", net->fds.fds[i]);
        int fd = fcntl(net->fds.fds[i], F_DUPFD_CLOEXEC, BACKEND_FIRST_FD);
        if (fd < 0)
            return error_set_errno(err, -errno, "fd=%d cannot be kept", net->fds.fds[i]);
        fds->fds[fds->n++] = fd;
    }
    return 0;
}

/** set_address() - of an interface that is husk's own: what is set on any other is not husk's to change. */
static int set_address(const struct net_config *net, const struct tap *tap, struct error *err)
{
    struct in_addr ip, mask;
    inet_pton(AF_INET, net->ip, &ip);
    inet_pton(AF_INET, net->mask ? net->mask : "255.255.255.0", &mask);
    return tap_set_address(tap, ip.s_addr, mask.s_addr, err);
}

/* The interface is opened as it will be; one that was made for that is gone again afterwards. */
static int check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    (void)identity;
    struct tap tap;
    bool made;
    struct source_fds fds = SOURCE_FDS_INIT;
    int ret = device->net->fds.n ? adopt(device->net, &fds, err)
                                 : open_tap(device->net, &tap, &fds, &made, err);
    source_fds_close(&fds);
    return ret;
}

static int hold(const struct device_entry *device, const struct broker_lent *lent,
                struct source_fds *fds, struct error *err)
{
    (void)lent;
    const struct net_config *net = device->net;
    struct tap tap;
    bool made;
    if (net->fds.n)
        return adopt(net, fds, err);
    int ret = open_tap(net, &tap, fds, &made, err);
    if (ret == 0 && net->mtu)
        ret = tap_set_mtu(&tap, net->mtu, err);
    if (ret == 0 && net->ip && made)
        ret = set_address(net, &tap, err);
    return ret < 0 ? ret : tap_up(&tap, err);
}

static void release(const struct device_entry *device)
{
    for (size_t i = 0; i < device->net->fds.n; i++)
        close(device->net->fds.fds[i]);
}

static void words(const struct device_entry *device, bool again, struct backend_words *to)
{
    (void)again;
    const struct net_config *net = device->net;
    for (unsigned i = 0; i < net->num_queues / 2; i++)
        backend_words_number(to, "--tap-fd", BACKEND_FIRST_FD + i);
    backend_words_number(to, "--queue-size", net->queue_size);
    backend_words_limits(to, &net->bandwidth, &net->ops);
}

const struct source_kind net_source = {
    .backend = "net",
    .check = check,
    .hold = hold,
    .release = release,
    .words = words,
};
