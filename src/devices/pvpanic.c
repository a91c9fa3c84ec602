#include "devices/pvpanic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BAR_BYTES 0x1000
#define KNOWN_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
    void (*event)(void *ctx, uint8_t bits);
    void *ctx;
};

static void pvpanic_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    memset(data, 0, len);
    if (offset == 0)
        *(uint8_t *)data = KNOWN_EVENTS;
}

static void pvpanic_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)len;
    struct pvpanic *pvpanic = device;
    uint8_t bits = *(const uint8_t *)data & KNOWN_EVENTS;
    if (offset == 0 && bits)
        pvpanic->event(pvpanic->ctx, bits);
}

static const struct bus_ops pvpanic_ops = {pvpanic_read, pvpanic_write};

struct pvpanic *pvpanic_new(struct pci_host *host, void (*event)(void *ctx, uint8_t bits),
                            void *ctx, struct error *err)
{
    struct pvpanic *pvpanic = calloc(1, sizeof(*pvpanic));
    if (!pvpanic) {
        error_set(err, -ENOMEM, "out of memory for pvpanic");
        return NULL;
    }
    *pvpanic = (struct pvpanic){.event = event, .ctx = ctx};
    struct pci_device_params params = {
        .name = "pvpanic",
        .vendor_id = 0x1b36,
        .device_id = 0x0011,
        .subsystem_vendor_id = 0x1af4,
        .subsystem_id = 0x1100,
        .class_code = 0x088000,
        .revision = 1,
        .device = pvpanic,
    };
    struct pci_device *device = pci_device_add(host, &params, err);
    if (!device || pci_device_add_bar(device, 0, BAR_BYTES, false, &pvpanic_ops, err) < 0) {
        free(pvpanic);
        return NULL;
    }
    pci_device_start(device);
    return pvpanic;
}

void pvpanic_free(struct pvpanic *pvpanic)
{
    free(pvpanic);
}
