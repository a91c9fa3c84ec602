/* What is behind a --disk: opened, identified, and looked at for somebody else's lock. Private to sandbox/. */
#ifndef HUSK_SANDBOX_DISK_SOURCE_H
#define HUSK_SANDBOX_DISK_SOURCE_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <sys/types.h>

/* Which file it is, whatever its path says later. All 0 for a socket. */
struct disk_identity {
    dev_t dev;
    ino_t ino;
    dev_t rdev; /* of a block device, else 0 */
};

/**
 * disk_source_check() - whether the disk can be used, and what it is.
 *
 * For a socket: whether it is one. Nothing stays open.
 *
 * Return: 0; -EBUSY if somebody else holds a lock on it; another -errno. The message has the disk's name in front.
 */
int disk_source_check(const struct disk_config *disk, struct disk_identity *identity,
                      struct error *err);

/** disk_source_open() - the file of @disk. Returns the descriptor; -ESTALE if it is not @identity any more; -errno. */
int disk_source_open(const struct disk_config *disk, const struct disk_identity *identity,
                     struct error *err);

/** disk_source_connect() - to the socket of @disk. Returns the descriptor, or -errno after @timeout_ms at most. */
int disk_source_connect(const struct disk_config *disk, int timeout_ms, struct error *err);

/** disk_source_same() - whether two identities are one file or one block device. */
bool disk_source_same(const struct disk_identity *a, const struct disk_identity *b);

#endif
