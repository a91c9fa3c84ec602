/* PCI Local Bus 3.0, chapter 6 (configuration space), 3.2.2.3.2 (mechanism #1); PCI Express Base 5.0, 7.2.2 (ECAM). */
#include "devices/pci.h"

#include "base/bytes.h"
#include "base/log.h"
#include "x86/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define CONFIG_BYTES 256

#define REG_VENDOR 0x00
#define REG_DEVICE 0x02
#define REG_COMMAND 0x04
#define REG_STATUS 0x06
#define REG_REVISION 0x08
#define REG_CLASS 0x09
#define REG_CACHE_LINE 0x0c
#define REG_BAR 0x10
#define REG_SUBSYSTEM_VENDOR 0x2c
#define REG_SUBSYSTEM 0x2e
#define REG_CAPABILITIES 0x34
#define REG_INTERRUPT_LINE 0x3c
#define FIRST_CAPABILITY 0x40

#define COMMAND_MEMORY BIT(1)
#define COMMAND_MASTER BIT(2)
#define COMMAND_INTX_OFF BIT(10)
#define STATUS_CAPABILITIES BIT(4)

#define BAR_64BIT 0x4
#define BAR_PREFETCHABLE 0x8
#define BAR_FLAGS 0xfull

#define CONFIG_ENABLE BIT(31)
#define PORTS 8              /* 0xcf8 to 0xcff */
#define PORT_RESET_CONTROL 1 /* 0xcf9, where there is one */

struct pci_bar {
    uint64_t size; /* 0: there is none */
    bool is_64bit;
    const struct bus_ops *ops;
    uint64_t allocated; /* where it was put at first, 0 if firmware places it */
    uint64_t mapped;    /* where it answers, 0 for nowhere */
};

struct pci_device {
    struct pci_host *host;
    struct pci_device_params params;
    bool started;
    unsigned next_capability; /* offset of the next one */
    unsigned last_capability; /* offset of the last one, 0 if there is none */
    struct pci_bar bars[PCI_BARS_MAX];
    uint8_t config[CONFIG_BYTES];
    uint8_t writable[CONFIG_BYTES]; /* bits that the guest can change */
};

struct window {
    uint64_t base, len;
};

struct pci_host {
    struct bus *mmio;
    bool bare;     /* firmware places BARs */
    uint64_t ecam; /* where configuration space answers, 0 for nowhere */
    void (*reset_control)(void *ctx, uint8_t value);
    void *ctx;
    pthread_mutex_t lock; /* configuration space and BAR placement */
    uint32_t address;     /* as last written to 0xcf8 */
    struct window window32, window64;
    struct pci_device *bridge; /* one of the devices */
    struct pci_device *devices[PCI_DEVICES_MAX];
};

static uint64_t bar_register(const struct pci_device *device, unsigned bar)
{
    const uint8_t *reg = device->config + REG_BAR + 4 * bar;
    return device->bars[bar].is_64bit ? load_le64(reg) : load_le32(reg);
}

static bool in_window(const struct window *window, uint64_t base, uint64_t size)
{
    return base >= window->base && range_within(base - window->base, size, window->len);
}

/** wanted_base() - where BAR @bar should answer: 0 if it is off, or where no BAR may be. */
static uint64_t wanted_base(const struct pci_device *device, unsigned bar)
{
    if (!device->started || !(load_le16(device->config + REG_COMMAND) & COMMAND_MEMORY))
        return 0;
    uint64_t base = bar_register(device, bar) & ~BAR_FLAGS;
    uint64_t size = device->bars[bar].size;
    if (in_window(&device->host->window32, base, size) ||
        in_window(&device->host->window64, base, size))
        return base;
    return 0;
}

static void tell_moved(struct pci_device *device, unsigned bar, uint64_t base)
{
    device->bars[bar].mapped = base;
    if (device->params.ops && device->params.ops->bar_moved)
        device->params.ops->bar_moved(device->params.device, bar, base);
}

static void unmap_bar(struct pci_device *device, unsigned bar)
{
    bus_remove(device->host->mmio, device->bars[bar].mapped);
    tell_moved(device, bar, 0);
}

static void map_bar(struct pci_device *device, unsigned bar, uint64_t base)
{
    struct error err = ERROR_INIT;
    if (bus_add(device->host->mmio, base, device->bars[bar].size, device->params.name,
                device->bars[bar].ops, device->params.device, &err) < 0) {
        log_debug("BAR %u of %s answers nowhere: %s", bar, device->params.name, err.message);
        return;
    }
    tell_moved(device, bar, base);
}

/** for_each_bar() - every BAR of every device; the lock is held. */
static void for_each_bar(struct pci_host *host,
                         void (*action)(struct pci_device *device, unsigned bar))
{
    for (unsigned slot = 0; slot < PCI_DEVICES_MAX; slot++)
        for (unsigned bar = 0; host->devices[slot] && bar < PCI_BARS_MAX; bar++)
            if (host->devices[slot]->bars[bar].size)
                action(host->devices[slot], bar);
}

static void leave(struct pci_device *device, unsigned bar)
{
    uint64_t mapped = device->bars[bar].mapped;
    if (mapped && mapped != wanted_base(device, bar))
        unmap_bar(device, bar);
}

static void arrive(struct pci_device *device, unsigned bar)
{
    uint64_t base = wanted_base(device, bar);
    if (base && !device->bars[bar].mapped)
        map_bar(device, bar, base);
}

/** place_bars() - after a change; first all leave, so that one may take the place of another. The lock is held. */
static void place_bars(struct pci_host *host)
{
    for_each_bar(host, leave);
    for_each_bar(host, arrive);
}

uint8_t *pci_device_writable(struct pci_device *device)
{
    return device->writable;
}

struct pci_device *pci_host_bridge(struct pci_host *host)
{
    return host->bridge;
}

uint8_t *pci_device_config(struct pci_device *device)
{
    return device->config;
}

static void fill_header(struct pci_device *device, const struct pci_device_params *params)
{
    uint8_t *config = device->config;
    store_le16(config + REG_VENDOR, params->vendor_id);
    store_le16(config + REG_DEVICE, params->device_id);
    store_le16(config + REG_SUBSYSTEM_VENDOR, params->subsystem_vendor_id);
    store_le16(config + REG_SUBSYSTEM, params->subsystem_id);
    config[REG_REVISION] = params->revision;
    config[REG_CLASS] = (uint8_t)params->class_code;
    store_le16(config + REG_CLASS + 1, (uint16_t)(params->class_code >> 8));
    store_le16(device->writable + REG_COMMAND, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF);
    device->writable[REG_CACHE_LINE] = 0xff;
    device->writable[REG_INTERRUPT_LINE] = 0xff;
}

struct pci_device *pci_device_add(struct pci_host *host, const struct pci_device_params *params,
                                  struct error *err)
{
    struct pci_device *device = calloc(1, sizeof(*device));
    if (!device) {
        error_set(err, -ENOMEM, "out of memory for %s", params->name);
        return NULL;
    }
    device->host = host;
    device->params = *params;
    device->next_capability = FIRST_CAPABILITY;
    fill_header(device, params);
    pthread_mutex_lock(&host->lock);
    unsigned slot = params->slot;
    while (slot < PCI_DEVICES_MAX && host->devices[slot])
        slot++;
    if (slot < PCI_DEVICES_MAX)
        host->devices[slot] = device;
    pthread_mutex_unlock(&host->lock);
    if (slot < PCI_DEVICES_MAX)
        return device;
    free(device);
    error_set(err, -ENOSPC, "no room for %s on the PCI bus", params->name);
    return NULL;
}

/** end_of_taken() - where a BAR that was given a byte of [@base, @base + @size) ends; 0 if none was. */
static uint64_t end_of_taken(const struct pci_host *host, uint64_t base, uint64_t size)
{
    for (unsigned slot = 0; slot < PCI_DEVICES_MAX; slot++) {
        const struct pci_device *device = host->devices[slot];
        for (unsigned i = 0; device && i < PCI_BARS_MAX; i++) {
            const struct pci_bar *bar = &device->bars[i];
            if (bar->allocated && ranges_overlap(base, size, bar->allocated, bar->size))
                return bar->allocated + bar->size;
        }
    }
    return 0;
}

/**
 * allocate() - @size bytes, aligned to their size: the lowest that no BAR was given. The lock is held.
 *
 * Where the guest has moved BARs to does not count: scattered, they would keep devices out that there is room for. A new
 * BAR under one of them is silent until either moves.
 *
 * Return: the address, or 0 if the window is full.
 */
static uint64_t allocate(const struct pci_host *host, const struct window *window, uint64_t size)
{
    uint64_t base = align_up(window->base, size);
    while (in_window(window, base, size)) {
        uint64_t end = end_of_taken(host, base, size);
        if (!end)
            return base;
        base = align_up(end, size);
    }
    return 0;
}

/** register_taken() - whether BAR @bar is there, or its register is the upper half of the one before. */
static bool register_taken(const struct pci_device *device, unsigned bar)
{
    return device->bars[bar].size || (bar > 0 && device->bars[bar - 1].is_64bit);
}

int pci_device_add_bar(struct pci_device *device, unsigned bar, uint64_t size, bool is_64bit,
                       const struct bus_ops *ops, struct error *err)
{
    unsigned registers = is_64bit ? 2 : 1;
    if (bar >= PCI_BARS_MAX || bar + registers > PCI_BARS_MAX || size < 16 || (size & (size - 1)) ||
        register_taken(device, bar) || (is_64bit && register_taken(device, bar + 1)))
        return error_set(err, -EINVAL, "%s cannot have a BAR %u of 0x%" PRIx64 " bytes",
                         device->params.name, bar, size);
    struct pci_host *host = device->host;
    bool high = is_64bit && host->window64.len;
    uint64_t base = 0;
    pthread_mutex_lock(&host->lock);
    if (!host->bare)
        base = allocate(host, high ? &host->window64 : &host->window32, size);
    if (base || host->bare)
        device->bars[bar] =
            (struct pci_bar){.size = size, .is_64bit = is_64bit, .ops = ops, .allocated = base};
    pthread_mutex_unlock(&host->lock);
    if (!base && !host->bare)
        return error_set(err, -ENOSPC, "no room for 0x%" PRIx64 " bytes of %s in the PCI window",
                         size, device->params.name);
    uint8_t *reg = device->config + REG_BAR + 4 * bar;
    uint8_t *writable = device->writable + REG_BAR + 4 * bar;
    if (is_64bit) {
        store_le64(reg, base | BAR_64BIT | BAR_PREFETCHABLE);
        store_le64(writable, ~(size - 1) & ~BAR_FLAGS);
    } else {
        store_le32(reg, (uint32_t)base);
        store_le32(writable, (uint32_t)(~(size - 1) & ~BAR_FLAGS));
    }
    return 0;
}

int pci_device_add_capability(struct pci_device *device, uint8_t id, const void *body, size_t len,
                              const void *writable)
{
    unsigned offset = device->next_capability;
    if (len > CONFIG_BYTES || offset + 2 + len > CONFIG_BYTES)
        return -ENOSPC;
    device->config[offset] = id;
    memcpy(device->config + offset + 2, body, len);
    if (writable)
        memcpy(device->writable + offset + 2, writable, len);
    if (device->last_capability)
        device->config[device->last_capability + 1] = (uint8_t)offset;
    else
        device->config[REG_CAPABILITIES] = (uint8_t)offset;
    device->config[REG_STATUS] |= STATUS_CAPABILITIES;
    device->last_capability = offset;
    device->next_capability = (unsigned)align_up(offset + 2 + len, 4);
    return (int)offset;
}

void pci_device_start(struct pci_device *device)
{
    pthread_mutex_lock(&device->host->lock);
    device->started = true;
    uint16_t command = load_le16(device->config + REG_COMMAND);
    if (!device->host->bare)
        store_le16(device->config + REG_COMMAND, command | COMMAND_MEMORY);
    place_bars(device->host);
    pthread_mutex_unlock(&device->host->lock);
}

void pci_device_remove(struct pci_device *device)
{
    struct pci_host *host = device->host;
    pthread_mutex_lock(&host->lock);
    device->started = false;
    place_bars(host);
    for (unsigned slot = 0; slot < PCI_DEVICES_MAX; slot++)
        if (host->devices[slot] == device)
            host->devices[slot] = NULL;
    pthread_mutex_unlock(&host->lock);
    free(device);
}

/** find() - the device at @bus, @slot, @function, if the guest can see it; the lock is held. */
static struct pci_device *find(struct pci_host *host, unsigned bus, unsigned slot,
                               unsigned function)
{
    struct pci_device *device = bus == 0 && function == 0 ? host->devices[slot] : NULL;
    return device && device->started ? device : NULL;
}

/** config_read() - one access; it may reach into the extended space, which reads as zero. */
static void config_read(struct pci_device *device, unsigned offset, void *data, unsigned len)
{
    if (offset < CONFIG_BYTES && device->params.ops && device->params.ops->config_will_be_read)
        device->params.ops->config_will_be_read(device->params.device, offset, len);
    uint8_t *to = data;
    for (unsigned i = 0; i < len; i++)
        to[i] = offset + i < CONFIG_BYTES ? device->config[offset + i] : 0;
}

static void config_write(struct pci_device *device, unsigned offset, const void *data, unsigned len)
{
    const uint8_t *from = data;
    bool changed = false;
    for (unsigned i = 0; i < len && offset + i < CONFIG_BYTES; i++) {
        uint8_t *byte = &device->config[offset + i];
        uint8_t writable = device->writable[offset + i];
        uint8_t value = (uint8_t)((*byte & ~writable) | (from[i] & writable));
        changed |= value != *byte;
        *byte = value;
    }
    if (changed && offset < REG_BAR + 4 * PCI_BARS_MAX)
        place_bars(device->host);
    if (offset < CONFIG_BYTES && device->params.ops && device->params.ops->config_written)
        device->params.ops->config_written(device->params.device, offset, len);
}

/** selected() - the device that 0xcf8 selects; the lock is held. */
static struct pci_device *selected(struct pci_host *host)
{
    uint32_t address = host->address;
    if (!(address & CONFIG_ENABLE))
        return NULL;
    return find(host, (address >> 16) & 0xff, (address >> 11) & 0x1f, (address >> 8) & 7);
}

static void ports_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct pci_host *host = opaque;
    memset(data, 0xff, len);
    pthread_mutex_lock(&host->lock);
    if (offset == 0 && len == 4) {
        store_le32(data, host->address);
    } else if (offset >= 4) {
        struct pci_device *device = selected(host);
        if (device)
            config_read(device, (host->address & 0xfc) + (unsigned)(offset & 3), data, len);
    }
    pthread_mutex_unlock(&host->lock);
}

static void ports_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct pci_host *host = opaque;
    pthread_mutex_lock(&host->lock);
    if (offset == 0 && len == 4) {
        host->address = load_le32(data);
    } else if (offset == PORT_RESET_CONTROL && len == 1 && host->reset_control) {
        host->reset_control(host->ctx, *(const uint8_t *)data);
    } else if (offset >= 4) {
        struct pci_device *device = selected(host);
        if (device)
            config_write(device, (host->address & 0xfc) + (unsigned)(offset & 3), data, len);
    }
    pthread_mutex_unlock(&host->lock);
}

static struct pci_device *ecam_device(struct pci_host *host, uint64_t offset)
{
    return find(host, (unsigned)(offset >> 20), (offset >> 15) & 0x1f, (offset >> 12) & 7);
}

static void ecam_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct pci_host *host = opaque;
    memset(data, 0xff, len);
    pthread_mutex_lock(&host->lock);
    struct pci_device *device = ecam_device(host, offset);
    if (device)
        config_read(device, offset & 0xfff, data, len);
    pthread_mutex_unlock(&host->lock);
}

static void ecam_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct pci_host *host = opaque;
    pthread_mutex_lock(&host->lock);
    struct pci_device *device = ecam_device(host, offset);
    if (device)
        config_write(device, offset & 0xfff, data, len);
    pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops ports_ops = {ports_read, ports_write};
static const struct bus_ops ecam_ops = {ecam_read, ecam_write};

void pci_host_set_ecam(struct pci_host *host, uint64_t base)
{
    if (base == host->ecam)
        return;
    if (host->ecam)
        bus_remove(host->mmio, host->ecam);
    host->ecam = 0;
    struct error err = ERROR_INIT;
    if (base && bus_add(host->mmio, base, LAYOUT_ECAM_LEN, "PCI configuration space", &ecam_ops,
                        host, &err) < 0)
        log_debug("PCI configuration space answers nowhere: %s", err.message);
    else
        host->ecam = base;
}

static int set_up(struct pci_host *host, const struct pci_host_params *params, struct error *err)
{
    host->bridge = pci_device_add(host, params->bridge, err);
    if (!host->bridge)
        return -ENOMEM;
    return bus_add(params->ports, LAYOUT_PORT_PCI, PORTS, params->bridge->name, &ports_ops, host,
                   err);
}

struct pci_host *pci_host_new_bare(const struct pci_host_params *params, struct error *err)
{
    struct pci_host *host = calloc(1, sizeof(*host));
    if (!host) {
        error_set(err, -ENOMEM, "out of memory for the PCI bus");
        return NULL;
    }
    host->mmio = params->mmio;
    host->bare = true;
    host->window32 = (struct window){params->mmio32, params->mmio32_len};
    host->window64 = (struct window){params->mmio64, params->mmio64_len};
    host->reset_control = params->reset_control;
    host->ctx = params->ctx;
    pthread_mutex_init(&host->lock, NULL);
    if (set_up(host, params, err) < 0) {
        pci_host_free(host);
        return NULL;
    }
    return host;
}

struct pci_host *pci_host_new(struct bus *ports, struct bus *mmio, uint64_t mmio64,
                              uint64_t mmio64_len, struct error *err)
{
    static const struct pci_device_params bridge = {
        .name = "PCI host bridge",
        .vendor_id = 0x8086,
        .device_id = 0x0d57,
        .class_code = 0x060000,
    };
    struct pci_host_params params = {
        .ports = ports,
        .mmio = mmio,
        .bridge = &bridge,
        .mmio32 = LAYOUT_PCI_MMIO32,
        .mmio32_len = LAYOUT_PCI_MMIO32_LEN,
        .mmio64 = mmio64,
        .mmio64_len = mmio64_len,
    };
    struct pci_host *host = pci_host_new_bare(&params, err);
    if (!host)
        return NULL;
    host->bare = false;
    pci_device_start(pci_host_bridge(host));
    if (bus_add(mmio, LAYOUT_ECAM, LAYOUT_ECAM_LEN, bridge.name, &ecam_ops, host, err) < 0) {
        pci_host_free(host);
        return NULL;
    }
    host->ecam = LAYOUT_ECAM;
    return host;
}

void pci_host_free(struct pci_host *host)
{
    if (!host)
        return;
    for (unsigned slot = 0; slot < PCI_DEVICES_MAX; slot++)
        free(host->devices[slot]);
    pthread_mutex_destroy(&host->lock);
    free(host);
}
