/* Tap interfaces of the host's kernel, with a virtio header before each frame. */
#ifndef HUSK_BASE_TAP_H
#define HUSK_BASE_TAP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define TAP_NAME_BYTES 16u /* with the zero at its end */
#define TAP_MAC_BYTES 6u

struct tap {
    char name[TAP_NAME_BYTES];
    bool
        multi_queue; /* as the kernel has it: one of another program's may be so with one queue, too */
};

/* Offloads that a kernel may lack, each a bit of tap_offloads(). */
enum { TAP_OFFLOAD_BASE = 1, TAP_OFFLOAD_UFO = 2, TAP_OFFLOAD_USO = 4 };

/**
 * tap_open() - a tap interface by its name: an existing one, or a new one that is gone when it is closed.
 * @name: NULL, or with "%d" in it, has the kernel choose.
 * @n: queues to open, one descriptor each in @fds, which do not block.
 *
 * Return: 0; -EPERM without CAP_NET_ADMIN or ownership; -EBUSY if somebody else has a queue of it; another -errno.
 */
int tap_open(struct tap *tap, const char *name, unsigned n, int *fds, struct error *err);

/** tap_adopt() - the same for queue @fd, which somebody else opened. Returns 0, -EINVAL if it is no such tap, -errno. */
int tap_adopt(struct tap *tap, int fd, struct error *err);

/** tap_same() - whether queues @a and @b, neither of which is detached, are of one tap, in whatever network namespace. */
bool tap_same(int a, int b);

/** tap_offloads() - which the kernel knows. They are all off afterwards. */
unsigned tap_offloads(int fd);

/** tap_up() - bring it up, unless it is. Returns 0 or -errno. */
int tap_up(const struct tap *tap, struct error *err);

/** tap_set_mtu() - unless it is so. Returns 0 or -errno. */
int tap_set_mtu(const struct tap *tap, unsigned mtu, struct error *err);

/** tap_set_address() - IPv4 address and netmask, in network byte order. Returns 0 or -errno. */
int tap_set_address(const struct tap *tap, uint32_t ip, uint32_t mask, struct error *err);

#endif
