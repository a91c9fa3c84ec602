#include "backends/server_internal.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/** wait_for() - until @fd or @stop_fd is readable. Returns 1 for @fd, 0 for @stop_fd, or -errno. */
static int wait_for(int fd, int stop_fd)
{
    struct pollfd of[] = {{.fd = fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
    while (poll(of, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return of[1].revents ? 0 : 1;
}

/** serve() - message after message. Returns 0 at the end, -errno if there was no proper one. */
static int serve(struct vu_server *server, int stop_fd, struct error *err)
{
    for (;;) {
        struct vhost_user_msg msg;
        struct vhost_user_fds fds;
        int ret = wait_for(server->fd, stop_fd);
        if (ret < 0)
            return error_set_errno(err, ret, "no message can be waited for");
        if (ret > 0)
            ret = vhost_user_recv(server->fd, &msg, &fds, SERVER_TIMEOUT_MS, err);
        if (ret <= 0)
            return ret;
        ret = message_handle(server, &msg, &fds, err);
        if (ret < 0)
            return ret;
    }
}

int vu_serve(struct vu_backend *backend, int fd, int stop_fd, struct error *err)
{
    struct vu_server server = {
        .backend = backend, .fd = fd, .log_fd = -1, .backend_fd = -1, .reply_fd = -1};
    int ret = rings_create(&server, err);
    if (ret == 0)
        ret = serve(&server, stop_fd, err);
    rings_pause(&server);
    rings_stopped(&server);
    rings_destroy(&server);
    guest_map_clear(&server.map);
    dirty_log_unmap(&server.log);
    inflight_unmap(&server.inflight);
    if (server.log_fd >= 0)
        close(server.log_fd);
    if (server.backend_fd >= 0)
        close(server.backend_fd);
    close(fd);
    return ret;
}

/**
 * remove_stale() - a socket that a dead process left behind. Returns 0; -EADDRINUSE if somebody listens there; -EEXIST
 * if something else is there, which connect(2) cannot tell from a dead socket.
 */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return -EADDRINUSE;
    if (errno != ECONNREFUSED)
        return errno == ENOENT ? 0 : -errno;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

int vu_listen(const char *path, int backlog, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "socket %s: a socket's path has at most %zu bytes",
                         path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    int ret = remove_stale(&address);
    if (ret == -EADDRINUSE)
        return error_set(err, ret, "socket %s: another process listens there", path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ret == 0 && (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
                     listen(fd, backlog) < 0))
        ret = -errno;
    if (ret < 0)
        return error_set_errno(err, ret, "socket %s cannot be listened on", path);
    return take_fd(&fd);
}

int vu_serve_path(struct vu_backend *backend, int listener, const char *path, int stop_fd,
                  struct error *err)
{
    int ret;
    while ((ret = wait_for(listener, stop_fd)) > 0) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
            ret = -errno;
            break;
        }
        struct error why = ERROR_INIT;
        if (fd >= 0 && vu_serve(backend, fd, stop_fd, &why) < 0)
            log_error("%s: the connection was ended: %s", backend->name, why.message);
    }
    close(listener);
    unlink(path);
    return ret < 0 ? error_set_errno(err, ret, "socket %s", path) : 0;
}
