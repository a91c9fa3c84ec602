#include "virtio_driver.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <errno.h>

#define WINDOW64 BIT64(40)
#define WINDOW64_LEN BIT64(32)

static void on_activate(void *device)
{
    ((struct virtio_driver *)device)->activated++;
}

static void on_reset(void *device)
{
    ((struct virtio_driver *)device)->reset++;
}

static void on_config_read(void *device, unsigned offset, void *data, unsigned len)
{
    memcpy(data, ((struct virtio_driver *)device)->config + offset, len);
}

static void on_config_write(void *device, unsigned offset, const void *data, unsigned len)
{
    memcpy(((struct virtio_driver *)device)->config + offset, data, len);
}

int driver_init(struct virtio_driver *d, int vm_fd, struct kvm_routes *routes)
{
    static const struct virtio_pci_ops ops = {
        .activate = on_activate,
        .reset = on_reset,
        .config_read = on_config_read,
        .config_write = on_config_write,
    };
    *d = (struct virtio_driver){.ports = bus_new("port"), .mmio = bus_new("MMIO")};
    if (!d->ports || !d->mmio)
        return -ENOMEM;
    d->host = pci_host_new(d->ports, d->mmio, WINDOW64, WINDOW64_LEN, NULL);
    struct virtio_pci_params params = {
        .name = "disk0",
        .pci = d->host,
        .vm_fd = vm_fd,
        .routes = routes,
        .virtio_id = 2,
        .class_code = 0x018000,
        .n_queues = DRIVER_QUEUES,
        .queue_size = DRIVER_QUEUE_SIZE,
        .features = DRIVER_FEATURES | BIT64(38) | BIT64(40),
        .config_len = DRIVER_CONFIG_BYTES,
        .ops = &ops,
        .device = d,
    };
    for (unsigned i = 0; i < DRIVER_CONFIG_BYTES; i++)
        d->config[i] = (uint8_t)(0x10 + i);
    d->transport = d->host ? virtio_pci_new(&params, NULL) : NULL;
    if (!d->transport)
        return -EINVAL;
    driver_find_places(d);
    return 0;
}

void driver_destroy(struct virtio_driver *d)
{
    virtio_pci_free(d->transport);
    pci_host_free(d->host);
    bus_free(d->ports);
    bus_free(d->mmio);
}

static uint64_t ecam(unsigned offset)
{
    return LAYOUT_ECAM + (DRIVER_SLOT << 15) + offset;
}

uint64_t driver_pci_read(struct virtio_driver *d, unsigned offset, unsigned len)
{
    uint8_t value[8] = {0};
    bus_read(d->mmio, ecam(offset), value, len);
    return load_le64(value);
}

void driver_pci_write(struct virtio_driver *d, unsigned offset, uint64_t value, unsigned len)
{
    uint8_t bytes[8];
    store_le64(bytes, value);
    bus_write(d->mmio, ecam(offset), bytes, len);
}

uint64_t driver_bar(struct virtio_driver *d)
{
    return driver_pci_read(d, 0x10, 4) & ~0xfull;
}

void driver_find_places(struct virtio_driver *d)
{
    unsigned left = 48; /* a list that does not end is no list */
    for (unsigned at = (unsigned)driver_pci_read(d, 0x34, 1); at && left; left--) {
        uint32_t offset = (uint32_t)driver_pci_read(d, at + 8, 4);
        unsigned id = (unsigned)driver_pci_read(d, at, 1);
        unsigned type = (unsigned)driver_pci_read(d, at + 3, 1);
        if (id == 0x11) {
            d->at.msix = at;
            d->at.table = (uint32_t)driver_pci_read(d, at + 4, 4) & ~7u;
            d->at.pba = offset & ~7u;
        } else if (id == 0x09 && type == 1) {
            d->at.common = offset;
        } else if (id == 0x09 && type == 2) {
            d->at.notify = offset;
            d->at.notify_step = (uint32_t)driver_pci_read(d, at + 16, 4);
        } else if (id == 0x09 && type == 3) {
            d->at.isr = offset;
        } else if (id == 0x09 && type == 4) {
            d->at.device = offset;
        } else if (id == 0x09 && type == 5) {
            d->at.window = at;
        }
        at = (unsigned)driver_pci_read(d, at + 1, 1);
    }
}

uint64_t driver_read(struct virtio_driver *d, uint64_t offset, unsigned len)
{
    uint8_t value[8] = {0};
    bus_read(d->mmio, driver_bar(d) + offset, value, len);
    return load_le64(value);
}

void driver_write(struct virtio_driver *d, uint64_t offset, uint64_t value, unsigned len)
{
    uint8_t bytes[8];
    store_le64(bytes, value);
    bus_write(d->mmio, driver_bar(d) + offset, bytes, len);
}

bool driver_accept(struct virtio_driver *d, uint64_t features)
{
    driver_write(d, d->at.common + COMMON_STATUS, 3, 1);
    for (unsigned half = 0; half < 2; half++) {
        driver_write(d, d->at.common + COMMON_DRIVER_FEATURE_SELECT, half, 4);
        driver_write(d, d->at.common + COMMON_DRIVER_FEATURE, features >> (32 * half), 4);
    }
    driver_write(d, d->at.common + COMMON_STATUS, 0x0b, 1);
    return (driver_read(d, d->at.common + COMMON_STATUS, 1) & 8) != 0;
}

void driver_start(struct virtio_driver *d)
{
    driver_accept(d, DRIVER_FEATURES | VIRTIO_F_VERSION_1);
    driver_write(d, d->at.common + COMMON_CONFIG_VECTOR, 0, 2);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        driver_write(d, d->at.common + COMMON_QUEUE_SELECT, i, 2);
        driver_write(d, d->at.common + COMMON_QUEUE_VECTOR, i + 1, 2);
        driver_write(d, d->at.common + COMMON_QUEUE_DESC, 0x10000 * (i + 1), 8);
        driver_write(d, d->at.common + COMMON_QUEUE_ENABLE, 1, 2);
    }
    driver_write(d, d->at.common + COMMON_STATUS, 0x0f, 1);
}

void driver_message(struct virtio_driver *d, unsigned vector, uint32_t data, bool masked)
{
    uint32_t entry = d->at.table + 16 * vector;
    driver_write(d, entry, 0xfee00000, 8);
    driver_write(d, entry + 8, data, 4);
    driver_write(d, entry + 12, masked, 4);
}
