/* What the two ends of the broker's socket share. Private to sandbox/. */
#ifndef HUSK_SANDBOX_BROKER_INTERNAL_H
#define HUSK_SANDBOX_BROKER_INTERNAL_H

#include "base/error.h"
#include "base/unix_socket.h"
#include "config/config.h"
#include "sandbox/broker.h"
#include "sandbox/source.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* Messages go over a SOCK_SEQPACKET pair, one request and one reply at a time; husk closing it ends the broker. */

enum broker_op { BROKER_CONNECT = 1, BROKER_KILL, BROKER_LISTEN };

struct broker_request {
    uint32_t op;       /* enum broker_op */
    uint32_t sequence; /* repeated by the reply */
    uint32_t device;   /* of BROKER_LISTEN: which console */
    uint32_t again;
};

/* Comes with the connection's descriptor, then the pidfd if there is one. */
struct broker_reply {
    uint32_t sequence;
    int32_t code; /* 0 or -errno */
    uint32_t n_fds;
    char message[ERROR_MESSAGE_MAX];
    char hint[ERROR_HINT_MAX];
};

#define BROKER_FDS_MAX 2

/* What the broker knows by the fork. */
struct broker_context {
    const struct vm_config *config;
    struct source_identity *identities; /* one a device */
    char program[PATH_MAX];             /* husk-backend */
    struct broker_lent lent;
    int fd; /* the broker's end of the socket */
};

#define BROKER_CONSOLES 3

/* The sockets of consoles. */
struct broker_sockets {
    struct unix_listener listeners[BROKER_CONSOLES]; /* fd -1: none, or handed over */
    struct error errors[BROKER_CONSOLES];
};

/** broker_console() - number @i of a configuration's consoles; NULL if it is on no socket. */
const struct console_config *broker_console(const struct vm_config *config, unsigned i);

/** broker_sockets_open() - all that @config asks for. Failures are told to whoever asks for the socket. */
void broker_sockets_open(const struct vm_config *config, struct broker_sockets *sockets);

/** broker_sockets_take() - the descriptor of console @i, or -errno. */
int broker_sockets_take(struct broker_sockets *sockets, unsigned i, struct error *err);

/** broker_sockets_remove() - those that were made. */
void broker_sockets_remove(const struct vm_config *config, struct broker_sockets *sockets);

/** broker_process() - the broker from its first to its last instruction: it ends when husk has closed its socket. */
_Noreturn void broker_process(const struct broker_context *context);

/** broker_cage() - put the broker in its cage: what it needs only once is open. 0 or -errno. */
int broker_cage(const struct broker_context *context, struct error *err);

/** broker_backend_exec() - become the back-end of @device; returns only on failure, -errno.
 * @socket_fd, @fds: handed to it, and @root_fd, unless that is -1; every other descriptor is closed but for the log, its standard error.
 * @root_fd: of struct namespaces.
 * @status_fd: stays open until exec.
 * @pid: what the broker knows this process by.
 */
int broker_backend_exec(const struct broker_context *context, const struct device_entry *device,
                        bool again, int socket_fd, const struct source_fds *fds, int root_fd,
                        int status_fd, pid_t pid);

#endif
