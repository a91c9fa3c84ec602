#include "vmm/devices.h"

#include "virtio/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* virtio 1.2, 5.2 */
#define VIRTIO_ID_BLOCK 2
/* Mass storage controller, of no kind that has a number of its own. */
#define PCI_CLASS_STORAGE 0x018000
/* struct virtio_blk_config up to the fields of write zeroes (5.2.4). */
#define BLOCK_CONFIG_BYTES 60

struct disk {
    struct devices *devices;
    unsigned number; /* in the configuration, and for the broker */
    const struct disk_config *config;
    struct vhost_user_device *device;
};

struct devices {
    struct devices_in in;
    unsigned n_disks;
    struct disk disks[];
};

/** connect_disk() - its back-end is started, or the one of another program connected to; for vhost_user_device_ops. */
static int connect_disk(void *ctx, bool again, struct vhost_user_link *link, struct error *err)
{
    struct disk *disk = ctx;
    struct devices_in *in = &disk->devices->in;
    int ret = broker_connect(in->broker, disk->number, again, &link->socket_fd, &link->pidfd, err);
    if (ret < 0)
        return ret;
    event_emit(in->events, "device", again ? "backend-restarted" : "backend-started", "id",
               disk->config->id, NULL);
    return 0;
}

static void kill_backend(void *ctx)
{
    struct disk *disk = ctx;
    broker_kill(disk->devices->in.broker, disk->number);
}

static int create_disk(struct disk *disk, struct error *err)
{
    static const struct vhost_user_device_ops ops = {connect_disk, kill_backend};
    const struct devices_in *in = &disk->devices->in;
    struct vhost_user_device_params params = {
        .name = disk->config->id,
        .virtio_id = VIRTIO_ID_BLOCK,
        .class_code = PCI_CLASS_STORAGE,
        .n_queues = disk->config->num_queues,
        .queue_size = (uint16_t)disk->config->queue_size,
        .config_len = BLOCK_CONFIG_BYTES,
        .own_backend = !disk->config->vhost_user,
        .memory = in->memory,
        .pci = in->pci,
        .vm_fd = in->vm_fd,
        .routes = in->routes,
        .events = in->events,
        .ops = &ops,
        .ctx = disk,
    };
    disk->device = vhost_user_device_new(&params, err);
    return disk->device ? 0 : error_context(err, "--disk: %s", disk->config->id);
}

struct devices *devices_create(const struct devices_in *in, struct error *err)
{
    const struct vm_config *config = in->config;
    struct devices *devices =
        calloc(1, sizeof(*devices) + config->n_disks * sizeof(devices->disks[0]));
    if (!devices) {
        error_set(err, -ENOMEM, "out of memory for the devices");
        return NULL;
    }
    devices->in = *in;
    for (unsigned i = 0; i < config->n_disks; i++) {
        struct disk *disk = &devices->disks[i];
        *disk = (struct disk){.devices = devices, .number = i, .config = &config->disks[i]};
        devices->n_disks++;
        if (create_disk(disk, err) < 0) {
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
    for (unsigned i = devices->n_disks; i-- > 0;)
        vhost_user_device_free(devices->disks[i].device);
    free(devices);
}
