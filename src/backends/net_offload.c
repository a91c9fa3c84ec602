/* Which offloads there are between a guest and the tap, and what a frame's header may say under them. */
#include "backends/net.h"

#include "base/log.h"
#include "base/tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

/* linux/if_tun.h since 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* What a driver that takes frames with these features can be given by the kernel. */
static const struct {
    uint64_t feature;
    unsigned tap;
} receive_offloads[] = {
    {NET_F_GUEST_CSUM, TUN_F_CSUM}, {NET_F_GUEST_TSO4, TUN_F_TSO4},
    {NET_F_GUEST_TSO6, TUN_F_TSO6}, {NET_F_GUEST_ECN, TUN_F_TSO_ECN},
    {NET_F_GUEST_UFO, TUN_F_UFO},   {NET_F_GUEST_USO4, TUN_F_USO4},
    {NET_F_GUEST_USO6, TUN_F_USO6},
};

uint64_t net_features(const struct net_device *device)
{
    uint64_t features = NET_F_MAC | NET_F_STATUS | NET_F_MRG_RXBUF;
    /* These are a front-end's to serve; it may offer them because the device stands in no way. */
    features |=
        NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA | NET_F_CTRL_VLAN | NET_F_CTRL_MAC_ADDR;
    if (device->has_mtu)
        features |= NET_F_MTU;
    if (device->n_pairs > 1)
        features |= NET_F_MQ;
    if (device->offloads & TAP_OFFLOAD_BASE)
        features |= NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
                    NET_F_GUEST_ECN | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN;
    if (device->offloads & TAP_OFFLOAD_UFO)
        features |= NET_F_GUEST_UFO | NET_F_HOST_UFO;
    if (device->offloads & TAP_OFFLOAD_USO)
        features |= NET_F_GUEST_USO4 | NET_F_GUEST_USO6 | NET_F_HOST_USO;
    return features;
}

unsigned net_header_bytes(uint64_t features)
{
    return features & (VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF) ? NET_HEADER_BYTES
                                                             : NET_HEADER_LEGACY_BYTES;
}

/* Segments of a kind, and who has to have agreed to them: for frames of the driver's, and for those that it is given. The
 * header does not say which IP those of UDP have. */
struct segments {
    uint8_t gso_type;
    uint64_t send, receive;
};

static const struct segments *segments_of(const struct net_header *header)
{
    static const struct segments all[] = {
        {NET_HDR_GSO_TCPV4, NET_F_HOST_TSO4, NET_F_GUEST_TSO4},
        {NET_HDR_GSO_TCPV6, NET_F_HOST_TSO6, NET_F_GUEST_TSO6},
        {NET_HDR_GSO_UDP, NET_F_HOST_UFO, NET_F_GUEST_UFO},
        {NET_HDR_GSO_UDP_L4, NET_F_HOST_USO, NET_F_GUEST_USO4 | NET_F_GUEST_USO6},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i].gso_type == (header->gso_type & ~NET_HDR_GSO_ECN))
            return &all[i];
    return NULL;
}

bool net_header_sound(const struct net_header *header, uint64_t features)
{
    uint64_t needed = 0;
    if (header->flags & NET_HDR_F_NEEDS_CSUM)
        needed |= NET_F_CSUM;
    if (header->gso_type == NET_HDR_GSO_NONE)
        return (needed & ~features) == 0;
    const struct segments *segments = segments_of(header);
    if (!segments)
        return false;
    needed |= segments->send;
    if (header->gso_type & NET_HDR_GSO_ECN)
        needed |= NET_F_HOST_ECN;
    /* 5.1.6.2.1: segments have checksums to be made, and a size. */
    return (needed & ~features) == 0 && header->flags & NET_HDR_F_NEEDS_CSUM &&
           header->gso_size != 0;
}

bool net_header_agreed(struct net_header *header, uint64_t features)
{
    uint64_t needed = 0;
    if (header->flags & NET_HDR_F_NEEDS_CSUM || header->gso_type != NET_HDR_GSO_NONE)
        needed |= NET_F_GUEST_CSUM;
    if (header->gso_type != NET_HDR_GSO_NONE) {
        const struct segments *segments = segments_of(header);
        if (!segments)
            return false;
        needed |= segments->receive;
    }
    if (header->gso_type & NET_HDR_GSO_ECN)
        needed |= NET_F_GUEST_ECN;
    /* 5.1.6.4.1: no flags without GUEST_CSUM. The kernel tells of checksums that it has seen to be right even so. */
    header->flags &= features & NET_F_GUEST_CSUM ? NET_HDR_F_NEEDS_CSUM | NET_HDR_F_DATA_VALID : 0;
    return (needed & ~features) == 0;
}

static int attach_queue(struct net_device *device, const struct net_pair *pair, short flag)
{
    struct ifreq request = {.ifr_flags = flag};
    return device->multi_queue && ioctl(pair->tap_fd, TUNSETQUEUE, &request) < 0 ? -errno : 0;
}

/** tap_offloads_for() - what the kernel may leave undone for a driver that accepted @features, as far as it can be told. */
static unsigned long tap_offloads_for(uint64_t features)
{
    unsigned long offloads = 0;
    for (size_t i = 0; i < ARRAY_SIZE(receive_offloads); i++)
        if (features & receive_offloads[i].feature)
            offloads |= receive_offloads[i].tap;
    if (!(offloads & TUN_F_CSUM))
        return 0; /* all others need it (5.1.3.1) */
    /* The kernel refuses the one without the other, and so the whole. */
    if (!(offloads & (TUN_F_TSO4 | TUN_F_TSO6)))
        offloads &= ~(unsigned long)TUN_F_TSO_ECN;
    if (!(offloads & TUN_F_USO4) || !(offloads & TUN_F_USO6))
        offloads &= ~(unsigned long)(TUN_F_USO4 | TUN_F_USO6);
    return offloads;
}

/** set_up() - header and offloads, which are the whole interface's: every pair sets the same. */
static int set_up(const struct net_pair *pair, uint64_t features)
{
    int header = (int)net_header_bytes(features);
    if (ioctl(pair->tap_fd, TUNSETVNETHDRSZ, &header) < 0 ||
        ioctl(pair->tap_fd, TUNSETOFFLOAD, tap_offloads_for(features)) < 0)
        return -errno;
    return 0;
}

int net_attach(struct net_device *device, struct net_pair *pair, uint64_t features,
               struct error *err)
{
    pthread_mutex_lock(&device->lock);
    int ret = 0;
    if (pair->users == 0) {
        ret = attach_queue(device, pair, IFF_ATTACH_QUEUE);
        if (ret == 0)
            ret = set_up(pair, features);
    }
    if (ret == 0)
        pair->users++;
    pthread_mutex_unlock(&device->lock);
    return ret < 0 ? error_set_errno(err, ret, "the tap interface cannot be set up") : 0;
}

void net_detach(struct net_device *device, struct net_pair *pair)
{
    pthread_mutex_lock(&device->lock);
    if (pair->users && --pair->users == 0)
        (void)attach_queue(device, pair, IFF_DETACH_QUEUE);
    pthread_mutex_unlock(&device->lock);
}

bool net_tap_failed(struct net_device *device, int error)
{
    if (error != EBADFD && error != ENODEV)
        return false;
    if (!atomic_exchange(&device->tap_gone, true))
        log_error("the tap interface does not work any more: %s", strerror(error));
    return true;
}
