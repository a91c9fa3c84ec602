/*
 * The broker: the one process that opens what the command line named and starts back-ends, so that the VMM need do
 * neither. husk forks it before it has threads, a VM or a signal mask. It knows the configuration by the fork; a
 * request names a device by its number, never a path, and what it answers is a descriptor or a sentence.
 *
 * It ends when husk ends, however that comes about, and its back-ends end with it. It takes no part in the terminal's
 * signals: Ctrl-C is the guest's power button, not the end of its devices.
 */
#ifndef HUSK_SANDBOX_BROKER_H
#define HUSK_SANDBOX_BROKER_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;

enum { BROKER_CONSOLE_DATA, BROKER_CONSOLE_SIZE, BROKER_CONSOLE_CHANGE, BROKER_CONSOLE_FDS };

/* Descriptors of husk's that the broker keeps, as a back-end is made of them; -1: none. */
struct broker_lent {
    int console[BROKER_CONSOLE_FDS];
};

#define BROKER_LENT_NONE ((struct broker_lent){.console = {-1, -1, -1}})

/** broker_needed() - whether @config has a device, or a console on a socket. */
bool broker_needed(const struct vm_config *config);

/**
 * broker_start() - check what the devices of @config need, and fork the broker.
 * @config: validated, and broker_needed(); must outlive the broker.
 * @lent: needed for a --console that is not null.
 *
 * Checked before the fork, so that husk itself says what is wrong: what each device is made of is there and can be
 * opened as asked, nobody else holds a lock on a disk, no file is two writable disks, sockets are sockets, and
 * husk-backend is found. To be called with one thread.
 *
 * Return: the broker, or NULL with @err filled.
 */
struct broker *broker_start(const struct vm_config *config, const struct broker_lent *lent,
                            struct error *err);

/**
 * broker_connect() - start the back-end of device number @device (config/device_list.h), or connect to the one that another program runs.
 * @again: there was one before, whose lock on the disk may be released a little later than it ends.
 * @socket_fd: the connection, owned by the caller.
 * @pidfd: of husk's own back-end, owned by the caller; -1 for another program's.
 *
 * An earlier back-end of husk's for the same device has ended when the new one is started. Takes at most 5 seconds; from
 * any thread.
 *
 * Return: 0, or -errno: the file is gone or is another one (-ESTALE), nobody listens on the socket, ...
 */
int broker_connect(struct broker *broker, unsigned device, bool again, int *socket_fd, int *pidfd,
                   struct error *err);

/**
 * broker_listen() - the socket of @console, one of the configuration's, which the broker has made and will remove.
 *
 * Return: the descriptor, owned by the caller, once; -EADDRINUSE, or another -errno.
 */
int broker_listen(struct broker *broker, const struct console_config *console, struct error *err);

/** broker_kill() - end husk's own back-end of device number @device at once; from any thread. */
void broker_kill(struct broker *broker, unsigned device);

/**
 * broker_stop() - let the broker end, and wait for it; NULL is allowed.
 *
 * Back-ends whose connections are closed get two seconds to end by themselves.
 */
void broker_stop(struct broker *broker);

/**
 * broker_find_backend() - husk-backend: beside this program, else where it is installed.
 * @program: receives its path; PATH_MAX bytes.
 *
 * Return: 0, -ENOENT if it is in neither place, or another -errno.
 */
int broker_find_backend(char *program, struct error *err);

#endif
