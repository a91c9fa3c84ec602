/*
 * What of a network device is the front-end's: its configuration, and the control queue (virtio 1.2, 5.1). It is served on
 * the control thread, so that a change of pairs has been made by the back-end when the driver reads the answer.
 */
#include "virtio/device_internal.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

/* 5.1.2: receive and transmit queues of all pairs, then this one; without MQ there is one pair. */
static unsigned data_queues(const struct vhost_user_device *device)
{
    bool mq = virtio_pci_features(device->pci) & NET_F_MQ;
    return mq ? 2 * device->params.net->pairs : 2;
}

/** show_config() - what the driver reads, as it is now. */
static void show_config(struct vhost_user_device *device)
{
    struct net_config_space config = {
        .status = htole16(NET_STATUS_LINK_UP),
        .max_pairs = htole16((uint16_t)device->params.net->pairs),
        .mtu = htole16(device->params.net->mtu),
    };
    memcpy(config.mac, device->net->state.mac, NET_MAC_BYTES);
    pthread_mutex_lock(&device->lock);
    memcpy(device->config, &config, sizeof(config));
    pthread_mutex_unlock(&device->lock);
}

int device_net_init(struct vhost_user_device *device, struct error *err)
{
    if (!device->params.net)
        return 0;
    device->net = calloc(1, sizeof(*device->net));
    if (!device->net)
        return error_set(err, -ENOMEM, "out of memory");
    device_net_reset(device);
    return 0;
}

uint64_t device_net_features(const struct vhost_user_device *device)
{
    const struct vhost_user_net *net = device->params.net;
    if (!net)
        return 0;
    return NET_F_MAC | NET_F_STATUS | NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA |
           NET_F_CTRL_VLAN | NET_F_CTRL_MAC_ADDR | (net->mtu ? NET_F_MTU : 0) |
           (net->pairs > 1 ? NET_F_MQ : 0);
}

unsigned device_backend_queues(const struct vhost_user_device *device)
{
    return device->net ? data_queues(device) : device->params.n_queues;
}

bool device_queue_on(const struct vhost_user_device *device, unsigned index)
{
    return !device->net || index / 2 < device->net->state.pairs;
}

int device_net_start(struct vhost_user_device *device, struct error *err)
{
    if (!device->net)
        return 0;
    device->net->state.features = virtio_pci_features(device->pci);
    const struct virtio_pci_queue *queue = virtio_pci_queue(device->pci, data_queues(device));
    if (!queue->enabled || !(device->net->state.features & NET_F_CTRL_VQ))
        return 0;
    return control_queue_start(&device->net->control, device->params.memory, queue,
                               device->net->state.features, err);
}

void device_net_reset(struct vhost_user_device *device)
{
    if (!device->net)
        return;
    const struct vhost_user_net *net = device->params.net;
    control_queue_stop(&device->net->control);
    device->net->state = (struct net_control){.max_pairs = net->pairs, .pairs = 1};
    memcpy(device->net->state.mac, net->mac, NET_MAC_BYTES);
    show_config(device);
}

int device_control_fd(const struct vhost_user_device *device)
{
    bool serves = device->net && device->net->control.memory && !device->broken;
    return serves ? device->net->control.kick_fd : -1;
}

/** switch_pairs() - tell the back-end that there are other pairs in use than @before. */
static int switch_pairs(struct vhost_user_device *device, unsigned before, struct error *err)
{
    unsigned now = device->net->state.pairs;
    int ret = 0;
    /* A back-end that is not there learns it when it is started. */
    for (unsigned i = 2 * MIN(before, now); ret == 0 && device->started && i < 2 * MAX(before, now);
         i++)
        if (virtio_pci_queue(device->pci, i)->enabled)
            ret = frontend_enable_queue(&device->frontend, i, now > before, err);
    return ret;
}

static uint8_t handle(void *ctx, const uint8_t *request, size_t len)
{
    struct vhost_user_device *device = ctx;
    struct net_front *net = device->net;
    struct net_control before = net->state;
    if (net->err.code)
        return NET_CTRL_ERR;
    uint8_t answer = net_control_request(&net->state, request, len);
    /* A back-end that is lost over it is followed by one that begins with the new number: only a refusal is one. */
    if (net->state.pairs != before.pairs &&
        switch_pairs(device, before.pairs, &net->err) == -EREMOTEIO)
        return NET_CTRL_ERR;
    if (memcmp(net->state.mac, before.mac, NET_MAC_BYTES) != 0)
        show_config(device);
    return answer;
}

int device_net_serve(struct vhost_user_device *device, struct error *err)
{
    device->net->err = ERROR_INIT;
    if (control_queue_serve(&device->net->control, handle, device, err) < 0) {
        control_queue_stop(&device->net->control);
        err->code = -EINVAL;
        return -EINVAL;
    }
    if (device->net->err.code)
        *err = device->net->err;
    return device->net->err.code;
}
