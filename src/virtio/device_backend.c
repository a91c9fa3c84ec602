/* What is done to a device's back-end, step by step. All of it runs on the control thread, or before that exists. */
#include "virtio/device_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>

/* virtio 1.2, 6: of the bits that are no device's own, those that a split virtqueue's back-end can have. */
#define FEATURE_INDIRECT_DESC (1ull << 28)
#define FEATURE_EVENT_IDX (1ull << 29)
#define FEATURES_OF_DEVICES (((1ull << 24) - 1) | ~((1ull << 50) - 1))
#define FEATURES_OFFERED \
    (FEATURES_OF_DEVICES | FEATURE_INDIRECT_DESC | FEATURE_EVENT_IDX | VIRTIO_F_VERSION_1)

/* How long a process may take to end that has closed its connection. */
#define ENDING_MS 500

/* virtio 1.2, 2.7: bytes of a split virtqueue's parts, without the event fields. */
#define DESC_BYTES 16u
#define AVAIL_BYTES(n) (4u + 2u * (n))
#define USED_BYTES(n) (4u + 8u * (n))
#define EVENT_BYTES 2u

/* virtio 1.2, 5.2: the device whose configuration begins with its capacity, in sectors of 512 bytes. */
#define VIRTIO_ID_BLOCK 2

int device_timeout(const struct vhost_user_device *device)
{
    return device->params.timeout_ms ? device->params.timeout_ms : VHOST_USER_TIMEOUT_MS;
}

/** connect_timeout() - a machine that is busy, with starting others like this one, say, is slow at starting processes. */
static int connect_timeout(const struct vhost_user_device *device, bool again)
{
    bool fresh = device->params.own_backend && !again && !device->params.timeout_ms;
    return fresh ? VHOST_USER_START_TIMEOUT_MS : device_timeout(device);
}

bool device_asks_config(const struct vhost_user_device *device)
{
    return device->params.config_len && !device->params.net && !device->params.config;
}

/** check_capacity() - a disk of another size is another disk, whoever says so; a size that changes is announced. */
static int check_capacity(const struct vhost_user_device *device, const uint8_t *config,
                          struct error *err)
{
    if (device->params.virtio_id != VIRTIO_ID_BLOCK || device->params.config_len < sizeof(uint64_t))
        return 0;
    uint64_t before = load_le64(device->config), now = load_le64(config);
    if (before == now)
        return 0;
    return error_set(err, -ESTALE,
                     "the back-end serves a disk of %" PRIu64 " sectors, not of %" PRIu64
                     " as before",
                     now, before);
}

int device_read_config(struct vhost_user_device *device, bool same_size, struct error *err)
{
    uint8_t config[VHOST_USER_CONFIG_MAX] = {0};
    uint32_t len = device->params.config_len;
    if (!device_asks_config(device))
        return 0;
    int ret = frontend_get_config(&device->frontend, 0, config, len, err);
    if (ret == 0 && same_size)
        ret = check_capacity(device, config, err);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&device->lock);
    memcpy(device->config, config, len);
    pthread_mutex_unlock(&device->lock);
    return 0;
}

/** check_backend() - that it can do what the driver has been offered, or is about to be. */
static int check_backend(const struct vhost_user_device *device, bool again, struct error *err)
{
    const struct vhost_user_frontend *frontend = &device->frontend;
    const struct vhost_user_device_params *params = &device->params;
    /* Of a network device some count queues and some pairs of them. */
    unsigned n_queues = params->net ? params->net->pairs : params->n_queues;
    if (frontend->n_queues < n_queues)
        return error_set(err, -ERANGE, "the back-end has %" PRIu64 " queues, not %u",
                         frontend->n_queues, n_queues);
    if (device_asks_config(device) && !(frontend->protocol_features & VHOST_USER_PROTOCOL_CONFIG))
        return error_set(err, -ENOTSUP, "the back-end lacks the protocol feature CONFIG");
    if (!again)
        return 0;
    uint64_t missing = device->features & ~frontend->features & ~device_net_features(device) &
                       ~VIRTIO_F_ACCESS_PLATFORM;
    if (missing)
        return error_set(err, -ENOTSUP,
                         "the back-end lacks features %#" PRIx64 " that it had before", missing);
    if (device->has_inflight && !(frontend->protocol_features & VHOST_USER_PROTOCOL_INFLIGHT_SHMFD))
        return error_set(err, -ENOTSUP,
                         "the back-end cannot take over requests in flight, as it could before");
    return 0;
}

/** repeat_config() - tell a new back-end what the driver told the last one: a write cache that is off stays off. */
static int repeat_config(struct vhost_user_device *device, struct error *err)
{
    int ret = 0;
    for (uint32_t at = 0, end; at < VHOST_USER_CONFIG_MAX && ret == 0; at = end + 1) {
        for (end = at; end < VHOST_USER_CONFIG_MAX && device->driver_wrote[end];)
            end++;
        if (end > at)
            ret = frontend_set_config(&device->frontend, at, device->driver_config + at, end - at,
                                      err);
    }
    return ret;
}

/** explain() - a back-end that has ended has said why itself; that nothing more came from it says nothing. */
static int explain(const struct vhost_user_device *device, int ret, struct error *err)
{
    struct pollfd end = {.fd = device->pidfd, .events = POLLIN};
    if (device->pidfd < 0 || poll(&end, 1, ENDING_MS) != 1)
        return ret;
    return error_set(err, ret, "its back-end ended before it was ready: the log says why");
}

int device_connect(struct vhost_user_device *device, bool again, struct error *err)
{
    const struct vhost_user_device_params *params = &device->params;
    struct vhost_user_link link = {.socket_fd = -1, .pidfd = -1};
    int ret = params->ops->connect(params->ctx, again, &link, err);
    if (ret < 0)
        return ret;
    device->pidfd = link.pidfd;
    ret = frontend_open(&device->frontend, link.socket_fd, connect_timeout(device, again), err);
    if (ret == 0)
        ret = check_backend(device, again, err);
    if (ret == 0 && again)
        ret = repeat_config(device, err);
    if (ret == 0)
        ret = device_read_config(device, again, err);
    if (ret < 0) {
        ret = explain(device, ret, err);
        device_disconnect(device);
        return ret;
    }
    if (!again) {
        device->features = device->frontend.features & FEATURES_OFFERED & ~params->features_off;
        device->features |= device_net_features(device);
        /* Linux takes no device without it where its memory is encrypted (virtio_require_restricted_mem_acc). */
        if (params->isolated)
            device->features |= VIRTIO_F_ACCESS_PLATFORM;
        device->has_inflight =
            device->frontend.protocol_features & VHOST_USER_PROTOCOL_INFLIGHT_SHMFD;
    }
    return 0;
}

void device_disconnect(struct vhost_user_device *device)
{
    frontend_close(&device->frontend);
    cleanup_close(&device->pidfd);
    device->pidfd = -1;
    device->started = false;
}

/** ring_part() - where @len bytes at guest address @gpa are mapped here; 0 if they are not RAM, or not aligned. */
static uint64_t ring_part(const struct vhost_user_device *device, uint64_t gpa, uint64_t len,
                          uint64_t align)
{
    if (!is_aligned(gpa, align))
        return 0;
    return (uint64_t)(uintptr_t)memory_ptr(device->params.memory, gpa, len);
}

static int start_queue(struct vhost_user_device *device, unsigned index, bool recover,
                       struct error *err)
{
    const struct virtio_pci_queue *queue = virtio_pci_queue(device->pci, index);
    struct vhost_user_queue start = {
        .index = index,
        .size = queue->size,
        .desc = ring_part(device, queue->desc, DESC_BYTES * queue->size, 16),
        .driver = ring_part(device, queue->driver, AVAIL_BYTES(queue->size) + EVENT_BYTES, 2),
        .used = ring_part(device, queue->used, USED_BYTES(queue->size) + EVENT_BYTES, 4),
        .kick_fd = queue->kick_fd,
        .call_fd = queue->call_fd,
        .err_fd = device->err_fd,
        .off = !device_queue_on(device, index),
    };
    if (!start.desc || !start.driver || !start.used)
        return error_set(err, -EINVAL, "the driver's queue %u is not in RAM", index);
    /* What has been used is done; what was taken beyond it is in the in-flight region. */
    if (recover)
        start.base = load_le16((const uint8_t *)(uintptr_t)start.used + 2);
    return frontend_start_queue(&device->frontend, &start, err);
}

/** share_inflight() - the region of the back-end before, or a new one; without, where the back-end has none. */
static int share_inflight(struct vhost_user_device *device, struct error *err)
{
    if (!device->has_inflight)
        return 0;
    if (device->inflight_fd < 0) {
        device->inflight = (struct vhost_user_inflight){
            .n_queues = (uint16_t)device->params.n_queues,
            .queue_size = device->params.queue_size,
        };
        int fd = frontend_get_inflight(&device->frontend, &device->inflight, err);
        if (fd < 0)
            return fd;
        device->inflight_fd = fd;
    }
    return frontend_set_inflight(&device->frontend, &device->inflight, device->inflight_fd, err);
}

int device_start(struct vhost_user_device *device, bool recover, struct error *err)
{
    /* Not what is the front-end's alone. */
    uint64_t features =
        virtio_pci_features(device->pci) & device->frontend.features & ~VIRTIO_F_ACCESS_PLATFORM;
    unsigned n_queues = device_backend_queues(device);
    fd_unsignal(device->err_fd);
    device->started = true;
    int ret = frontend_set_features(&device->frontend, features, err);
    if (ret == 0)
        ret = frontend_set_memory(&device->frontend, device->params.memory, err);
    if (ret == 0)
        ret = share_inflight(device, err);
    for (unsigned i = 0; ret == 0 && i < n_queues; i++)
        if (virtio_pci_queue(device->pci, i)->enabled)
            ret = start_queue(device, i, recover, err);
    if (ret < 0)
        return ret;
    /* A doorbell from before must not be lost, nor an interrupt that the dead one owed. */
    for (unsigned i = 0; i < device->params.n_queues; i++)
        if (virtio_pci_queue(device->pci, i)->enabled)
            fd_signal(virtio_pci_queue(device->pci, i)->kick_fd);
    if (recover)
        virtio_pci_interrupt_all(device->pci);
    return 0;
}

int device_stop(struct vhost_user_device *device, struct error *err)
{
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i < device_backend_queues(device); i++)
        if (virtio_pci_queue(device->pci, i)->enabled)
            ret = frontend_stop_queue(&device->frontend, i, err);
    if (ret == 0)
        ret = frontend_reset(&device->frontend, err);
    if (ret == 0)
        device->started = false;
    return ret;
}

void device_forget_inflight(struct vhost_user_device *device)
{
    cleanup_close(&device->inflight_fd);
    device->inflight_fd = -1;
}
