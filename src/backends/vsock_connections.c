/* The connections of a virtio socket device, by their ports, and the queue of those that have something for the guest. */
#include "backends/vsock.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <unistd.h>

/* Numbers for the host's side that programs do not ask for by habit. */
#define FIRST_PORT (1u << 30)

static struct vsock_connection **bucket(struct vsock_device *device, uint32_t guest_port,
                                        uint32_t host_port)
{
    return &device->buckets[(guest_port * 31 + host_port) % VSOCK_BUCKETS];
}

bool vsock_has_ports(const struct vsock_connection *connection)
{
    return connection->state != VSOCK_HELLO && connection->state != VSOCK_DRAINING;
}

struct vsock_connection *vsock_find(struct vsock_device *device, uint32_t guest_port,
                                    uint32_t host_port)
{
    struct vsock_connection *c = *bucket(device, guest_port, host_port);
    while (c && (c->guest_port != guest_port || c->host_port != host_port || !vsock_has_ports(c)))
        c = c->next;
    return c;
}

static void link_in(struct vsock_connection *connection)
{
    struct vsock_connection **at =
        bucket(connection->device, connection->guest_port, connection->host_port);
    connection->next = *at;
    connection->link = at;
    if (*at)
        (*at)->link = &connection->next;
    *at = connection;
}

static void link_out(struct vsock_connection *connection)
{
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
}

struct vsock_connection *vsock_add(struct vsock_device *device, enum vsock_state state,
                                   uint32_t guest_port, uint32_t host_port)
{
    struct vsock_connection *connection =
        device->n_connections < VSOCK_CONNECTIONS_MAX ? calloc(1, sizeof(*connection)) : NULL;
    if (!connection)
        return NULL;
    *connection = (struct vsock_connection){
        .device = device,
        .state = state,
        .guest_port = guest_port,
        .host_port = host_port,
        .fd = -1,
        .credit.room = VSOCK_BUFFER_BYTES,
        .out.size = VSOCK_BUFFER_BYTES,
    };
    link_in(connection);
    device->n_connections++;
    return connection;
}

void vsock_rename(struct vsock_connection *connection, uint32_t guest_port, uint32_t host_port)
{
    link_out(connection);
    connection->guest_port = guest_port;
    connection->host_port = host_port;
    link_in(connection);
}

void vsock_make_ready(struct vsock_connection *connection)
{
    struct vsock_device *device = connection->device;
    if (connection->ready)
        return;
    connection->ready = true;
    connection->next_ready = NULL;
    connection->previous_ready = device->last_ready;
    if (device->last_ready)
        device->last_ready->next_ready = connection;
    else
        device->first_ready = connection;
    device->last_ready = connection;
}

static void make_unready(struct vsock_connection *connection)
{
    struct vsock_device *device = connection->device;
    if (!connection->ready)
        return;
    connection->ready = false;
    if (connection->previous_ready)
        connection->previous_ready->next_ready = connection->next_ready;
    else
        device->first_ready = connection->next_ready;
    if (connection->next_ready)
        connection->next_ready->previous_ready = connection->previous_ready;
    else
        device->last_ready = connection->previous_ready;
}

struct vsock_connection *vsock_take_ready(struct vsock_device *device)
{
    struct vsock_connection *connection = device->first_ready;
    if (connection)
        make_unready(connection);
    return connection;
}

void vsock_owe(struct vsock_connection *connection, unsigned owed)
{
    connection->owed |= owed;
    vsock_make_ready(connection);
}

void vsock_owe_only_reset(struct vsock_connection *connection)
{
    connection->owed = 0;
    vsock_owe(connection, VSOCK_OWES_RST);
}

void vsock_drop(struct vsock_connection *connection)
{
    struct vsock_device *device = connection->device;
    /* The connector's answer finds nobody. */
    for (unsigned i = 0; i < device->n_asked; i++) {
        uint32_t at = (device->first_asked + i) % VSOCK_CONNECTIONS_MAX;
        if (device->asked[at].connection == connection)
            device->asked[at].connection = NULL;
    }
    make_unready(connection);
    link_out(connection);
    loop_remove(connection->source);
    if (connection->fd >= 0)
        close(connection->fd);
    free(connection->out.bytes);
    free(connection);
    device->n_connections--;
    vsock_host_make_way(device);
}

void vsock_drop_all(struct vsock_device *device)
{
    for (size_t i = 0; i < ARRAY_SIZE(device->buckets); i++)
        while (device->buckets[i])
            vsock_drop(device->buckets[i]);
    device->n_refusals = 0;
}

uint32_t vsock_free_port(struct vsock_device *device, uint32_t guest_port)
{
    do {
        if (++device->next_port < FIRST_PORT || device->next_port == UINT32_MAX)
            device->next_port = FIRST_PORT;
    } while (vsock_find(device, guest_port, device->next_port));
    return device->next_port;
}
