/*
 * Landlock: which paths a process may still open, checked by the kernel at each opening. By raw system calls; what the
 * kernel does not know is left out, and said in the log.
 */
#ifndef HUSK_SANDBOX_LANDLOCK_H
#define HUSK_SANDBOX_LANDLOCK_H

#include "base/error.h"

#include <stddef.h>

/* What may be done below a path, or with it if it is a file. Whatever is not named by any path is forbidden. */
enum landlock_access {
    LANDLOCK_READ = 1,
    LANDLOCK_WRITE =
        2, /* and truncate, make and remove files, folders, sockets and pipes in a folder */
    LANDLOCK_EXECUTE = 4,
    LANDLOCK_REMOVE = 8,  /* files and sockets in a folder, nothing else */
    LANDLOCK_DEVICE = 16, /* ioctls of a device */
    LANDLOCK_CONNECT = 32 /* to a UNIX socket, or to those in a folder */
};

struct landlock_path {
    const char *path;
    unsigned access; /* of enum landlock_access */
};

/** landlock_version() - of the kernel's interface; 0 if there is none. */
int landlock_version(void);

/* Whom a process may still signal, where the kernel tells that apart. */
enum landlock_signals {
    LANDLOCK_SIGNALS_INSIDE, /* itself, and what it starts from now on */
    LANDLOCK_SIGNALS_ALL,    /* as before: the VMM ends a broker that does not end by itself */
};

/**
 * landlock_make() - rules for landlock_apply(), made while @paths can be opened.
 * @made: their descriptor; -1 if there is no Landlock, which is said in the log.
 *
 * Return: 0; -errno if it is there and refuses.
 */
int landlock_make(const char *who, const struct landlock_path *paths, size_t n,
                  enum landlock_signals signals, int *made, struct error *err);

/** landlock_apply() - landlock_enter() by the rules @made, which is closed; -1 does nothing. */
int landlock_apply(int made, struct error *err);

/**
 * landlock_enter() - this thread, and what it starts, may open nothing but what @paths allow, from now on.
 * @who: for the log.
 *
 * A path that does not exist is left out. TCP is forbidden from Linux 6.7 on; signals and abstract sockets to processes
 * outside from 6.12 on; UNIX sockets by path, but for those made inside, from 7.1 on; UDP from 7.2 on.
 *
 * Return: 0, also where there is no Landlock; -errno if it is there and refuses.
 */
int landlock_enter(const char *who, const struct landlock_path *paths, size_t n, struct error *err);

#endif
