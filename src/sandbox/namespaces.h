/*
 * Namespaces: what of the host a process has a name for at all. What the kernel refuses is left out, and said in the log:
 * filter and Landlock stand without them.
 *
 * The VMM and the broker leave the host's network and IPC namespaces. The VMM's root, and that of the back-ends that the broker
 * starts, is an empty directory; each of those is the first and only process that it can see. The broker's root has what devices are
 * made of, and what a back-end is started from.
 */
#ifndef HUSK_SANDBOX_NAMESPACES_H
#define HUSK_SANDBOX_NAMESPACES_H

#include "sandbox/landlock.h"

#include <stddef.h>
#include <sys/types.h>

struct namespaces {
    int root_fd; /* a mount namespace with nothing in it, for namespaces_join_root(); -1: none */
};

#define NAMESPACES_NONE ((struct namespaces){.root_fd = -1})

/**
 * namespaces_enter_broker() - leave the host's network and IPC namespaces, and make the empty mount namespace that
 * back-ends are given; the files of the host stay.
 * @who: for the log.
 *
 * Without any rights it is taken by a user namespace, in which this process is whom it was. To be called with one thread.
 */
void namespaces_enter_broker(const char *who, struct namespaces *namespaces);

/** namespaces_enter_vmm() - in the same way leave all of the host's, files too. Nothing can be opened by path afterwards. */
void namespaces_enter_vmm(const char *who);

/**
 * namespaces_show_only() - of the host's files leave what @paths lead to in sight, whatever may be done with it (view.h).
 * @who: for the log.
 */
void namespaces_show_only(const char *who, const struct landlock_path *paths, size_t n);

/** namespaces_fork() - fork(), the child alone in a PID namespace where the kernel lets it. @pidfd: the child's. */
pid_t namespaces_fork(int *pidfd);

/** namespaces_join_root() - into the mount namespace @root_fd, which is closed; -1 does nothing. */
void namespaces_join_root(const char *who, int root_fd);

#endif
