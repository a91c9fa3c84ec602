/*
 * The transport on the bus: one BAR with all structures, the capabilities that say where they are (virtio 1.2, 4.1.4),
 * doorbells, and what a device tells the driver.
 */
#include "virtio/pci.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "virtio/pci_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define VENDOR_ID 0x1af4
#define DEVICE_ID_FIRST 0x1040 /* plus the virtio device id */

#define CAPABILITY_VENDOR 0x09
#define CAPABILITY_MSIX 0x11

/* 4.1.4: cfg_type */
#define TYPE_COMMON 1
#define TYPE_NOTIFY 2
#define TYPE_ISR 3
#define TYPE_DEVICE 4
#define TYPE_WINDOW 5 /* VIRTIO_PCI_CAP_PCI_CFG */

/* BAR 0. The table and the pending bits have pages of their own, as 6.8.2 of PCI asks. */
#define BAR_BYTES 0x8000
#define AT_COMMON 0x0000
#define AT_ISR 0x1000
#define AT_DEVICE 0x2000
#define AT_NOTIFY 0x3000
#define AT_TABLE 0x4000
#define AT_PBA 0x6000
#define PART_BYTES 0x1000
#define NOTIFY_STEP 4

/* 6: what the transport answers for, and has not: SR-IOV, data with notifications, reset of one queue, admin queue. */
#define FEATURES_OF_TRANSPORT (BIT64(37) | BIT64(38) | BIT64(39) | BIT64(40) | BIT64(41))

#define VIRTQUEUE_SIZE_MAX 32768 /* 2.7 */

_Static_assert(VIRTIO_PCI_QUEUES_MAX *NOTIFY_STEP <= PART_BYTES, "doorbells fit");
_Static_assert((VIRTIO_PCI_QUEUES_MAX + 1) * MSIX_ENTRY_BYTES <= AT_PBA - AT_TABLE, "table fits");

/* struct virtio_pci_cap behind its first two bytes, with what some types have behind it. */
struct __attribute__((packed)) capability {
    uint8_t len;
    uint8_t type;
    uint8_t bar;
    uint8_t id;
    uint8_t padding[2];
    uint32_t offset;
    uint32_t length;
    uint32_t extra; /* doorbells' step, or the window's data */
};
_Static_assert(sizeof(struct capability) == 18, "4.1.4");

/* Of the window's capability, from its first byte. */
#define WINDOW_BAR 4
#define WINDOW_OFFSET 8
#define WINDOW_LENGTH 12
#define WINDOW_DATA 16
#define WINDOW_BYTES 20

static void bar_read(struct virtio_pci *t, uint64_t offset, void *data, unsigned len)
{
    uint64_t part = align_down(offset, PART_BYTES);
    memset(data, 0, len);
    if (part == AT_COMMON) {
        virtio_pci_common_read(t, offset, data, len);
    } else if (offset == AT_ISR) {
        *(uint8_t *)data = t->isr;
        t->isr = 0;
    } else if (part == AT_DEVICE) {
        uint64_t at = offset - AT_DEVICE;
        if (range_within(at, len, t->params.config_len))
            t->params.ops->config_read(t->params.device, (unsigned)at, data, len);
    } else if (part == AT_TABLE || part == AT_TABLE + PART_BYTES) {
        msix_table_read(t->msix, offset - AT_TABLE, data, len);
    } else if (part == AT_PBA) {
        msix_pba_read(t->msix, offset - AT_PBA, data, len);
    }
}

static void bar_write(struct virtio_pci *t, uint64_t offset, const void *data, unsigned len)
{
    uint64_t part = align_down(offset, PART_BYTES);
    if (part == AT_COMMON) {
        virtio_pci_common_write(t, offset, data, len);
    } else if (part == AT_DEVICE) {
        uint64_t at = offset - AT_DEVICE;
        if (range_within(at, len, t->params.config_len))
            t->params.ops->config_write(t->params.device, (unsigned)at, data, len);
    } else if (part == AT_NOTIFY) {
        /* KVM takes doorbells; here are those through the window, or where KVM could not. */
        uint64_t queue = (offset - AT_NOTIFY) / NOTIFY_STEP;
        if (queue < t->params.n_queues)
            fd_signal(t->queues[queue].kick_fd);
    } else if (part == AT_TABLE || part == AT_TABLE + PART_BYTES) {
        msix_table_write(t->msix, offset - AT_TABLE, data, len);
    }
}

static void on_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct virtio_pci *t = device;
    pthread_mutex_lock(&t->lock);
    bar_read(t, offset, data, len);
    pthread_mutex_unlock(&t->lock);
}

static void on_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_pci *t = device;
    pthread_mutex_lock(&t->lock);
    bar_write(t, offset, data, len);
    pthread_mutex_unlock(&t->lock);
}

static const struct bus_ops bar_ops = {on_read, on_write};

static int doorbell(struct virtio_pci *t, unsigned queue, uint64_t addr, bool assign,
                    struct error *err)
{
    struct kvm_ioeventfd_at at = {.addr = addr, .len = t->any_width ? 0 : 2};
    return kvm_ioeventfd(t->params.vm_fd, t->queues[queue].kick_fd, &at, assign, err);
}

/** move_doorbells() - KVM signals the queues' eventfds for writes to the BAR at @base, 0 for none, and nowhere else. */
static void move_doorbells(struct virtio_pci *t, uint64_t base)
{
    for (unsigned i = 0; i < t->params.n_queues; i++) {
        struct error err = ERROR_INIT;
        uint64_t addr = base ? base + AT_NOTIFY + (uint64_t)NOTIFY_STEP * i : 0;
        if (t->doorbells[i] && doorbell(t, i, t->doorbells[i], false, &err) < 0)
            log_warn("%s: doorbell of queue %u: %s", t->params.name, i, err.message);
        t->doorbells[i] = 0;
        /* Without it doorbells are exits that bar_write() answers: slower, and as right. */
        if (addr && doorbell(t, i, addr, true, &err) < 0)
            log_warn("%s: doorbell of queue %u: %s", t->params.name, i, err.message);
        else
            t->doorbells[i] = addr;
    }
}

static void bar_moved(void *device, unsigned bar, uint64_t base)
{
    struct virtio_pci *t = device;
    (void)bar;
    pthread_mutex_lock(&t->lock);
    move_doorbells(t, base);
    pthread_mutex_unlock(&t->lock);
}

/** window() - what the capability VIRTIO_PCI_CAP_PCI_CFG points at: false if that is nothing that can be accessed. */
static bool window(const uint8_t *capability, uint32_t *offset, uint32_t *len)
{
    *offset = load_le32(capability + WINDOW_OFFSET);
    *len = load_le32(capability + WINDOW_LENGTH);
    return capability[WINDOW_BAR] == 0 && (*len == 1 || *len == 2 || *len == 4) &&
           *offset % *len == 0 && range_within(*offset, *len, BAR_BYTES);
}

/** touches_window() - whether an access of configuration space reaches the window's data (4.1.4.9). */
static bool touches_window(const struct virtio_pci *t, unsigned offset, unsigned len)
{
    return t->window_offset &&
           ranges_overlap(offset, len, t->window_offset + WINDOW_DATA, sizeof(uint32_t));
}

static void config_will_be_read(void *device, unsigned offset, unsigned len)
{
    struct virtio_pci *t = device;
    uint8_t *capability = pci_device_config(t->pci) + t->window_offset;
    uint32_t at, width;
    if (!touches_window(t, offset, len) || !window(capability, &at, &width))
        return;
    pthread_mutex_lock(&t->lock);
    bar_read(t, at, capability + WINDOW_DATA, width);
    pthread_mutex_unlock(&t->lock);
}

static void config_written(void *device, unsigned offset, unsigned len)
{
    struct virtio_pci *t = device;
    const uint8_t *config = pci_device_config(t->pci);
    uint32_t at, width;
    pthread_mutex_lock(&t->lock);
    if (t->msix_offset && ranges_overlap(offset, len, t->msix_offset + 2, 2))
        msix_set_control(t->msix, load_le16(config + t->msix_offset + 2));
    if (touches_window(t, offset, len) && window(config + t->window_offset, &at, &width))
        bar_write(t, at, config + t->window_offset + WINDOW_DATA, width);
    pthread_mutex_unlock(&t->lock);
}

static const struct pci_device_ops pci_ops = {
    .bar_moved = bar_moved,
    .config_written = config_written,
    .config_will_be_read = config_will_be_read,
};

/** add_structure() - the capability for one of the structures in the BAR. Returns its offset or -ENOSPC. */
static int add_structure(struct virtio_pci *t, uint8_t type, uint32_t offset, uint32_t length)
{
    struct capability capability = {
        .len = 2 + (uint8_t)(sizeof(capability) - sizeof(capability.extra)),
        .type = type,
        .offset = offset,
        .length = length,
    };
    uint8_t writable[sizeof(capability)] = {0};
    size_t size = sizeof(capability) - sizeof(capability.extra);
    if (type == TYPE_NOTIFY || type == TYPE_WINDOW) {
        size = sizeof(capability);
        capability.len = 2 + sizeof(capability);
    }
    if (type == TYPE_NOTIFY)
        capability.extra = NOTIFY_STEP;
    if (type == TYPE_WINDOW) {
        writable[WINDOW_BAR - 2] = 0xff;
        memset(writable + WINDOW_OFFSET - 2, 0xff, WINDOW_BYTES - WINDOW_OFFSET);
    }
    return pci_device_add_capability(t->pci, CAPABILITY_VENDOR, &capability, size, writable);
}

static int add_msix(struct virtio_pci *t)
{
    struct __attribute__((packed)) {
        uint16_t control;
        uint32_t table, pba; /* with the BAR's number, 0, in the low bits */
    } body = {(uint16_t)t->params.n_queues, AT_TABLE, AT_PBA};
    uint8_t writable[sizeof(body)] = {0};
    store_le16(writable, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
    return pci_device_add_capability(t->pci, CAPABILITY_MSIX, &body, sizeof(body), writable);
}

static int add_capabilities(struct virtio_pci *t)
{
    int ret = add_structure(t, TYPE_COMMON, AT_COMMON, COMMON_BYTES);
    if (ret >= 0)
        ret = add_structure(t, TYPE_ISR, AT_ISR, 1);
    if (ret >= 0 && t->params.config_len)
        ret = add_structure(t, TYPE_DEVICE, AT_DEVICE, t->params.config_len);
    if (ret >= 0)
        ret = add_structure(t, TYPE_NOTIFY, AT_NOTIFY, NOTIFY_STEP * t->params.n_queues);
    if (ret >= 0)
        ret = add_structure(t, TYPE_WINDOW, 0, 0);
    if (ret < 0)
        return ret;
    t->window_offset = (unsigned)ret;
    ret = add_msix(t);
    if (ret < 0)
        return ret;
    t->msix_offset = (unsigned)ret;
    return 0;
}

/** create_event() - Returns 0 or -errno. */
static int create_event(struct virtio_pci *t, int *fd, struct error *err)
{
    *fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (*fd >= 0)
        return 0;
    return error_set_errno(err, -errno, "could not make the eventfds of %s", t->params.name);
}

static int create_queues(struct virtio_pci *t, struct error *err)
{
    unsigned n = t->params.n_queues;
    t->queues = calloc(n, sizeof(*t->queues));
    t->doorbells = calloc(n, sizeof(*t->doorbells));
    t->source_fds = calloc(n + 1, sizeof(*t->source_fds));
    if (!t->queues || !t->doorbells || !t->source_fds)
        return error_set(err, -ENOMEM, "out of memory for queues of %s", t->params.name);
    for (unsigned i = 0; i <= n; i++)
        t->source_fds[i] = -1;
    for (unsigned i = 0; i < n; i++)
        t->queues[i].kick_fd = -1;
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i <= n; i++)
        ret = create_event(t, &t->source_fds[i], err);
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        t->queues[i].call_fd = t->source_fds[i];
        ret = create_event(t, &t->queues[i].kick_fd, err);
    }
    return ret;
}

static int create_msix(struct virtio_pci *t, struct error *err)
{
    struct msix_params params = {
        .name = t->params.name,
        .vm_fd = t->params.vm_fd,
        .routes = t->params.routes,
        .n_vectors = t->params.n_queues + 1,
        .n_sources = t->params.n_queues + 1,
        .source_fds = t->source_fds,
    };
    t->msix = msix_new(&params, err);
    return t->msix ? 0 : -ENOMEM;
}

static int put_on_bus(struct virtio_pci *t, struct error *err)
{
    struct pci_device_params device = {
        .name = t->params.name,
        .vendor_id = VENDOR_ID,
        .device_id = (uint16_t)(DEVICE_ID_FIRST + t->params.virtio_id),
        .subsystem_vendor_id = VENDOR_ID,
        .subsystem_id = (uint16_t)(DEVICE_ID_FIRST + t->params.virtio_id),
        .class_code = t->params.class_code,
        .revision = 1,
        .ops = &pci_ops,
        .device = t,
    };
    t->pci = pci_device_add(t->params.pci, &device, err);
    if (!t->pci)
        return -ENOSPC;
    int ret = pci_device_add_bar(t->pci, 0, BAR_BYTES, t->params.bars_64bit, &bar_ops, err);
    if (ret == 0 && add_capabilities(t) < 0)
        ret = error_set(err, -ENOSPC, "no room for the capabilities of %s", t->params.name);
    return ret;
}

struct virtio_pci *virtio_pci_new(const struct virtio_pci_params *params, struct error *err)
{
    if (params->n_queues == 0 || params->n_queues > VIRTIO_PCI_QUEUES_MAX ||
        params->queue_size == 0 || (params->queue_size & (params->queue_size - 1)) ||
        params->queue_size > VIRTQUEUE_SIZE_MAX || params->config_len > PART_BYTES) {
        error_set(err, -EINVAL, "%s cannot have %u queues of %u entries", params->name,
                  params->n_queues, params->queue_size);
        return NULL;
    }
    struct virtio_pci *t = calloc(1, sizeof(*t));
    if (!t) {
        error_set(err, -ENOMEM, "out of memory for %s", params->name);
        return NULL;
    }
    t->params = *params;
    t->features = (params->features & ~FEATURES_OF_TRANSPORT) | VIRTIO_F_VERSION_1;
    t->any_width = kvm_ioeventfd_any_width(params->vm_fd);
    pthread_mutex_init(&t->lock, NULL);
    if (create_queues(t, err) < 0 || create_msix(t, err) < 0) {
        virtio_pci_free(t);
        return NULL;
    }
    virtio_pci_clear(t);
    if (put_on_bus(t, err) < 0) {
        virtio_pci_free(t);
        return NULL;
    }
    pci_device_start(t->pci);
    return t;
}

void virtio_pci_free(struct virtio_pci *t)
{
    if (!t)
        return;
    if (t->pci)
        pci_device_remove(t->pci);
    msix_free(t->msix);
    for (unsigned i = 0; t->queues && i < t->params.n_queues; i++)
        cleanup_close(&t->queues[i].kick_fd);
    for (unsigned i = 0; t->source_fds && i <= t->params.n_queues; i++)
        cleanup_close(&t->source_fds[i]);
    free(t->queues);
    free(t->doorbells);
    free(t->source_fds);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

const struct virtio_pci_queue *virtio_pci_queue(const struct virtio_pci *t, unsigned index)
{
    return &t->queues[index];
}

uint64_t virtio_pci_features(const struct virtio_pci *t)
{
    return t->driver_features;
}

void virtio_pci_reset_done(struct virtio_pci *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->resetting)
        virtio_pci_clear(t);
    pthread_mutex_unlock(&t->lock);
}

/** config_interrupt() - as in 4.1.5.3, to a driver that has got as far as to expect one. */
static void config_interrupt(struct virtio_pci *t)
{
    if (!t->active || t->resetting)
        return;
    t->isr |= ISR_CONFIG;
    eventfd_write(t->source_fds[config_source(t)], 1);
}

void virtio_pci_config_changed(struct virtio_pci *t)
{
    pthread_mutex_lock(&t->lock);
    t->generation++;
    config_interrupt(t);
    pthread_mutex_unlock(&t->lock);
}

void virtio_pci_needs_reset(struct virtio_pci *t)
{
    pthread_mutex_lock(&t->lock);
    /* A driver that resets, or has not begun, would wait in vain for a status of 0. */
    if (t->active && !t->resetting)
        t->status |= STATUS_NEEDS_RESET;
    config_interrupt(t);
    pthread_mutex_unlock(&t->lock);
}

void virtio_pci_interrupt_all(struct virtio_pci *t)
{
    bool told[VIRTIO_PCI_QUEUES_MAX + 1] = {false};
    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; i < t->params.n_queues; i++) {
        uint16_t vector = msix_vector(t->msix, i);
        if (!t->queues[i].enabled || vector == MSIX_NO_VECTOR || told[vector])
            continue;
        told[vector] = true;
        fd_signal(t->queues[i].call_fd);
    }
    pthread_mutex_unlock(&t->lock);
}
