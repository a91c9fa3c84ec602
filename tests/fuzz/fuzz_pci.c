/*
 * The PCI host, driven as a guest drives it: configuration through ports and ECAM, accesses all over the PCI windows,
 * devices added in between. Each step is 8 bytes: what, where, width, value. After each step what answers
 * must be where the registers say, inside a window, and nowhere else.
 */
#include "base/bytes.h"
#include "devices/pci.h"
#include "devices/pvpanic.h"
#include "x86/layout.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEP_BYTES 8
#define DEVICES 4
#define FIRST_SLOT 2 /* behind the host bridge and pvpanic */
#define WINDOW64 BIT64(36)
#define WINDOW64_LEN BIT64(32)

struct device {
    struct pci_device *pci;
    uint64_t len[PCI_BARS_MAX];
    uint64_t mapped_at[PCI_BARS_MAX];
};

struct machine {
    struct bus *ports, *mmio;
    struct pci_host *host;
    struct pvpanic *pvpanic;
    struct device devices[DEVICES];
    unsigned n_devices;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

/** owns() - whether an access at @offset of some BAR of @dev can be. */
static bool owns(const struct device *dev, uint64_t offset, unsigned len)
{
    bool fits = false;
    for (unsigned i = 0; i < PCI_BARS_MAX; i++)
        fits |= dev->mapped_at[i] && range_within(offset, len, dev->len[i]);
    return fits;
}

static void bar_read(void *device, uint64_t offset, void *data, unsigned len)
{
    check(owns(device, offset, len));
    memset(data, 0x5a, len);
}

static void bar_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)data;
    check(owns(device, offset, len));
}

static void on_bar_moved(void *device, unsigned bar, uint64_t base)
{
    struct device *dev = device;
    uint64_t len = dev->len[bar];
    check(len != 0 && (base == 0) == (dev->mapped_at[bar] != 0));
    check(base == 0 ||
          (base >= LAYOUT_PCI_MMIO32 &&
           range_within(base - LAYOUT_PCI_MMIO32, len, LAYOUT_PCI_MMIO32_LEN)) ||
          (base >= WINDOW64 && range_within(base - WINDOW64, len, WINDOW64_LEN)));
    dev->mapped_at[bar] = base;
}

static void add_bar(struct device *dev, unsigned index, uint64_t len, bool is_64bit)
{
    static const struct bus_ops ops = {bar_read, bar_write};
    check(pci_device_add_bar(dev->pci, index, len, is_64bit, &ops, NULL) == 0);
    dev->len[index] = len;
}

static void add_device(struct machine *m)
{
    static const struct pci_device_ops ops = {.bar_moved = on_bar_moved};
    unsigned n = m->n_devices++;
    struct device *dev = &m->devices[n];
    struct pci_device_params params = {
        .name = "fuzzed",
        .vendor_id = 0x1af4,
        .device_id = 0x1042,
        .class_code = 0x018000,
        .ops = &ops,
        .device = dev,
    };
    dev->pci = pci_device_add(m->host, &params, NULL);
    check(dev->pci);
    add_bar(dev, 0, 4096u << n, false);
    add_bar(dev, 1, MIB(256) << n, true);
    add_bar(dev, 4, 16, false);
    uint8_t body[14] = {0};
    const uint8_t writable[14] = {0, 0, 0xff, 0x0f};
    check(pci_device_add_capability(dev->pci, 0x09, body, sizeof(body), writable) == 0x40);
    pci_device_start(dev->pci);
}

static void on_panic(void *ctx, uint8_t events)
{
    (void)ctx;
    check(events != 0 && events <= 3);
}

/** register_at() - the value of BAR @index of @dev, which is at @slot. */
static uint64_t register_at(struct machine *m, unsigned slot, unsigned index)
{
    uint8_t value[8] = {0};
    unsigned len = index == 1 ? 8 : 4;
    check(bus_read(m->mmio, LAYOUT_ECAM + (slot << 15) + 0x10 + 4 * index, value, len));
    return load_le64(value) & ~0xfull;
}

static void check_mappings(struct machine *m)
{
    for (unsigned n = 0; n < m->n_devices; n++) {
        for (unsigned i = 0; i < PCI_BARS_MAX; i++) {
            const struct device *dev = &m->devices[n];
            uint64_t base = dev->mapped_at[i];
            uint8_t byte;
            if (!base)
                continue;
            check(bus_read(m->mmio, base + dev->len[i] - 1, &byte, 1) && byte == 0x5a);
            check(register_at(m, FIRST_SLOT + n, i) == base);
        }
    }
}

static void step(struct machine *m, const uint8_t *data)
{
    unsigned width = 1u << (data[3] & 3);
    uint32_t where = load_le16(data + 1);
    uint8_t value[8];
    memcpy(value, data + 4, 4);
    memcpy(value + 4, data + 4, 4);
    switch (data[0] % 8) {
    case 0:
        bus_write(m->ports, LAYOUT_PORT_PCI + where % 16, value, width);
        break;
    case 1:
        bus_read(m->ports, LAYOUT_PORT_PCI + where % 16, value, width);
        break;
    case 2: /* slots 0 to 7, and now and then further */
        bus_write(m->mmio, LAYOUT_ECAM + ((where & 0xf000) << 3 | (where & 0xfff)), value, width);
        break;
    case 3:
        bus_read(m->mmio, LAYOUT_ECAM + ((where & 0xf000) << 3 | (where & 0xfff)), value, width);
        break;
    case 4:
        bus_write(m->mmio, LAYOUT_PCI_MMIO32 + load_le32(data + 4) % (2 * LAYOUT_PCI_MMIO32_LEN),
                  value, width);
        break;
    case 5:
        bus_read(m->mmio, WINDOW64 - 16 + where * 0x10001ull, value, width);
        break;
    case 6: { /* a BAR or COMMAND of a device that is there */
        static const uint16_t registers[] = {0x04, 0x10, 0x14, 0x18, 0x20};
        bus_write(m->mmio,
                  LAYOUT_ECAM + (uint64_t)(1 + data[1] % 5) * 0x8000 +
                      registers[data[2] % ARRAY_SIZE(registers)],
                  value, 4);
        break;
    }
    default:
        if (m->n_devices < DEVICES)
            add_device(m);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine m = {.ports = bus_new("port"), .mmio = bus_new("MMIO")};
    m.host = pci_host_new(m.ports, m.mmio, WINDOW64, WINDOW64_LEN, NULL);
    m.pvpanic = pvpanic_new(m.host, on_panic, NULL, NULL);
    add_device(&m);
    add_device(&m);
    for (; size >= STEP_BYTES; data += STEP_BYTES, size -= STEP_BYTES) {
        step(&m, data);
        check_mappings(&m);
    }
    pci_host_free(m.host);
    pvpanic_free(m.pvpanic);
    bus_free(m.ports);
    bus_free(m.mmio);
    return 0;
}
