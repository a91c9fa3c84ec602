/* The common configuration structure: features, status and queues (virtio 1.2, 4.1.4.3). */
#include "virtio/pci_internal.h"

#include "base/bytes.h"
#include "base/fd.h"

#define REG_FEATURE_SELECT 0x00
#define REG_FEATURE 0x04
#define REG_DRIVER_FEATURE_SELECT 0x08
#define REG_DRIVER_FEATURE 0x0c
#define REG_CONFIG_VECTOR 0x10
#define REG_NUM_QUEUES 0x12
#define REG_STATUS 0x14
#define REG_GENERATION 0x15
#define REG_QUEUE_SELECT 0x16
#define REG_QUEUE_SIZE 0x18
#define REG_QUEUE_VECTOR 0x1a
#define REG_QUEUE_ENABLE 0x1c
#define REG_QUEUE_NOTIFY 0x1e
#define REG_QUEUE_DESC 0x20
#define REG_QUEUE_DRIVER 0x28
#define REG_QUEUE_USED 0x30

/** silence() - no interrupt from here on. */
static void silence(struct virtio_pci *t)
{
    for (unsigned i = 0; i <= t->params.n_queues; i++)
        msix_bind(t->msix, i, MSIX_NO_VECTOR);
}

void virtio_pci_clear(struct virtio_pci *t)
{
    silence(t);
    for (unsigned i = 0; i < t->params.n_queues; i++) {
        struct virtio_pci_queue *queue = &t->queues[i];
        *queue = (struct virtio_pci_queue){
            .size = t->params.queue_size,
            .kick_fd = queue->kick_fd,
            .call_fd = queue->call_fd,
        };
        /* A doorbell of an earlier driver is not for the next one. Interrupts are forgotten as they get a vector. */
        fd_unsignal(queue->kick_fd);
    }
    t->driver_features = 0;
    t->feature_select = t->driver_feature_select = 0;
    t->queue_select = 0;
    t->status = 0;
    t->isr = 0;
    t->active = false;
    t->resetting = false;
}

void virtio_pci_common_read(const struct virtio_pci *t, uint64_t offset, void *data, unsigned len)
{
    uint8_t regs[COMMON_BYTES + 8] = {0};
    const struct virtio_pci_queue *queue =
        t->queue_select < t->params.n_queues ? &t->queues[t->queue_select] : NULL;
    unsigned feature_shift = 32 * t->feature_select, driver_shift = 32 * t->driver_feature_select;
    store_le32(regs + REG_FEATURE_SELECT, t->feature_select);
    if (t->feature_select < 2)
        store_le32(regs + REG_FEATURE, (uint32_t)(t->features >> feature_shift));
    store_le32(regs + REG_DRIVER_FEATURE_SELECT, t->driver_feature_select);
    if (t->driver_feature_select < 2)
        store_le32(regs + REG_DRIVER_FEATURE, (uint32_t)(t->driver_features >> driver_shift));
    store_le16(regs + REG_CONFIG_VECTOR, msix_vector(t->msix, config_source(t)));
    store_le16(regs + REG_NUM_QUEUES, (uint16_t)t->params.n_queues);
    regs[REG_STATUS] = t->status;
    regs[REG_GENERATION] = t->generation;
    store_le16(regs + REG_QUEUE_SELECT, t->queue_select);
    if (queue) {
        store_le16(regs + REG_QUEUE_SIZE, queue->size);
        store_le16(regs + REG_QUEUE_VECTOR, msix_vector(t->msix, t->queue_select));
        store_le16(regs + REG_QUEUE_ENABLE, queue->enabled);
        store_le16(regs + REG_QUEUE_NOTIFY, t->queue_select);
        store_le64(regs + REG_QUEUE_DESC, queue->desc);
        store_le64(regs + REG_QUEUE_DRIVER, queue->driver);
        store_le64(regs + REG_QUEUE_USED, queue->used);
    } else {
        store_le16(regs + REG_QUEUE_VECTOR, MSIX_NO_VECTOR);
    }
    memset(data, 0, len);
    if (offset < COMMON_BYTES)
        memcpy(data, regs + offset, MIN(len, (unsigned)(sizeof(regs) - offset)));
}

/** write_status() - bits are only ever added, but for 0, which resets (2.1.1, 2.4). */
static void write_status(struct virtio_pci *t, uint8_t value)
{
    if (value == 0) {
        if (!t->active) {
            virtio_pci_clear(t);
            return;
        }
        /* No more interrupts from now on; the rest is cleared when the back-end has drained. */
        t->resetting = true;
        silence(t);
        t->params.ops->reset(t->params.device);
        return;
    }
    uint8_t added = (uint8_t)(value & ~t->status &
                              (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK |
                               STATUS_FEATURES_OK | STATUS_FAILED));
    if ((added & STATUS_FEATURES_OK) &&
        ((t->driver_features & ~t->features) || !(t->driver_features & VIRTIO_F_VERSION_1)))
        added &= (uint8_t)~STATUS_FEATURES_OK;
    if ((added & STATUS_DRIVER_OK) && !((t->status | added) & STATUS_FEATURES_OK))
        added &= (uint8_t)~STATUS_DRIVER_OK;
    t->status |= added;
    if (added & STATUS_DRIVER_OK) {
        t->active = true;
        t->params.ops->activate(t->params.device);
    }
}

static void write_driver_feature(struct virtio_pci *t, uint32_t value)
{
    if ((t->status & STATUS_FEATURES_OK) || t->driver_feature_select > 1)
        return;
    unsigned shift = 32 * t->driver_feature_select;
    t->driver_features &= ~(0xffffffffull << shift);
    t->driver_features |= (uint64_t)value << shift;
}

static void write_queue_size(struct virtio_pci_queue *queue, const struct virtio_pci *t,
                             uint16_t size)
{
    if (size && size <= t->params.queue_size && (size & (size - 1)) == 0)
        queue->size = size;
}

/** queue_address() - the field at @offset, NULL if there is none; *@high: its upper half. */
static uint64_t *queue_address(struct virtio_pci_queue *queue, uint64_t offset, bool *high)
{
    *high = (offset & 4) != 0;
    switch (offset & ~4ull) {
    case REG_QUEUE_DESC:
        return &queue->desc;
    case REG_QUEUE_DRIVER:
        return &queue->driver;
    case REG_QUEUE_USED:
        return &queue->used;
    default:
        return NULL;
    }
}

static void write_queue_address(struct virtio_pci_queue *queue, uint64_t offset, const void *data,
                                unsigned len)
{
    bool high;
    uint64_t *address = queue_address(queue, offset, &high);
    if (!address)
        return;
    if (len == 8 && !high)
        *address = load_le64(data);
    else if (len == 4)
        *address = high ? (*address & 0xffffffffull) | (uint64_t)load_le32(data) << 32
                        : (*address & ~0xffffffffull) | load_le32(data);
}

/** write_queue() - a register of the selected queue; once enabled only its vector can be changed. */
static void write_queue(struct virtio_pci *t, uint64_t offset, const void *data, unsigned len)
{
    if (t->queue_select >= t->params.n_queues)
        return;
    struct virtio_pci_queue *queue = &t->queues[t->queue_select];
    if (offset == REG_QUEUE_VECTOR && len == 2) {
        msix_bind(t->msix, t->queue_select, load_le16(data));
    } else if (queue->enabled || t->active) {
        return;
    } else if (offset == REG_QUEUE_SIZE && len == 2) {
        write_queue_size(queue, t, load_le16(data));
    } else if (offset == REG_QUEUE_ENABLE && len == 2) {
        queue->enabled = load_le16(data) == 1;
    } else {
        write_queue_address(queue, offset, data, len);
    }
}

void virtio_pci_common_write(struct virtio_pci *t, uint64_t offset, const void *data, unsigned len)
{
    uint32_t value = len == 4 ? load_le32(data) : 0;
    /* Until the device has drained nothing new can be set up (2.4.1): status reads non-zero. */
    if (t->resetting)
        return;
    if (offset == REG_FEATURE_SELECT && len == 4) {
        t->feature_select = value;
    } else if (offset == REG_DRIVER_FEATURE_SELECT && len == 4) {
        t->driver_feature_select = value;
    } else if (offset == REG_DRIVER_FEATURE && len == 4) {
        write_driver_feature(t, value);
    } else if (offset == REG_CONFIG_VECTOR && len == 2) {
        msix_bind(t->msix, config_source(t), load_le16(data));
    } else if (offset == REG_STATUS && len == 1) {
        write_status(t, *(const uint8_t *)data);
    } else if (offset == REG_QUEUE_SELECT && len == 2) {
        t->queue_select = load_le16(data);
    } else {
        write_queue(t, offset, data, len);
    }
}
