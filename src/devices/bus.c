/*
 * A sorted array of ranges behind a sequence counter. A writer makes the counter odd, changes the array, makes it even
 * again; a reader that saw an odd counter, or two different ones, looks again. The entries are atomics, so that a
 * reader that lost the race has read stale values, never undefined ones.
 */
#include "devices/bus.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Platform devices, and every BAR of 32 devices with room to spare. */
#define RANGES_MAX 256

struct range {
    _Atomic uint64_t base;
    _Atomic uint64_t len;
    _Atomic(const struct bus_ops *) ops;
    _Atomic(void *) device;
    const char *name; /* writers only */
};

struct bus {
    const char *name;
    pthread_mutex_t lock; /* one writer at a time */
    atomic_uint sequence;
    atomic_uint n;
    struct range ranges[RANGES_MAX];
};

struct bus *bus_new(const char *name)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return NULL;
    bus->name = name;
    pthread_mutex_init(&bus->lock, NULL);
    return bus;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

static uint64_t base_of(const struct range *range)
{
    return atomic_load_explicit(&range->base, memory_order_relaxed);
}

static uint64_t len_of(const struct range *range)
{
    return atomic_load_explicit(&range->len, memory_order_relaxed);
}

static void copy_range(struct range *to, const struct range *from)
{
    atomic_store_explicit(&to->base, base_of(from), memory_order_relaxed);
    atomic_store_explicit(&to->len, len_of(from), memory_order_relaxed);
    atomic_store_explicit(&to->ops, atomic_load_explicit(&from->ops, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&to->device, atomic_load_explicit(&from->device, memory_order_relaxed),
                          memory_order_relaxed);
    to->name = from->name;
}

/** begin_change() - the lock is held; readers look again until end_change(). */
static void begin_change(struct bus *bus)
{
    atomic_fetch_add_explicit(&bus->sequence, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void end_change(struct bus *bus)
{
    atomic_fetch_add_explicit(&bus->sequence, 1, memory_order_release);
}

/** first_above() - the index of the first range whose base is above @addr. */
static unsigned first_above(const struct bus *bus, unsigned n, uint64_t addr)
{
    unsigned low = 0, high = n;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (base_of(&bus->ranges[middle]) > addr)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/** add_locked() - bus_add() with the lock held. */
static int add_locked(struct bus *bus, const struct range *range, struct error *err)
{
    unsigned n = atomic_load_explicit(&bus->n, memory_order_relaxed);
    uint64_t base = base_of(range), len = len_of(range);
    unsigned at = first_above(bus, n, base);
    const struct range *taken = NULL;
    if (at > 0 && base - base_of(&bus->ranges[at - 1]) < len_of(&bus->ranges[at - 1]))
        taken = &bus->ranges[at - 1];
    else if (at < n && base_of(&bus->ranges[at]) - base < len)
        taken = &bus->ranges[at];
    if (taken)
        return error_set(err, -EEXIST, "%s 0x%" PRIx64 " (%s) is taken by %s", bus->name, base,
                         range->name, taken->name);
    if (n == RANGES_MAX)
        return error_set(err, -ENOSPC, "no room for another %s range (%s)", bus->name, range->name);

    begin_change(bus);
    for (unsigned i = n; i > at; i--)
        copy_range(&bus->ranges[i], &bus->ranges[i - 1]);
    copy_range(&bus->ranges[at], range);
    atomic_store_explicit(&bus->n, n + 1, memory_order_relaxed);
    end_change(bus);
    return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len, const char *device_name,
            const struct bus_ops *ops, void *device, struct error *err)
{
    uint64_t end;
    if (len == 0 || add_overflows(base, len - 1, &end))
        return error_set(err, -EINVAL, "%s 0x%" PRIx64 " (%s) cannot have 0x%" PRIx64 " addresses",
                         bus->name, base, device_name, len);
    struct range range = {.base = base, .len = len, .ops = ops, .device = device};
    range.name = device_name;
    pthread_mutex_lock(&bus->lock);
    int ret = add_locked(bus, &range, err);
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

void bus_remove(struct bus *bus, uint64_t base)
{
    pthread_mutex_lock(&bus->lock);
    unsigned n = atomic_load_explicit(&bus->n, memory_order_relaxed);
    unsigned above = first_above(bus, n, base);
    if (above > 0 && base_of(&bus->ranges[above - 1]) == base) {
        begin_change(bus);
        for (unsigned i = above; i < n; i++)
            copy_range(&bus->ranges[i - 1], &bus->ranges[i]);
        atomic_store_explicit(&bus->n, n - 1, memory_order_relaxed);
        end_change(bus);
    }
    pthread_mutex_unlock(&bus->lock);
}

struct found {
    const struct bus_ops *ops;
    void *device;
    uint64_t offset;
};

/** look_up() - the device that all of [@addr, @addr + @len) belongs to. */
static bool look_up(struct bus *bus, uint64_t addr, unsigned len, struct found *found)
{
    for (;;) {
        unsigned before = atomic_load_explicit(&bus->sequence, memory_order_acquire);
        if (before & 1)
            continue;
        unsigned n = MIN(atomic_load_explicit(&bus->n, memory_order_relaxed), RANGES_MAX);
        unsigned above = first_above(bus, n, addr);
        bool hit = false;
        if (above > 0) {
            const struct range *range = &bus->ranges[above - 1];
            found->offset = addr - base_of(range);
            hit = range_within(found->offset, len, len_of(range));
            found->ops = atomic_load_explicit(&range->ops, memory_order_relaxed);
            found->device = atomic_load_explicit(&range->device, memory_order_relaxed);
        }
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&bus->sequence, memory_order_relaxed) == before)
            return hit;
    }
}

bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
    struct found found;
    memset(data, 0xff, len);
    if (!look_up(bus, addr, len, &found))
        return false;
    found.ops->read(found.device, found.offset, data, len);
    return true;
}

bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
    struct found found;
    if (!look_up(bus, addr, len, &found))
        return false;
    found.ops->write(found.device, found.offset, data, len);
    return true;
}
