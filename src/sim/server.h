/* The simulator process's side of the sockets. */
#ifndef HUSK_SIM_SERVER_H
#define HUSK_SIM_SERVER_H

#include "base/error.h"
#include "base/loop.h"
#include "sim/model.h"

struct server;

/**
 * server_new() - serve the processes that come in by the door.
 * @door: the simulator's end of the door; stays the caller's.
 * @idle: called when the last process is gone; may be NULL.
 *
 * Return: the server, or NULL with @err filled.
 */
struct server *server_new(struct model *model, struct loop *loop, int door, void (*idle)(void *ctx),
                          void *ctx, struct error *err);

/** server_clients() - processes that are connected. */
size_t server_clients(const struct server *server);

/** server_free() - drop every connection. */
void server_free(struct server *server);

#endif
