/* What is behind --vsock: the socket that host programs connect to. The broker holds it, so that those which connect while a
 * back-end is started again wait. */
#include "sandbox/source.h"

#include "base/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#define BACKLOG 128
/* "_4294967295", which the guest's connections have behind the path. */
#define PORT_BYTES 11

static int check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    (void)identity;
    size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - PORT_BYTES;
    if (strlen(device->vsock->socket) > most)
        return error_set(err, -ENAMETOOLONG,
                         "socket: the path is longer than %zu characters, and PATH_PORT has to be "
                         "one of a socket",
                         most);
    return 0;
}

static int hold(const struct device_entry *device, const struct broker_lent *lent,
                struct source_fds *fds, struct error *err)
{
    (void)lent;
    const char *path = device->vsock->socket;
    int ret = unix_listen(path, BACKLOG, &fds->made, err);
    if (ret < 0)
        return ret;
    fds->made_path = path;
    fds->fds[fds->n++] = fds->made.fd;
    return 0;
}

static void words(const struct device_entry *device, bool again, struct backend_words *to)
{
    (void)again;
    backend_words_number(to, "--cid", device->vsock->cid);
    backend_words_text(to, "--uds", device->vsock->socket);
    backend_words_number(to, "--listen-fd", BACKEND_FIRST_FD);
}

const struct source_kind vsock_source = {
    .backend = "vsock",
    .check = check,
    .hold = hold,
    .words = words,
};
