/*
 * The control thread. It waits for jobs from vCPU threads, for what the back-end says unasked, and for the back-end's
 * end, which shows as the end of its connection and, for husk's own, of its process.
 */
#include "virtio/device_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* A back-end that died is started again at once; one that dies again soon, after a while that doubles. */
#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS 5000
/* One that has lived so long is no longer one that dies soon. */
#define STEADY_MS 60000

/* The control thread's stack: two errors of 1.5 KiB, two messages and printf() are the deepest there is. */
#define STACK_BYTES KIB(128)

static bool is_connected(const struct vhost_user_device *device)
{
    return device->frontend.fd >= 0;
}

/** retry_later() - when the next try to connect is. */
static void retry_later(struct vhost_user_device *device)
{
    int64_t delay = 0;
    if (device->failures)
        delay = MIN((int64_t)RETRY_FIRST_MS << MIN(device->failures - 1, 10u), RETRY_MOST_MS);
    device->failures++;
    device->retry_at = clock_ms() + delay;
}

/** give_up() - the device can do nothing more before the driver resets it. */
static void give_up(struct vhost_user_device *device, const char *why)
{
    log_error("%s: needs a reset by the driver: %s", device->params.name, why);
    event_emit(device->params.events, "device", "needs-reset", "id", device->params.name, "reason",
               why, NULL);
    device->broken = true;
    virtio_pci_needs_reset(device->pci);
}

/** lose() - the connection is gone or of no more use: @why. */
static void lose(struct vhost_user_device *device, const char *why)
{
    const struct vhost_user_device_params *params = &device->params;
    log_error("%s: lost its back-end: %s", params->name, why);
    event_emit(params->events, "device", "backend-died", "id", params->name, "reason", why, NULL);
    bool state_lost = params->keeps_state && device->active && !device->broken;
    device_disconnect(device);
    if (params->own_backend)
        params->ops->kill(params->ctx);
    if (state_lost)
        give_up(device, "what its back-end knew of the driver ended with it");
    if (clock_ms() - device->connected_at >= STEADY_MS)
        device->failures = 0;
    retry_later(device);
}

/** fail() - the back-end did not do what it was asked for, with @ret. */
static void fail(struct vhost_user_device *device, int ret, const char *why)
{
    /* It may wake up and go on with the driver's queues: no other back-end is to be given them before a reset. */
    if (ret == -ETIMEDOUT && !device->params.own_backend && device->started)
        give_up(device, why);
    else
        lose(device, why);
}

/** cannot() - what the driver has asked for cannot be done, with @ret: by its own fault, or by the back-end's. */
static void cannot(struct vhost_user_device *device, int ret, const char *why)
{
    if (ret == -EINVAL || ret == -EREMOTEIO)
        give_up(device, why);
    else
        fail(device, ret, why);
}

/** start() - hand the driver's queues to a back-end that is connected. */
static void start(struct vhost_user_device *device, bool recover)
{
    struct error err = ERROR_INIT;
    int ret = device_start(device, recover, &err);
    if (ret < 0)
        cannot(device, ret, err.message);
    else if (recover)
        log_info("%s: its back-end goes on", device->params.name);
}

static void reconnect(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    device->connected_at = clock_ms();
    if (device_connect(device, true, &err) < 0) {
        /* Said aloud a few times; a socket that nobody serves any more is not worth a full disk of lines. */
        log_message(device->failures < 4 ? LOG_WARN : LOG_DEBUG, "%s: %s", device->params.name,
                    err.message);
        if (device->params.own_backend)
            device->params.ops->kill(device->params.ctx);
        retry_later(device);
        return;
    }
    if (device->active && !device->broken) {
        frontend_begin(&device->frontend, device_timeout(device));
        start(device, true);
    }
    if (is_connected(device))
        virtio_pci_config_changed(device->pci);
}

/** finish_reset() - nothing touches the driver's queues any more. */
static void finish_reset(struct vhost_user_device *device)
{
    device_forget_inflight(device);
    device_net_reset(device);
    device->broken = device->draining = false;
    virtio_pci_reset_done(device->pci);
}

/**
 * reset() - the driver wants the device as new. One's own back-end that does not drain is killed, which drains it. One that
 * cannot be killed may go on to write into the driver's memory: the reset is not over until it has answered or is gone.
 */
static void reset(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    int ret = 0;
    device->active = false;
    if (device->started) {
        frontend_begin(&device->frontend, device_timeout(device));
        ret = device_stop(device, &err);
    }
    if (ret == -ETIMEDOUT && !device->params.own_backend) {
        log_error("%s: its back-end does not let go of the driver's queues: %s",
                  device->params.name, err.message);
        event_emit(device->params.events, "device", "needs-reset", "id", device->params.name,
                   "reason", err.message, NULL);
        device->draining = device->broken = true;
        virtio_pci_needs_reset(device->pci);
        return;
    }
    if (ret < 0)
        lose(device, err.message);
    finish_reset(device);
}

/** drain_on() - the back-end that a reset waits for has said something at last. */
static void drain_on(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    frontend_begin(&device->frontend, device_timeout(device));
    int ret = device_stop(device, &err);
    if (ret == -ETIMEDOUT)
        return;
    if (ret < 0)
        lose(device, err.message);
    finish_reset(device);
}

static void write_config(struct vhost_user_device *device, const struct config_write *write)
{
    struct error err = ERROR_INIT;
    if (!is_connected(device) || device->broken || !device_asks_config(device))
        return;
    int ret = frontend_set_config(&device->frontend, write->offset, write->data, write->len, &err);
    if (ret == 0) {
        memcpy(device->driver_config + write->offset, write->data, write->len);
        memset(device->driver_wrote + write->offset, true, write->len);
    }
    if (ret == 0)
        ret = device_read_config(device, false, &err);
    if (ret == -EREMOTEIO)
        log_debug("%s: a write of its configuration: %s", device->params.name, err.message);
    else if (ret < 0)
        fail(device, ret, err.message);
}

/** take_new_config() - the back-end has said that its configuration is another now. */
static void take_new_config(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    device->frontend.config_changed = false;
    frontend_begin(&device->frontend, device_timeout(device));
    int ret = device_read_config(device, false, &err);
    if (ret < 0)
        fail(device, ret, err.message);
    else
        virtio_pci_config_changed(device->pci);
}

/** activate() - the driver is ready. */
static void activate(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    frontend_begin(&device->frontend, device_timeout(device));
    if (device_net_start(device, &err) < 0)
        give_up(device, err.message);
    else if (is_connected(device))
        start(device, false);
}

/** serve_control() - a network driver asks for something. */
static void serve_control(struct vhost_user_device *device)
{
    struct error err = ERROR_INIT;
    frontend_begin(&device->frontend, device_timeout(device));
    int ret = device_net_serve(device, &err);
    if (ret < 0)
        cannot(device, ret, err.message);
}

/** do_jobs() - what the driver asked for. Returns false if the thread is to end. */
static bool do_jobs(struct vhost_user_device *device)
{
    pthread_mutex_lock(&device->lock);
    struct device_jobs jobs = device->jobs;
    device->jobs = (struct device_jobs){.exit = jobs.exit};
    pthread_mutex_unlock(&device->lock);
    if (jobs.exit)
        return false;
    frontend_begin(&device->frontend, device_timeout(device));
    for (unsigned i = 0; i < jobs.n_writes; i++)
        write_config(device, &jobs.writes[i]);
    if (jobs.activate) {
        device->active = !jobs.reset;
        if (device->active)
            activate(device);
    }
    if (jobs.reset)
        reset(device);
    return true;
}

/** hear() - the connection has become readable with nothing asked, or with an answer that comes late. */
static void hear(struct vhost_user_device *device, short events)
{
    struct error err = ERROR_INIT;
    if (events & (POLLHUP | POLLRDHUP | POLLERR))
        lose(device, "it closed the connection");
    else if (device->draining)
        drain_on(device);
    else if (!device->frontend.owed)
        lose(device, "it spoke without being asked");
    else if (frontend_settle(&device->frontend, &err) < 0)
        lose(device, err.message);
}

/** wait_for_event() - for jobs, the back-end, or the time to try again. */
static void wait_for_event(struct vhost_user_device *device)
{
    int timeout = -1;
    if (!is_connected(device))
        timeout = (int)MAX(device->retry_at - clock_ms(), 0);
    struct pollfd fds[] = {
        {.fd = device->wake_fd, .events = POLLIN},
        {.fd = device->frontend.fd, .events = POLLIN | POLLRDHUP},
        {.fd = device->pidfd, .events = POLLIN},
        {.fd = device->frontend.backend_fd, .events = POLLIN},
        /* What it says matters while it has queues that nobody has given up. */
        {.fd = device->started && !device->broken ? device->err_fd : -1, .events = POLLIN},
        {.fd = device_control_fd(device), .events = POLLIN},
    };
    int ready = poll(fds, ARRAY_SIZE(fds), timeout);
    if (ready < 0)
        return;
    if (fds[0].revents)
        fd_unsignal(device->wake_fd);
    struct error err = ERROR_INIT;
    if (fds[2].revents)
        lose(device, "its process has ended");
    else if (fds[1].revents)
        hear(device, fds[1].revents);
    else if (fds[3].revents && frontend_backend_request(&device->frontend, &err) < 0)
        log_debug("%s: requests of its back-end: %s", device->params.name, err.message);
    else if (fds[4].revents)
        give_up(device, "the driver broke one of its queues");
    else if (fds[5].revents)
        serve_control(device);
    if (device->draining && !is_connected(device))
        finish_reset(device);
}

/** go_on() - what has become due, and no driver asked for. */
static void go_on(struct vhost_user_device *device)
{
    if (is_connected(device) && device->frontend.config_changed && !device->broken)
        take_new_config(device);
    if (!is_connected(device) && clock_ms() >= device->retry_at)
        reconnect(device);
}

static void *control(void *opaque)
{
    struct vhost_user_device *device = opaque;
    pthread_setname_np(pthread_self(), "device");
    while (do_jobs(device)) {
        go_on(device);
        wait_for_event(device);
    }
    struct error err = ERROR_INIT;
    frontend_begin(&device->frontend, device_timeout(device));
    if (device->started && device_stop(device, &err) < 0) {
        log_warn("%s: its back-end does not end: %s", device->params.name, err.message);
        if (device->params.own_backend)
            device->params.ops->kill(device->params.ctx);
    }
    return NULL;
}

static void wake(struct vhost_user_device *device)
{
    fd_signal(device->wake_fd);
}

static void on_activate(void *opaque)
{
    struct vhost_user_device *device = opaque;
    pthread_mutex_lock(&device->lock);
    device->jobs.activate = true;
    pthread_mutex_unlock(&device->lock);
    wake(device);
}

static void on_reset(void *opaque)
{
    struct vhost_user_device *device = opaque;
    pthread_mutex_lock(&device->lock);
    device->jobs.reset = true;
    pthread_mutex_unlock(&device->lock);
    wake(device);
}

static void on_config_read(void *opaque, unsigned offset, void *data, unsigned len)
{
    struct vhost_user_device *device = opaque;
    memset(data, 0, len);
    if (!range_within(offset, len, sizeof(device->config)))
        return;
    pthread_mutex_lock(&device->lock);
    memcpy(data, device->config + offset, len);
    pthread_mutex_unlock(&device->lock);
}

static void on_config_write(void *opaque, unsigned offset, const void *data, unsigned len)
{
    struct vhost_user_device *device = opaque;
    pthread_mutex_lock(&device->lock);
    /* A driver that writes faster than the back-end takes it loses the rest: no field is written twice in a row. */
    if (device->jobs.n_writes < CONFIG_WRITES_MAX && len <= CONFIG_WRITE_BYTES &&
        range_within(offset, len, sizeof(device->config))) {
        struct config_write *write = &device->jobs.writes[device->jobs.n_writes++];
        *write = (struct config_write){.offset = offset, .len = len};
        memcpy(write->data, data, len);
    }
    pthread_mutex_unlock(&device->lock);
    wake(device);
}

static const struct virtio_pci_ops transport_ops = {
    .activate = on_activate,
    .reset = on_reset,
    .config_read = on_config_read,
    .config_write = on_config_write,
};

static int show(struct vhost_user_device *device, struct error *err)
{
    const struct vhost_user_device_params *params = &device->params;
    struct virtio_pci_params transport = {
        .name = params->name,
        .pci = params->pci,
        .vm_fd = params->vm_fd,
        .routes = params->routes,
        .virtio_id = params->virtio_id,
        .class_code = params->class_code,
        .n_queues = params->n_queues,
        .queue_size = params->queue_size,
        .features = device->features,
        .config_len = params->config_len,
        .bars_64bit = params->bars_64bit,
        .ops = &transport_ops,
        .device = device,
    };
    device->pci = virtio_pci_new(&transport, err);
    return device->pci ? 0 : err->code;
}

/** start_thread() - with all signals blocked: they are the main thread's and the vCPUs'. */
static int start_thread(struct vhost_user_device *device, struct error *err)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&device->thread, &attributes, control, device);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (code)
        return error_set_errno(err, -code, "could not start a thread");
    device->thread_runs = true;
    return 0;
}

struct vhost_user_device *vhost_user_device_new(const struct vhost_user_device_params *params,
                                                struct error *err)
{
    struct vhost_user_device *device = calloc(1, sizeof(*device));
    if (!device || params->config_len > VHOST_USER_CONFIG_MAX) {
        error_set(err, device ? -EINVAL : -ENOMEM, "no room for the device");
        free(device);
        return NULL;
    }
    device->params = *params;
    if (params->config)
        memcpy(device->config, params->config, params->config_len);
    device->frontend = VHOST_USER_FRONTEND_INIT;
    device->pidfd = device->inflight_fd = device->err_fd = -1;
    pthread_mutex_init(&device->lock, NULL);
    device->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (device->wake_fd >= 0)
        device->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int ret = device->err_fd < 0 ? error_set_errno(err, -errno, "could not make an eventfd") : 0;
    if (ret == 0)
        ret = device_net_init(device, err);
    if (ret == 0)
        ret = device_connect(device, false, err);
    device->connected_at = clock_ms();
    if (ret == 0)
        ret = show(device, err);
    if (ret == 0)
        ret = start_thread(device, err);
    if (ret < 0) {
        vhost_user_device_free(device);
        return NULL;
    }
    return device;
}

void vhost_user_device_end(struct vhost_user_device *device)
{
    pthread_mutex_lock(&device->lock);
    device->jobs.exit = true;
    pthread_mutex_unlock(&device->lock);
    wake(device);
}

void vhost_user_device_free(struct vhost_user_device *device)
{
    if (!device)
        return;
    if (device->thread_runs) {
        vhost_user_device_end(device);
        pthread_join(device->thread, NULL);
    }
    device_disconnect(device);
    virtio_pci_free(device->pci);
    cleanup_close(&device->inflight_fd);
    cleanup_close(&device->wake_fd);
    cleanup_close(&device->err_fd);
    pthread_mutex_destroy(&device->lock);
    free(device->net);
    free(device);
}
