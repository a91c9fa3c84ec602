/*
 * What the broker needs to know of each kind of device: what is behind it, how that is opened for its back-end, and the
 * words that the back-end is started with. Private to sandbox/.
 */
#ifndef HUSK_SANDBOX_SOURCE_H
#define HUSK_SANDBOX_SOURCE_H

#include "base/error.h"
#include "base/unix_socket.h"
#include "config/device_list.h"
#include "sandbox/backend_words.h"
#include "sandbox/broker.h"

#include <stdbool.h>
#include <sys/stat.h>

/* Which file it is, whatever its path says later. All 0 where no file is behind the device. */
struct source_identity {
    dev_t dev;
    ino_t ino;
    dev_t rdev; /* of a device node, else 0 */
};

/* More than any kind needs. */
#define SOURCE_FDS_MAX 64

struct source_fds {
    int fds[SOURCE_FDS_MAX];
    unsigned n;
    const char
        *made_path; /* a socket that hold() made, and the broker removes at its end; NULL: none */
    struct unix_listener made;
};

#define SOURCE_FDS_INIT ((struct source_fds){.n = 0})

struct source_kind {
    const char *backend; /* what husk-backend calls the kind */
    /** check() - before the broker is forked: whether the device can be had, and what it is. Nothing stays open. */
    int (*check)(const struct device_entry *device, struct source_identity *identity,
                 struct error *err);
    /**
     * open() - in the broker, for each start of the back-end: its descriptors, which it finds from
     * BACKEND_FIRST_FD on. Returns 0; -ESTALE if it is not @identity any more; -errno. What is in @fds is closed by
     * the caller, after a failure too.
     */
    int (*open)(const struct device_entry *device, const struct source_identity *identity,
                struct source_fds *fds, struct error *err);
    /**
     * hold() - instead of open(), once, before the broker lets go of husk's descriptors: what the back-ends are given
     * and the broker keeps, because it would be gone with its last descriptor, or cannot be had a second time. Returns
     * 0 or -errno; what is in @fds stays the caller's. @lent: of husk's, to be copied.
     */
    int (*hold)(const struct device_entry *device, const struct broker_lent *lent,
                struct source_fds *fds, struct error *err);
    /** release() - in husk, when the broker has been forked: close what came by inheritance. NULL for nothing. */
    void (*release)(const struct device_entry *device);
    /** words() - the back-end's options, beyond those that all kinds have. @again: it is started after another. */
    void (*words)(const struct device_entry *device, bool again, struct backend_words *words);
};

extern const struct source_kind disk_source;
extern const struct source_kind net_source;
extern const struct source_kind rng_source;
extern const struct source_kind console_source;
extern const struct source_kind vsock_source;

/** source_kind_of() - never NULL for a device without a socket. */
const struct source_kind *source_kind_of(const struct device_entry *device);

/** source_check() - the same as ->check(), or whether another program's back-end has its socket. Names the device. */
int source_check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err);

/** source_hint() - @err tells that @path could not be opened: add why, where it is because of the path. */
void source_hint(const char *path, struct error *err);

/** source_connect() - to the UNIX socket @path. Returns the descriptor, or -errno after @timeout_ms at most. */
int source_connect(const char *path, int timeout_ms, struct error *err);

/** source_fds_close() - all of them. */
void source_fds_close(struct source_fds *fds);

/** source_identity_of() - from what stat(2) says. */
struct source_identity source_identity_of(const struct stat *st);

/** source_is_another() - @err says that @path is not what it was. Returns -ESTALE. */
int source_is_another(const char *path, struct error *err);

/**
 * source_check_path() - whether @path still leads to @identity, asked before it is opened: in its cage the broker may open
 * no other, and would be told only that it may not. Returns 0, also if nothing is there; or -ESTALE.
 */
int source_check_path(const char *path, const struct source_identity *identity, struct error *err);

/** source_same() - whether two identities are one file or one device node. */
bool source_same(const struct source_identity *a, const struct source_identity *b);

#endif
