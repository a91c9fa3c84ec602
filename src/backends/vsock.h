/*
 * The virtio socket device (virtio 1.2, 5.10): streams between programs in the guest and programs on the host. Host programs
 * connect to a UNIX socket and say "CONNECT PORT"; what the guest connects to is the UNIX socket PATH_PORT.
 */
#ifndef HUSK_BACKENDS_VSOCK_H
#define HUSK_BACKENDS_VSOCK_H

#include "backends/kind.h"
#include "backends/vsock_buffer.h"
#include "backends/vsock_connector.h"
#include "backends/vsock_credit.h"
#include "backends/vsock_hello.h"
#include "base/loop.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

#define VSOCK_QUEUE_SIZE_MAX 1024u
#define VSOCK_CONNECTIONS_MAX 1024u
/* Room for what one stream's host program has not read yet. */
#define VSOCK_BUFFER_BYTES (256u << 10)
/* Refusals of packets that belong to no connection, until the guest has room for them. */
#define VSOCK_REFUSALS_MAX 64u

enum vsock_state {
    VSOCK_HELLO,     /* a host program has connected, and has not said to which port */
    VSOCK_ASKED,     /* the guest wants a connection, and the host's side is being connected */
    VSOCK_REQUESTED, /* the host wants one, and the guest has not answered */
    VSOCK_OPEN,
    VSOCK_CLOSING,  /* nothing comes or goes any more; the guest has not said so yet */
    VSOCK_DRAINING, /* the guest has closed, and the host program has not read all that it sent */
};

/* Packets that a connection owes to the guest, in the order in which they are sent. */
enum vsock_owed {
    VSOCK_OWES_REQUEST = 1,
    VSOCK_OWES_RESPONSE = 2,
    VSOCK_OWES_CREDIT = 4,
    VSOCK_OWES_SHUTDOWN = 8,
    VSOCK_OWES_RST = 16, /* after which there is no connection */
};

struct vsock_connection {
    struct vsock_device *device;
    struct vsock_connection *next, **link; /* in its bucket */
    struct vsock_connection *next_ready,
        *previous_ready;  /* in the queue of those that have something for the guest */
    bool ready, readable; /* readable: the host's side may have bytes */
    bool over;            /* the guest was sent a RST */
    enum vsock_state state;
    unsigned owed;       /* enum vsock_owed */
    unsigned guest_shut; /* VSOCK_SHUT_*, as the guest said */
    unsigned our_shut;   /* the same, as the guest is to know it */
    uint32_t guest_port, host_port;
    int fd; /* the host's side; -1: none yet, or none any more */
    struct loop_source *source;
    struct vsock_hello hello;
    struct vsock_credit credit;
    struct vsock_buffer out; /* from the guest */
    uint64_t deadline_ms;    /* of states that wait; 0: none */
};

#define VSOCK_BUCKETS 256u

/* To the connector. */
struct vsock_question {
    struct vsock_connection *connection; /* NULL: gone since */
    uint32_t port;
};

struct vsock_device {
    uint64_t cid;
    int listener; /* host programs connect here; -1 for nowhere */
    struct loop_source *listener_source;
    bool crowded; /* there is no descriptor for another host program: the listener is not watched */
    struct vsock_connector connector;
    struct loop_source *connector_source;
    struct loop *loop;
    int timer_fd;
    struct vsock_connection *buckets[VSOCK_BUCKETS];
    struct vsock_connection *first_ready, *last_ready;
    struct vsock_question asked[VSOCK_CONNECTIONS_MAX]; /* by number, those that wait */
    uint32_t first_asked;                               /* the oldest's number */
    unsigned n_asked;
    unsigned n_connections;
    uint32_t next_port; /* the host's side of the next connection that the host begins */
    struct vsock_header refusals[VSOCK_REFUSALS_MAX];
    unsigned n_refusals;
    bool served;      /* queues have run, and what they shared with the driver is still there */
    bool lost_before; /* the driver knows of connections from before that */
};

/* --- vsock_connections.c: the table --- */

/** vsock_find() - NULL if there is none. */
struct vsock_connection *vsock_find(struct vsock_device *device, uint32_t guest_port,
                                    uint32_t host_port);

/** vsock_has_ports() - whether the guest may know it: not before a host program has said where to, nor what it has closed. */
bool vsock_has_ports(const struct vsock_connection *connection);

/** vsock_add() - NULL if there are VSOCK_CONNECTIONS_MAX, or no memory. */
struct vsock_connection *vsock_add(struct vsock_device *device, enum vsock_state state,
                                   uint32_t guest_port, uint32_t host_port);

/** vsock_drop() - close and forget it; nothing is sent to the guest. */
void vsock_drop(struct vsock_connection *connection);
void vsock_drop_all(struct vsock_device *device);

/** vsock_free_port() - a number for the host's side that no connection to @guest_port has. */
uint32_t vsock_free_port(struct vsock_device *device, uint32_t guest_port);

/** vsock_rename() - give a connection its ports. */
void vsock_rename(struct vsock_connection *connection, uint32_t guest_port, uint32_t host_port);

/** vsock_owe() - have a packet sent to the guest when it has room. */
void vsock_owe(struct vsock_connection *connection, unsigned owed);

/** vsock_owe_only_reset() - that there is no connection, whatever else the guest was to be told. */
void vsock_owe_only_reset(struct vsock_connection *connection);

/** vsock_take_ready() - the connection that has waited longest with something for the guest; NULL for none. It waits no more. */
struct vsock_connection *vsock_take_ready(struct vsock_device *device);

/** vsock_make_ready() - put it behind all others that have something for the guest. */
void vsock_make_ready(struct vsock_connection *connection);

/* --- vsock_host.c: the host's side --- */

/** vsock_host_start() - watch listener and connector. Returns 0 or -errno. */
int vsock_host_start(struct vsock_device *device);

/** vsock_host_make_way() - a descriptor may be free again for a host program that waits. */
void vsock_host_make_way(struct vsock_device *device);

/** vsock_host_ask() - have the connector connect to @connection->host_port. */
void vsock_host_ask(struct vsock_connection *connection);

/** vsock_host_accepted() - the guest has answered a request: tell the host program. */
void vsock_host_accepted(struct vsock_connection *connection);

/** vsock_host_write() - bytes from the guest, for which it had credit. */
void vsock_host_write(struct vsock_connection *connection, struct vsock_iov *data);

/** vsock_host_shut() - after @connection->guest_shut has changed. */
void vsock_host_shut(struct vsock_connection *connection);

/** vsock_host_end() - the guest has forgotten the connection. What it sent before it said that this was all is given on. */
void vsock_host_end(struct vsock_connection *connection);

/** vsock_host_closed() - has the host program closed its socket, or that side of it only that no bytes come from any more? */
bool vsock_host_closed(const struct vsock_connection *connection);

/** vsock_host_gone() - the host program has closed its socket: nobody reads what the guest sends. */
void vsock_host_gone(struct vsock_connection *connection);

/** vsock_host_watch() - for what matters now. */
void vsock_host_watch(struct vsock_connection *connection);

/** vsock_host_flush() - the guest has ended: give host programs that read what is left for them, for a second at most. */
void vsock_host_flush(struct vsock_device *device);

/** vsock_host_expire() - end what has waited too long. */
void vsock_host_expire(struct vsock_device *device, uint64_t now_ms);

/* --- vsock_guest.c: packets --- */

/** vsock_guest_packet() - one from the driver; @data is what is behind its header. */
void vsock_guest_packet(struct vsock_device *device, const struct vsock_header *header,
                        struct vsock_iov *data);

/** vsock_guest_refuse() - a RST for a packet of no connection. Returns false if there is no room to remember that. */
bool vsock_guest_refuse(struct vsock_device *device, const struct vsock_header *header);

/**
 * vsock_guest_next() - the next packet for the driver, into @buffers.
 *
 * Return: its length in bytes; 0 if there is none, or, as vsock_guest_waits() tells then, none that has room there.
 */
uint32_t vsock_guest_next(struct vsock_device *device, struct vsock_iov *buffers);

/** vsock_guest_waits() - whether there may be a packet for the driver. */
bool vsock_guest_waits(const struct vsock_device *device);

/* --- vsock_queue.c --- */

/** vsock_run_all() - serve; for vu_backend_ops. */
void vsock_run_all(void *device, struct vu_queue *const *queues);

/** vsock_now_ms() - of a clock that never goes back. */
uint64_t vsock_now_ms(void);

extern const struct backend_kind vsock_kind;

#endif
