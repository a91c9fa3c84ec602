/* A driver for one virtio block device over PCI (virtio 1.2, 4.1 and 5.2): one request at a time, polled. */
#include "guest.h"

#define BARS_BASE 0xc0000000u /* where the machine's 32-bit window begins */
#define QUEUE_SIZE 8

enum { CAP_COMMON = 1, CAP_NOTIFY = 2 };
enum {
    FEATURE_WORD = 0x00,
    DRIVER_WORD = 0x08,
    DRIVER_FEATURE = 0x0c,
    STATUS = 0x14,
    QUEUE_SELECT = 0x16,
    SIZE = 0x18,
    ENABLE = 0x1c,
    NOTIFY_OFF = 0x1e,
    DESC = 0x20,
    AVAIL = 0x28,
    USED = 0x30
};

static struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
} descriptors[QUEUE_SIZE] __attribute__((aligned(4096), section(".data")));
static volatile struct {
    uint16_t flags, index, ring[QUEUE_SIZE];
} available __attribute__((aligned(4096), section(".data")));
static volatile struct {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[QUEUE_SIZE];
} used __attribute__((aligned(4096), section(".data")));
static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header __attribute__((section(".data")));
static volatile uint8_t status __attribute__((section(".data")));
static uintptr_t doorbell, bars[6];

static uint32_t config_read(uint32_t device, uint32_t at)
{
    out32(0xcf8, 0x80000000u | device << 11 | (at & 0xfc));
    return in32(0xcfc);
}

static void config_write(uint32_t device, uint32_t at, uint32_t value)
{
    out32(0xcf8, 0x80000000u | device << 11 | (at & 0xfc));
    out32(0xcfc, value);
}

static void write16(uintptr_t at, uint16_t value)
{
    *(volatile uint16_t *)at = value;
}

static void write32(uintptr_t at, uint32_t value)
{
    *(volatile uint32_t *)at = value;
}

static void write64(uintptr_t at, const volatile void *address)
{
    write32(at, (uint32_t)(uintptr_t)address);
    write32(at + 4, (uint32_t)((uintptr_t)address >> 32));
}

/** place_bars() - one behind the other, each at a multiple of its size. */
static void place_bars(uint32_t device)
{
    uint32_t next = BARS_BASE;
    for (uint32_t bar = 0; bar < 6; bar++) {
        uint32_t at = 0x10 + 4 * bar;
        uint32_t kind = config_read(device, at);
        config_write(device, at, 0xffffffff);
        uint32_t size = ~(config_read(device, at) & ~0xfu) + 1;
        if (size == 0 || (kind & 1))
            continue;
        next = (next + size - 1) & ~(size - 1);
        config_write(device, at, next);
        bars[bar] = next;
        next += size;
        if ((kind & 6) == 4)
            config_write(device, 0x10 + 4 * ++bar, 0);
    }
    config_write(device, 4, config_read(device, 4) | 6); /* memory, bus master */
}

static bool find(uint32_t *device)
{
    for (*device = 0; *device < 32; ++*device)
        if (config_read(*device, 0) == 0x10421af4)
            return true;
    return false;
}

bool disk_start(void)
{
    uint32_t device, multiplier = 0;
    uintptr_t common = 0, notify = 0;
    if (!find(&device))
        return false;
    place_bars(device);
    for (uint32_t cap = config_read(device, 0x34) & 0xff; cap;) {
        uint32_t head = config_read(device, cap);
        uintptr_t place = bars[config_read(device, cap + 4) & 7] + config_read(device, cap + 8);
        if ((head & 0xff) == 9 && head >> 24 == CAP_COMMON)
            common = place;
        if ((head & 0xff) == 9 && head >> 24 == CAP_NOTIFY) {
            notify = place;
            multiplier = config_read(device, cap + 16);
        }
        cap = head >> 8 & 0xff;
    }
    volatile uint8_t *device_status = (volatile uint8_t *)(common + STATUS);
    *device_status = 0;
    *device_status = 1 | 2;
    write32(common + DRIVER_WORD, 0);
    write32(common + DRIVER_FEATURE, 0);
    write32(common + DRIVER_WORD, 1);
    write32(common + DRIVER_FEATURE, 1); /* VIRTIO_F_VERSION_1 */
    *device_status = 1 | 2 | 8;
    if (!(*device_status & 8))
        fail("the disk wants features", *device_status);
    write16(common + QUEUE_SELECT, 0);
    write16(common + SIZE, QUEUE_SIZE);
    write64(common + DESC, descriptors);
    write64(common + AVAIL, &available);
    write64(common + USED, &used);
    doorbell = notify + multiplier * *(volatile uint16_t *)(common + NOTIFY_OFF);
    write16(common + ENABLE, 1);
    *device_status = 1 | 2 | 8 | 4;
    return true;
}

void disk_move(bool write, uint64_t sector, volatile void *page)
{
    header.type = write;
    header.sector = sector;
    status = 0xff;
    descriptors[0].address = (uintptr_t)&header;
    descriptors[0].length = sizeof(header);
    descriptors[0].flags = 1;
    descriptors[0].next = 1;
    descriptors[1].address = (uintptr_t)page;
    descriptors[1].length = PAGE;
    descriptors[1].flags = write ? 1 : 1 | 2;
    descriptors[1].next = 2;
    descriptors[2].address = (uintptr_t)&status;
    descriptors[2].length = 1;
    descriptors[2].flags = 2;
    uint16_t before = used.index;
    available.ring[available.index % QUEUE_SIZE] = 0;
    __sync_synchronize();
    available.index++;
    __sync_synchronize();
    write16(doorbell, 0);
    while (used.index == before)
        __asm__ volatile("pause" ::: "memory");
    if (status != 0)
        fail("the disk failed a request", status);
}
