/*
 * A view of the host's files: a root that has some paths of the host and nothing else. A path leads where it leads on the host, by
 * the same symbolic links.
 */
#ifndef HUSK_SANDBOX_VIEW_H
#define HUSK_SANDBOX_VIEW_H

#include "sandbox/landlock.h"

#include <stddef.h>

/**
 * view_make() - fill the folder @root, where a file system is mounted in a mount namespace of this process's own, with what @paths name,
 * absolute or from the working directory @cwd, and with the way to @cwd.
 *
 * A folder is there with all below it. A file is there with the folder that it is in, so that another that takes its place is seen, but
 * for devices, and for files that are only read: those alone. What does not exist is left out, and so is what is only read and cannot be shown.
 *
 * Return: 0; -EINVAL if a path leads to the host's root; another -errno.
 */
int view_make(const char *root, const char *cwd, const struct landlock_path *paths, size_t n);

#endif
