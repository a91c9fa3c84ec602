/* A virtio block device over a raw file or a block device, put together from its options. */
#include "backends/blk.h"

#include "backends/blk_config.h"
#include "backends/blk_options.h"
#include "backends/blk_queue.h"
#include "backends/blk_ring.h"
#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct blk {
    struct blk_options options;
    struct blk_device device;
};

static void run(void *device, struct vu_queue *queue)
{
    blk_queue_run(device, queue);
}

static int config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
    const struct blk_device *blk = device;
    return blk_config_read(&blk->disk, blk->n_queues, blk->queue_size, offset, data, len);
}

static int config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
    struct blk_device *blk = device;
    return blk_config_write(&blk->disk, offset, data, len);
}

/* The lock was taken when the disk was opened: a disk in use is told of before anything is started on it. */
static const struct vu_backend_ops ops = {
    .run = run,
    .config_read = config_read,
    .config_write = config_write,
};

static void *create(void)
{
    struct blk *blk = calloc(1, sizeof(*blk));
    if (!blk)
        return NULL;
    blk_options_init(&blk->options);
    blk->device.disk.fd = -1;
    return blk;
}

static int set(void *state, int val, const char *value, struct error *err)
{
    struct blk *blk = state;
    return blk_options_set(&blk->options, val, value, err);
}

static void open_rings(struct blk_device *device)
{
    int code;
    unsigned entries = MIN(device->queue_size, BLK_RING_ENTRIES);
    device->rings = blk_rings_open(device->n_queues, entries, &code);
    if (!device->rings)
        log_warn("no io_uring (%s): requests of a queue wait for each other", strerror(-code));
}

static int open_blk(void *state, struct vu_backend *backend, struct error *err)
{
    struct blk *blk = state;
    struct blk_device *device = &blk->device;
    int r = blk_options_check(&blk->options, err);
    if (r < 0)
        return r;
    r = blk_disk_open(&device->disk, &blk->options, err);
    if (r < 0) /* -EINVAL is for options alone */
        return r == -EINVAL ? -EIO : r;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    rate_limit_init(&device->limit, &blk->options.limits,
                    (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    device->n_queues = blk->options.n_queues;
    device->queue_size = blk->options.queue_size;
    device->poll_us = blk->options.poll_us;
    open_rings(device);
    backend->ops = &ops;
    backend->device = device;
    backend->features = blk_features(&device->disk);
    backend->n_queues = device->n_queues;
    /* The driver is told how many buffers a request may have; a front-end that has larger rings is served too, as
     * vhost-user has no words to ask. */
    backend->queue_size = BLK_QUEUE_SIZE_MAX;
    backend->config_len = BLK_CONFIG_BYTES;
    return 0;
}

static void destroy(void *state)
{
    struct blk *blk = state;
    blk_rings_close(blk->device.rings);
    blk_disk_close(&blk->device.disk);
    blk_options_clear(&blk->options);
    free(blk);
}

const struct backend_kind blk_kind = {
    .name = "blk",
    .role = CAGE_BLK,
    .summary = "a raw image file or a block device",
    .help = blk_options_help,
    .options = blk_long_options,
    .create = create,
    .set = set,
    .open = open_blk,
    .destroy = destroy,
};
