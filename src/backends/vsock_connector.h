/*
 * Connecting to a guest's listeners on the host. The device's own process may connect to nothing: it asks another one, forked before the
 * cage is shut, which knows one path only and answers with a descriptor.
 */
#ifndef HUSK_BACKENDS_VSOCK_CONNECTOR_H
#define HUSK_BACKENDS_VSOCK_CONNECTOR_H

#include "backends/server.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct vsock_connector {
    int fd; /* SOCK_SEQPACKET, does not block; readable when there are answers. -1: none was started */
    pid_t pid;
};

/* An answer, and the question that it belongs to. */
struct vsock_answer {
    uint32_t number, port;
    int result; /* a connected stream socket that does not block, the caller's; or -errno */
};

#define VSOCK_CONNECTOR_INIT ((struct vsock_connector){.fd = -1})

/**
 * vsock_connector_start() - fork the process that connects to "@path_PORT", and is put in a cage of its own.
 * @remove: whether the socket @path is removed by vsock_connector_stop(). If the device's process is killed it stays, without
 * a listener, and the next to listen there replaces it.
 * @of: gives its name and the mode of its filter.
 *
 * It ends when the descriptor is closed. Return: 0 or -errno with @err filled.
 */
int vsock_connector_start(struct vsock_connector *connector, const char *path, bool remove,
                          const struct vu_backend *of, struct error *err);

/** vsock_connector_ask() - for a connection to port @port. Answers come in the order of the questions.
 * @number: the question's, which comes back with its answer.
 *
 * Return: 0; -EAGAIN if too many questions wait already; another -errno if there is nobody to ask.
 */
int vsock_connector_ask(const struct vsock_connector *connector, uint32_t number, uint32_t port);

/**
 * vsock_connector_answer() - the answer to the oldest question.
 *
 * Return: 1 with @answer filled; 0 if there is none yet; -EPIPE if there is nobody to answer any more; -EPROTO if what came is
 * no answer.
 */
int vsock_connector_answer(const struct vsock_connector *connector, struct vsock_answer *answer);

/** vsock_connector_leave() - it is asked nothing any more, and ends. */
void vsock_connector_leave(const struct vsock_connector *connector);

/** vsock_connector_stop() - wait for its end, before which it has done all that it was asked. */
void vsock_connector_stop(struct vsock_connector *connector);

#endif
