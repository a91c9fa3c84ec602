/* Registers and entry bits: 82093AA data sheet, 3.0; message format: Intel SDM volume 3, 11.11 (MSI address and data). */
#include "devices/ioapic.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdlib.h>

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI 0x40

#define INDEX_ID 0x00
#define INDEX_VERSION 0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_ENTRIES 0x10

/* Version 0x20 is the one with an EOI register. */
#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_VECTOR 0xffull
#define ENTRY_DELIVERY (7ull << 8)
#define ENTRY_LOGICAL BIT64(11)
#define ENTRY_STATUS BIT64(12)
#define ENTRY_REMOTE_IRR BIT64(14)
#define ENTRY_LEVEL BIT64(15)
#define ENTRY_MASKED BIT64(16)
#define ENTRY_READ_ONLY (ENTRY_STATUS | ENTRY_REMOTE_IRR)
#define ENTRY_DEFINED (0xff0000000001ffffull)

#define MSI_ADDRESS 0xfee00000u
#define MSI_DATA_ASSERT BIT(14)
#define MSI_DATA_LEVEL BIT(15)

struct ioapic {
    const struct ioapic_ops *ops;
    void *ctx;
    pthread_mutex_t lock;
    uint8_t select;
    uint8_t id;
    uint32_t high; /* pins that are driven high, a bit each */
    uint64_t entries[IOAPIC_PINS];
};

struct ioapic *ioapic_new(const struct ioapic_ops *ops, void *ctx)
{
    struct ioapic *ioapic = calloc(1, sizeof(*ioapic));
    if (!ioapic)
        return NULL;
    ioapic->ops = ops;
    ioapic->ctx = ctx;
    pthread_mutex_init(&ioapic->lock, NULL);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entries[pin] = ENTRY_MASKED;
    return ioapic;
}

void ioapic_free(struct ioapic *ioapic)
{
    if (!ioapic)
        return;
    pthread_mutex_destroy(&ioapic->lock);
    free(ioapic);
}

static uint64_t message_address(uint64_t entry)
{
    uint64_t destination = entry >> 56;
    return MSI_ADDRESS | destination << 12 | (entry & ENTRY_LOGICAL ? BIT(2) : 0);
}

static uint32_t message_data(uint64_t entry)
{
    uint32_t data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_DELIVERY));
    return entry & ENTRY_LEVEL ? data | MSI_DATA_LEVEL | MSI_DATA_ASSERT : data;
}

/** send() - if @pin's entry lets it; the lock is held. */
static void send(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->entries[pin];
    if (*entry & ENTRY_MASKED)
        return;
    if (*entry & ENTRY_LEVEL) {
        if (*entry & ENTRY_REMOTE_IRR)
            return;
        *entry |= ENTRY_REMOTE_IRR;
    }
    ioapic->ops->signal_msi(ioapic->ctx, message_address(*entry), message_data(*entry));
}

void ioapic_set_irq(struct ioapic *ioapic, unsigned pin, bool level)
{
    if (pin >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&ioapic->lock);
    bool was_high = ioapic->high & BIT(pin);
    ioapic->high = level ? ioapic->high | BIT(pin) : ioapic->high & ~BIT(pin);
    if (level && (!was_high || ioapic->entries[pin] & ENTRY_LEVEL))
        send(ioapic, pin);
    pthread_mutex_unlock(&ioapic->lock);
}

/** end_interrupt() - of level-triggered entries with @vector; the lock is held. */
static void end_interrupt(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->entries[pin];
        if (!(*entry & ENTRY_LEVEL) || (*entry & ENTRY_VECTOR) != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        if (ioapic->high & BIT(pin))
            send(ioapic, pin);
    }
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
    pthread_mutex_lock(&ioapic->lock);
    end_interrupt(ioapic, vector);
    pthread_mutex_unlock(&ioapic->lock);
}

/** write_entry() - one half of a redirection entry; the lock is held. */
static void write_entry(struct ioapic *ioapic, unsigned pin, bool upper, uint32_t value)
{
    uint64_t old = ioapic->entries[pin];
    uint64_t entry =
        upper ? (old & UINT32_MAX) | (uint64_t)value << 32 : (old & ~(uint64_t)UINT32_MAX) | value;
    entry = (entry & ENTRY_DEFINED & ~ENTRY_READ_ONLY) | (old & ENTRY_READ_ONLY);
    /* An entry made edge-triggered has no interrupt that could still be ended. */
    if (!(entry & ENTRY_LEVEL))
        entry &= ~ENTRY_REMOTE_IRR;
    ioapic->entries[pin] = entry;

    /* KVM is told only of what it would do differently: a table is expensive, and a masked entry sends nothing. While
     * a level-triggered interrupt is being served its route stays: without it KVM would not report the EOI. */
    bool was_masked = old & ENTRY_MASKED, is_masked = entry & ENTRY_MASKED;
    bool in_service = entry & ENTRY_REMOTE_IRR;
    if (old != entry && !(is_masked && (was_masked || in_service))) {
        ioapic->ops->set_route(ioapic->ctx, pin, is_masked, message_address(entry),
                               message_data(entry));
        ioapic->ops->commit_routes(ioapic->ctx);
    }
    if ((entry & ENTRY_LEVEL) && (ioapic->high & BIT(pin)))
        send(ioapic, pin);
}

static uint32_t read_register(const struct ioapic *ioapic)
{
    switch (ioapic->select) {
    case INDEX_ID:
    case INDEX_ARBITRATION:
        return (uint32_t)ioapic->id << 24;
    case INDEX_VERSION:
        return VERSION;
    default: {
        unsigned half = ioapic->select - INDEX_ENTRIES;
        if (ioapic->select < INDEX_ENTRIES || half / 2 >= IOAPIC_PINS)
            return UINT32_MAX;
        uint64_t entry = ioapic->entries[half / 2];
        return (uint32_t)(half & 1 ? entry >> 32 : entry);
    }
    }
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
    unsigned half = ioapic->select - INDEX_ENTRIES;
    if (ioapic->select == INDEX_ID)
        ioapic->id = (value >> 24) & 0xf;
    else if (ioapic->select >= INDEX_ENTRIES && half / 2 < IOAPIC_PINS)
        write_entry(ioapic, half / 2, half & 1, value);
}

static void ioapic_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct ioapic *ioapic = device;
    memset(data, 0, len);
    pthread_mutex_lock(&ioapic->lock);
    uint32_t value = 0;
    if (offset == REG_SELECT)
        value = ioapic->select;
    else if (offset == REG_WINDOW)
        value = read_register(ioapic);
    pthread_mutex_unlock(&ioapic->lock);
    value = htole32(value);
    memcpy(data, &value, MIN(len, (unsigned)sizeof(value)));
}

static void ioapic_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    struct ioapic *ioapic = device;
    uint32_t value = 0;
    memcpy(&value, data, MIN(len, (unsigned)sizeof(value)));
    value = le32toh(value);
    pthread_mutex_lock(&ioapic->lock);
    if (offset == REG_SELECT)
        ioapic->select = (uint8_t)value;
    else if (offset == REG_WINDOW)
        write_register(ioapic, value);
    else if (offset == REG_EOI)
        end_interrupt(ioapic, (uint8_t)value);
    pthread_mutex_unlock(&ioapic->lock);
}

const struct bus_ops ioapic_bus_ops = {ioapic_read, ioapic_write};
