#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device_fixture.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "virtio/device_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct fixture *the;

static void count(unsigned *counter)
{
    pthread_mutex_lock(&the->lock);
    (*counter)++;
    pthread_cond_broadcast(&the->changed);
    pthread_mutex_unlock(&the->lock);
}

bool reaches(const unsigned *counter, unsigned n, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nsec = until.tv_nsec + timeout_ms * 1000000LL;
    until.tv_sec += nsec / 1000000000;
    until.tv_nsec = nsec % 1000000000;
    pthread_mutex_lock(&the->lock);
    int ret = 0;
    while (*counter < n && ret == 0)
        ret = pthread_cond_timedwait(&the->changed, &the->lock, &until);
    bool there = *counter >= n;
    pthread_mutex_unlock(&the->lock);
    return there;
}

void wait_ms(struct fixture *f, int timeout_ms)
{
    __atomic_store_n(&f->device->params.timeout_ms, timeout_ms, __ATOMIC_RELAXED);
}

struct virtio_pci *virtio_pci_new(const struct virtio_pci_params *params, struct error *err)
{
    (void)err;
    the->transport.params = *params;
    return &the->transport;
}

void virtio_pci_free(struct virtio_pci *transport)
{
    (void)transport;
}

const struct virtio_pci_queue *virtio_pci_queue(const struct virtio_pci *transport, unsigned index)
{
    return &transport->queues[index];
}

uint64_t virtio_pci_features(const struct virtio_pci *transport)
{
    return transport->driver_features;
}

void virtio_pci_reset_done(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.resets);
}

void virtio_pci_config_changed(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.config_changes);
}

void virtio_pci_needs_reset(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.needs_reset);
}

void virtio_pci_interrupt_all(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.interrupts);
}

static int connect_next(void *ctx, bool again, struct vhost_user_link *link, struct error *err)
{
    struct fixture *f = ctx;
    unsigned n = f->n.connects; /* written by this thread alone */
    if (n >= CONNECTIONS || again != (n > 0))
        return error_set(err, -ECONNREFUSED, "no more back-ends");
    link->socket_fd = scripted_start(&f->connections[n]);
    link->pidfd = take_fd(&f->pidfd);
    f->connected_ms[n] = clock_ms();
    count(&f->n.connects);
    return 0;
}

static void kill_current(void *ctx)
{
    struct fixture *f = ctx;
    unsigned n = f->n.connects; /* written by this thread alone */
    if (n)
        scripted_kill(&f->connections[n - 1]);
    if (f->device)
        wait_ms(f, PATIENCE_MS);
    count(&f->n.kills);
}

static const struct vhost_user_device_ops ops = {connect_next, kill_current};

int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    pthread_condattr_t attributes;
    *state = the = f;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, &attributes);
    f->pidfd = -1;
    f->memory.fd = memfd_create("ram", MFD_CLOEXEC);
    f->memory.size = RAM_BYTES;
    f->memory.n_regions = 1;
    f->memory.regions[0] = (struct memory_region){.len = RAM_BYTES};
    if (ftruncate(f->memory.fd, RAM_BYTES) < 0)
        return -1;
    f->memory.base = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory.fd, 0);
    for (unsigned i = 0; i < QUEUES_MAX; i++)
        f->transport.queues[i] = (struct virtio_pci_queue){
            .enabled = true,
            .size = 16,
            .desc = 0x1000 + 0x8000 * i,
            .driver = 0x2000 + 0x8000 * i,
            .used = USED_AT + 0x8000 * i,
            .kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
            .call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        };
    f->transport.driver_features = VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM;
    f->params = (struct vhost_user_device_params){
        .name = "disk0",
        .virtio_id = 2,
        .n_queues = QUEUES,
        .queue_size = 16,
        .config_len = SCRIPTED_CONFIG_BYTES,
        .own_backend = true,
        .timeout_ms = PATIENCE_MS,
        .memory = &f->memory,
        .ops = &ops,
        .ctx = f,
    };
    return 0;
}

void forget_device(struct fixture *f)
{
    vhost_user_device_free(f->device);
    f->device = NULL;
    for (unsigned i = 0; i < f->n.connects; i++)
        scripted_stop(&f->connections[i]);
    memset(f->connections, 0, sizeof(f->connections));
    f->n = (struct counters){0};
}

int teardown(void **state)
{
    struct fixture *f = *state;
    forget_device(f);
    for (unsigned i = 0; i < QUEUES_MAX; i++) {
        close(f->transport.queues[i].kick_fd);
        close(f->transport.queues[i].call_fd);
    }
    munmap(f->memory.base, RAM_BYTES);
    close(f->memory.fd);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

void create(struct fixture *f)
{
    struct error err = ERROR_INIT;
    f->device = vhost_user_device_new(&f->params, &err);
    if (!f->device)
        fail_msg("%s", err.message);
}

void activate(struct fixture *f)
{
    f->transport.params.ops->activate(f->transport.params.device);
}

void reset(struct fixture *f)
{
    f->transport.params.ops->reset(f->transport.params.device);
}

void reset_and_wait(struct fixture *f)
{
    reset(f);
    assert_true(reaches(&f->n.resets, 1, PATIENCE_MS));
}

struct fixture *create_active(struct fixture *f)
{
    create(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE,
                              f->params.net ? 2 * f->params.net->pairs : QUEUES));
    return f;
}

struct fixture *create_active_that_never_drains(struct fixture *f)
{
    f->connections[0].fault = FAULT_SILENT;
    f->connections[0].fault_at = VHOST_USER_GET_VRING_BASE;
    create_active(f);
    wait_ms(f, IMPATIENCE_MS);
    return f;
}

void used_index(struct fixture *f, unsigned queue, uint16_t index)
{
    store_le16(f->memory.base + f->transport.queues[queue].used + 2, index);
}

bool kicked(const struct scripted_backend *b, unsigned queue)
{
    struct pollfd of = {.fd = b->queues[queue].kick_fd, .events = POLLIN};
    return poll(&of, 1, PATIENCE_MS) == 1;
}
