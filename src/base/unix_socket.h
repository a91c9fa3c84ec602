/* Listening on a UNIX socket in the file system. */
#ifndef HUSK_BASE_UNIX_SOCKET_H
#define HUSK_BASE_UNIX_SOCKET_H

#include "base/error.h"

/**
 * unix_listen() - make the stream socket @path, which only its owner may connect to, and listen on it.
 *
 * One that nobody listens on any more is replaced. The descriptor does not block.
 *
 * Return: the descriptor; -EADDRINUSE if somebody listens there or @path is no socket; -ENAMETOOLONG; another -errno.
 */
int unix_listen(const char *path, struct error *err);

#endif
