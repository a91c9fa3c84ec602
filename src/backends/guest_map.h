/*
 * Guest memory as a back-end sees it: the regions a front-end handed over, mapped here. Not safe against changes while
 * queues look addresses up: the server stops them first.
 */
#ifndef HUSK_BACKENDS_GUEST_MAP_H
#define HUSK_BACKENDS_GUEST_MAP_H

#include "base/error.h"
#include "virtio/vhost_user.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_MAP_SLOTS 509u /* what x86's KVM long offered; front-ends take the smaller of both */

struct guest_region {
    uint64_t gpa, len, user_addr;
    uint8_t *bytes; /* where @gpa is mapped here */
    void *mapping;  /* what munmap(2) wants */
    size_t mapping_len;
};

struct guest_map {
    struct guest_region *regions; /* sorted by gpa */
    unsigned n;
    bool warned; /* of memory that can shrink */
};

/** guest_map_clear() - unmap everything; the map is empty and usable. */
void guest_map_clear(struct guest_map *map);

/**
 * guest_map_add() - map a region from @fd, which stays the caller's.
 *
 * Return: 0; -EINVAL if it is empty, wraps, is not a regular file (a memfd is one) or larger than it; -EEXIST if it
 * overlaps another; -ENOSPC if there are GUEST_MAP_SLOTS; -errno of mmap(2). The map is then as before.
 */
int guest_map_add(struct guest_map *map, const struct vhost_user_region *region, int fd,
                  struct error *err);

/** guest_map_remove() - unmap the region with exactly this gpa, user address and length. Returns 0 or -ENOENT. */
int guest_map_remove(struct guest_map *map, const struct vhost_user_region *region,
                     struct error *err);

/**
 * guest_map_gpa() - guest physical address to memory here.
 * @len: in: bytes wanted; out: how many of them are in one piece at the result.
 *
 * Return: NULL if @gpa is not in guest memory.
 */
void *guest_map_gpa(const struct guest_map *map, uint64_t gpa, uint64_t *len);

/** guest_map_user() - the front-end's virtual address to memory here; NULL unless one region holds all @len bytes. */
void *guest_map_user(const struct guest_map *map, uint64_t user_addr, uint64_t len);

/** guest_map_gpa_of() - the way back: of a byte that guest_map_gpa() gave. */
uint64_t guest_map_gpa_of(const struct guest_map *map, const void *byte);

/**
 * guest_map_read() - copy @len bytes at @gpa, each read once. The range may cross regions.
 *
 * Return: 0, -EFAULT if part of it is not in guest memory.
 */
int guest_map_read(const struct guest_map *map, uint64_t gpa, void *to, size_t len);

#endif
