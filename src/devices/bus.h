/*
 * Address to device: port I/O and MMIO each have one bus. Lookups take no lock: ranges may be added, moved and removed
 * while vCPUs look up, and a lookup that raced with a change is repeated.
 */
#ifndef HUSK_DEVICES_BUS_H
#define HUSK_DEVICES_BUS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct bus_ops {
    /* @offset is from the range's base; @len is 1, 2, 4 or 8. Called from any vCPU thread. */
    void (*read)(void *device, uint64_t offset, void *data, unsigned len);
    void (*write)(void *device, uint64_t offset, const void *data, unsigned len);
};

struct bus;

/** bus_new() - @name is for messages ("port", "MMIO"). NULL if memory ran out. */
struct bus *bus_new(const char *name);
void bus_free(struct bus *bus);

/** bus_add() - give [@base, @base + @len) to @device.
 * @device_name: for messages; outlives the bus.
 *
 * Return: 0; -EEXIST naming both devices if the range is taken; -ENOSPC; -EINVAL if it is empty or wraps.
 */
int bus_add(struct bus *bus, uint64_t base, uint64_t len, const char *device_name,
            const struct bus_ops *ops, void *device, struct error *err);

/** bus_remove() - take the range that starts at @base off; a lookup that began before may still call the device. */
void bus_remove(struct bus *bus, uint64_t base);

/** bus_read() - fills @data; all ones if nobody answers, or if the access leaves its range. Returns whether anybody did. */
bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);

/** bus_write() - the write is dropped if nobody answers. Returns whether anybody did. */
bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

#endif
