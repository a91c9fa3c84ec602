/* A virtio socket device, put together from its options. */
#include "backends/vsock.h"

#include "base/bytes.h"
#include "base/units.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

/* Of the socket's path, behind which "_4294967295" is to be part of one too. */
#define PATH_MAX_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - 11)
/* Host programs that have connected and wait to be accepted, as many as the broker lets wait. */
#define PROGRAMS_MAX 128

enum option_id { OPT_CID = BACKEND_OPTION_FIRST, OPT_UDS, OPT_LISTEN_FD };

struct vsock {
    char *path; /* of the UNIX socket; NULL: not given */
    int listen_fd;
    struct vsock_device device;
};

static const struct option long_options[] = {
    {"cid", required_argument, NULL, OPT_CID},
    {"uds", required_argument, NULL, OPT_UDS},
    {"listen-fd", required_argument, NULL, OPT_LISTEN_FD},
    {0},
};

static const char help[] = "  --cid N              the guest's address, from 3\n"
                           "  --uds PATH           host programs connect to this UNIX socket and "
                           "say \"CONNECT PORT\"; what\n"
                           "                       the guest connects to is PATH_PORT\n"
                           "  --listen-fd N        that socket, already listened on\n";

static int config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
    const struct vsock_device *vsock = device;
    uint8_t config[8];
    store_le64(config, vsock->cid);
    memcpy(data, config + offset, len);
    return 0;
}

static void stopped(void *device)
{
    struct vsock_device *vsock = device;
    vsock_host_flush(vsock);
    vsock_drop_all(vsock);
    /* A driver that has used its queues before goes on after a pause; a reset makes them new. */
    vsock->served = vsock->lost_before = false;
}

static const struct vu_backend_ops ops = {
    .run_all = vsock_run_all,
    .stopped = stopped,
    .config_read = config_read,
};

static void *create(void)
{
    struct vsock *vsock = calloc(1, sizeof(*vsock));
    if (!vsock)
        return NULL;
    vsock->listen_fd = vsock->device.listener = vsock->device.timer_fd = -1;
    vsock->device.connector = VSOCK_CONNECTOR_INIT;
    return vsock;
}

static int set_number(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *to,
                      struct error *err)
{
    if (units_parse_size(value, to) < 0 || *to < min || *to > max)
        return error_set(err, -EINVAL, "--%s takes a number from %llu to %llu, not '%s'", name,
                         (unsigned long long)min, (unsigned long long)max, value);
    return 0;
}

static int set(void *state, int val, const char *value, struct error *err)
{
    struct vsock *vsock = state;
    uint64_t fd = 0;
    switch (val) {
    case OPT_CID:
        return set_number("cid", value, VSOCK_CID_MIN, VSOCK_CID_MAX, &vsock->device.cid, err);
    case OPT_LISTEN_FD:
        if (set_number("listen-fd", value, 0, INT_MAX, &fd, err) < 0)
            return -EINVAL;
        vsock->listen_fd = (int)fd;
        return 0;
    default:
        free(vsock->path);
        vsock->path = strdup(value);
        return vsock->path ? 0 : error_set(err, -ENOMEM, "out of memory");
    }
}

static int open_vsock(void *state, struct vu_backend *backend, struct error *err)
{
    struct vsock *vsock = state;
    struct vsock_device *device = &vsock->device;
    if (!device->cid || !vsock->path)
        return error_set(err, -EINVAL, "--cid and --uds are needed");
    if (strlen(vsock->path) > PATH_MAX_BYTES)
        return error_set(err, -ENAMETOOLONG,
                         "--uds: the path is longer than %zu characters, and PATH_PORT has to be "
                         "one of a socket",
                         PATH_MAX_BYTES);
    bool own = vsock->listen_fd < 0;
    device->listener = own ? vu_listen(vsock->path, PROGRAMS_MAX, err) : vsock->listen_fd;
    if (device->listener < 0)
        return device->listener == -EINVAL ? -EIO : device->listener;
    int ret = vsock_connector_start(&device->connector, vsock->path, own, backend, err);
    if (ret < 0)
        return ret;
    device->loop = loop_new();
    device->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (!device->loop || device->timer_fd < 0 || vsock_host_start(device) < 0)
        return error_set_errno(err, -errno, "could not watch the sockets");
    backend->ops = &ops;
    backend->device = device;
    backend->features = VSOCK_F_STREAM;
    backend->n_queues = VSOCK_QUEUES;
    backend->queue_size = VSOCK_QUEUE_SIZE_MAX;
    backend->config_len = 8;
    backend->in_order = true;
    return 0;
}

static void destroy(void *state)
{
    struct vsock *vsock = state;
    struct vsock_device *device = &vsock->device;
    vsock_drop_all(device);
    vsock_connector_stop(&device->connector);
    loop_free(device->loop);
    if (device->timer_fd >= 0)
        close(device->timer_fd);
    if (device->listener >= 0)
        close(device->listener);
    free(vsock->path);
    free(vsock);
}

const struct backend_kind vsock_kind = {
    .name = "vsock",
    .role = CAGE_VSOCK,
    .summary = "streams between guest and host programs",
    .help = help,
    .options = long_options,
    .create = create,
    .set = set,
    .open = open_vsock,
    .destroy = destroy,
};
