/* What the two ends of the broker's socket share. Private to sandbox/. */
#ifndef HUSK_SANDBOX_BROKER_INTERNAL_H
#define HUSK_SANDBOX_BROKER_INTERNAL_H

#include "base/error.h"
#include "config/config.h"
#include "sandbox/broker.h"
#include "sandbox/source.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* Messages go over a SOCK_SEQPACKET pair, one request and one reply at a time; husk closing it ends the broker. */

enum broker_op { BROKER_CONNECT = 1, BROKER_KILL };

struct broker_request {
    uint32_t op;       /* enum broker_op */
    uint32_t sequence; /* repeated by the reply */
    uint32_t device;
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

/** broker_process() - the broker from its first to its last instruction. @parent: husk's process id. */
_Noreturn void broker_process(const struct broker_context *context, int parent);

/** broker_backend_exec() - become the back-end of @device; returns only on failure, -errno.
 * @socket_fd, @fds: handed to it; every other descriptor is closed but for the log, its standard error.
 * @status_fd: stays open until exec.
 */
int broker_backend_exec(const char *program, const struct device_entry *device, bool again,
                        int socket_fd, const struct source_fds *fds, int status_fd);

#endif
