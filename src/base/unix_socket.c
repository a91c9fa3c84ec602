#include "base/unix_socket.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/**
 * remove_stale() - a socket that nobody listens to any more. Returns -EADDRINUSE if somebody does; -EEXIST if it is none;
 * -EACCES if it is another user's, who may or may not.
 */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return -EADDRINUSE;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    /* A listener whose queue is full is one that is there: it is not waited for. */
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return -EADDRINUSE;
    if (errno != ECONNREFUSED)
        return errno == EACCES ? -EACCES : -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_socket(int fd, const struct sockaddr_un *address)
{
    /* Nobody but the owner may connect: the socket is made with that mode, not given it later. */
    mode_t mask = umask(0177);
    int ret = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
    if (ret == -EADDRINUSE && (ret = remove_stale(address)) == 0)
        ret = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
    umask(mask);
    return ret;
}

int unix_listen(const char *path, int backlog, struct unix_listener *listener, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st = {0};
    *listener = UNIX_LISTENER_INIT;
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "the socket's path is longer than %zu characters",
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not make a socket");
    int ret = bind_socket(fd, &address);
    if (ret == -EADDRINUSE)
        return error_set(err, ret, "'%s' is in use", path);
    if (ret == -EEXIST)
        return error_set(err, ret, "'%s' is there and is no socket", path);
    if (ret < 0)
        return error_set_errno(err, ret, "could not make the socket '%s'", path);
    if (listen(fd, backlog) < 0 || lstat(path, &st) < 0) {
        ret = -errno;
        unlink(path);
        return error_set_errno(err, ret, "could not listen on '%s'", path);
    }
    *listener = (struct unix_listener){.fd = take_fd(&fd), .dev = st.st_dev, .ino = st.st_ino};
    return 0;
}

void unix_listener_remove(const char *path, const struct unix_listener *listener)
{
    struct stat st;
    if (listener->ino && lstat(path, &st) == 0 && st.st_dev == listener->dev &&
        st.st_ino == listener->ino)
        unlink(path);
}
