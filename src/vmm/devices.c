#include "vmm/devices.h"

#include "base/units.h"
#include "config/device_list.h"
#include "virtio/device.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* virtio 1.2, 5 */
#define VIRTIO_ID_NETWORK 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_ENTROPY 4
#define VIRTIO_ID_SOCKET 19
#define VIRTIO_ID_FS 26
/* Mass storage controller, of no kind that has a number of its own. */
#define PCI_CLASS_STORAGE 0x018000
#define PCI_CLASS_ETHERNET 0x020000
/* Communication controller, of no kind that has a number of its own. */
#define PCI_CLASS_COMMUNICATION 0x078000
/* A device of no class. */
#define PCI_CLASS_OTHERS 0xff0000
/* struct virtio_blk_config up to the fields of write zeroes (5.2.4). */
#define BLOCK_CONFIG_BYTES 60

#define RNG_QUEUE_SIZE 64
/* Received, sent, events (5.10.2); struct virtio_vsock_config (5.10.4). */
#define VSOCK_QUEUES 3
#define VSOCK_QUEUE_SIZE 128
#define VSOCK_CONFIG_BYTES 8
/* A queue more, which Linux does not have (5.11.3). */
#define FS_F_NOTIFICATION 1u
/* High priority, beside those for requests (5.11.2). */
#define FS_MORE_QUEUES 1
/* One port: what comes in, what goes out (5.3.2). */
#define CONSOLE_QUEUES 2
#define CONSOLE_QUEUE_SIZE 64
/* struct virtio_console_config (5.3.4) */
#define CONSOLE_CONFIG_BYTES 12

/* 5.11.4; what a tag leaves is 0. */
struct fs_config_space {
    char tag[36];
    uint32_t num_request_queues;
};
_Static_assert(sizeof(struct fs_config_space) == 40, "virtio 1.2, 5.11.4");

struct device {
    struct devices *devices;
    unsigned number; /* in the configuration, and for the broker */
    struct device_entry entry;
    struct vhost_user_net net; /* of a network interface */
    struct fs_config_space fs; /* of a file system */
    struct vhost_user_device *vhost;
};

struct devices {
    struct devices_in in;
    unsigned n;
    struct device all[];
};

/** connect_device() - its back-end is started, or another program's connected to; for vhost_user_device_ops. */
static int connect_device(void *ctx, bool again, struct vhost_user_link *link, struct error *err)
{
    struct device *device = ctx;
    struct devices_in *in = &device->devices->in;
    int ret =
        broker_connect(in->broker, device->number, again, &link->socket_fd, &link->pidfd, err);
    if (ret < 0)
        return ret;
    event_emit(in->events, "device", again ? "backend-restarted" : "backend-started", "id",
               device->entry.id, NULL);
    return 0;
}

static void kill_backend(void *ctx)
{
    struct device *device = ctx;
    broker_kill(device->devices->in.broker, device->number);
}

/** describe_net() - a network interface: what is the VMM's of it, and what it shall not offer. */
static void describe_net(struct device *device, struct vhost_user_device_params *params)
{
    const struct net_config *config = device->entry.net;
    device->net =
        (struct vhost_user_net){.pairs = config->num_queues / 2, .mtu = (uint16_t)config->mtu};
    units_parse_mac(config->mac, device->net.mac);
    params->virtio_id = VIRTIO_ID_NETWORK;
    params->class_code = PCI_CLASS_ETHERNET;
    params->n_queues = config->num_queues + 1;
    params->queue_size = (uint16_t)config->queue_size;
    params->config_len = NET_CONFIG_BYTES;
    params->net = &device->net;
    params->features_off = ~NET_F_FORWARDED & NET_F_ALL;
    if (!config->offload_csum)
        params->features_off |= NET_F_CSUMS | NET_F_TSO | NET_F_UFO;
    if (!config->offload_tso)
        params->features_off |= NET_F_TSO;
    if (!config->offload_ufo)
        params->features_off |= NET_F_UFO;
}

/** describe_fs() - a file system: its tag and number of queues are the VMM's to tell. */
static void describe_fs(struct device *device, struct vhost_user_device_params *params)
{
    const struct fs_config *config = device->entry.fs;
    device->fs.num_request_queues = htole32(config->num_queues);
    memcpy(device->fs.tag, config->tag, strnlen(config->tag, sizeof(device->fs.tag)));
    params->virtio_id = VIRTIO_ID_FS;
    params->class_code = PCI_CLASS_STORAGE;
    params->n_queues = config->num_queues + FS_MORE_QUEUES;
    params->queue_size = (uint16_t)config->queue_size;
    params->features_off = FS_F_NOTIFICATION;
    params->config = &device->fs;
    params->config_len = sizeof(device->fs);
    /* Which files are open, and by what numbers the driver knows them. */
    params->keeps_state = true;
}

/** describe() - what the guest is shown: the fields of @params that are the kind's. */
static void describe(struct device *device, struct vhost_user_device_params *params)
{
    const struct device_entry *entry = &device->entry;
    switch (entry->kind) {
    case DEVICE_DISK:
        params->virtio_id = VIRTIO_ID_BLOCK;
        params->class_code = PCI_CLASS_STORAGE;
        params->n_queues = entry->disk->num_queues;
        params->queue_size = (uint16_t)entry->disk->queue_size;
        params->config_len = BLOCK_CONFIG_BYTES;
        break;
    case DEVICE_NET:
        describe_net(device, params);
        break;
    case DEVICE_FS:
        describe_fs(device, params);
        break;
    case DEVICE_RNG:
        params->virtio_id = VIRTIO_ID_ENTROPY;
        params->class_code = PCI_CLASS_OTHERS;
        params->n_queues = 1;
        params->queue_size = RNG_QUEUE_SIZE;
        break;
    case DEVICE_CONSOLE:
        params->virtio_id = VIRTIO_ID_CONSOLE;
        params->class_code = PCI_CLASS_COMMUNICATION;
        params->n_queues = CONSOLE_QUEUES;
        params->queue_size = CONSOLE_QUEUE_SIZE;
        params->config_len = CONSOLE_CONFIG_BYTES;
        break;
    case DEVICE_VSOCK:
        params->virtio_id = VIRTIO_ID_SOCKET;
        params->class_code = PCI_CLASS_COMMUNICATION;
        params->n_queues = VSOCK_QUEUES;
        params->queue_size = VSOCK_QUEUE_SIZE;
        params->config_len = VSOCK_CONFIG_BYTES;
        break;
    }
}

static int create_device(struct device *device, struct error *err)
{
    static const struct vhost_user_device_ops ops = {connect_device, kill_backend};
    const struct devices_in *in = &device->devices->in;
    struct vhost_user_device_params params = {
        .name = device->entry.id,
        .isolated = in->config->platform.sev_snp == SWITCH_ON,
        .own_backend = !device->entry.socket,
        .memory = in->memory,
        .pci = in->pci,
        .vm_fd = in->vm_fd,
        .routes = in->routes,
        .events = in->events,
        .ops = &ops,
        .ctx = device,
    };
    describe(device, &params);
    device->vhost = vhost_user_device_new(&params, err);
    return device->vhost ? 0 : error_context(err, "%s: %s", device->entry.option, device->entry.id);
}

struct devices *devices_create(const struct devices_in *in, struct error *err)
{
    unsigned n = config_n_devices(in->config);
    struct devices *devices = calloc(1, sizeof(*devices) + n * sizeof(devices->all[0]));
    if (!devices) {
        error_set(err, -ENOMEM, "out of memory for the devices");
        return NULL;
    }
    devices->in = *in;
    for (unsigned i = 0; i < n; i++) {
        struct device *device = &devices->all[i];
        *device =
            (struct device){.devices = devices, .number = i, .entry = config_device(in->config, i)};
        devices->n++;
        if (create_device(device, err) < 0) {
            devices_destroy(devices);
            return NULL;
        }
    }
    return devices;
}

void devices_destroy(struct devices *devices)
{
    if (!devices)
        return;
    /* All at once: the time that several take which do not answer is that of one. */
    for (unsigned i = 0; i < devices->n; i++)
        if (devices->all[i].vhost)
            vhost_user_device_end(devices->all[i].vhost);
    for (unsigned i = devices->n; i-- > 0;)
        vhost_user_device_free(devices->all[i].vhost);
    free(devices);
}
