/* Listening on a UNIX socket in the file system. */
#ifndef HUSK_BASE_UNIX_SOCKET_H
#define HUSK_BASE_UNIX_SOCKET_H

#include "base/error.h"

#include <sys/types.h>

/* A socket in the file system, known by more than its name: another file may have taken that since. */
struct unix_listener {
    int fd; /* -1: none */
    dev_t dev;
    ino_t ino; /* 0: none was made */
};

#define UNIX_LISTENER_INIT ((struct unix_listener){.fd = -1})

/**
 * unix_listen() - make the stream socket @path, which only its owner may connect to, and listen on it.
 * @backlog: connections that wait to be accepted.
 *
 * One that nobody listens on any more is replaced. The descriptor does not block.
 *
 * Return: 0; -EADDRINUSE if somebody listens there or @path is no socket; -ENAMETOOLONG; another -errno.
 */
int unix_listen(const char *path, int backlog, struct unix_listener *listener, struct error *err);

/** unix_listener_remove() - @path, if it is still the socket that unix_listen() made. The descriptor stays. */
void unix_listener_remove(const char *path, const struct unix_listener *listener);

#endif
