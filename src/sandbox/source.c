/* What all kinds of devices have in common: the table of kinds, sockets of other programs, identities. */
#include "sandbox/source.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

/* How long to wait between two tries to connect to a back-end that has no room in its queue of connections. */
#define CONNECT_RETRY_NS 10000000

const struct source_kind *source_kind_of(const struct device_entry *device)
{
    static const struct source_kind *const kinds[] = {
        [DEVICE_DISK] = &disk_source,   [DEVICE_NET] = &net_source,
        [DEVICE_RNG] = &rng_source,     [DEVICE_CONSOLE] = &console_source,
        [DEVICE_VSOCK] = &vsock_source,
    };
    return kinds[device->kind];
}

static int check_socket(const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        int code = -errno;
        error_set_errno(err, code, "could not find the socket '%s'", path);
        if (code == -ENOENT)
            error_hint(err, "the program that serves it has to be started before husk");
        return code;
    }
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -ENOTSOCK, "'%s' is not a socket", path);
    return 0;
}

int source_check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    *identity = (struct source_identity){0};
    int ret = device->socket ? check_socket(device->socket, err)
                             : source_kind_of(device)->check(device, identity, err);
    return ret < 0 ? error_context(err, "%s: %s", device->option, device->id) : 0;
}

void source_hint(const char *path, struct error *err)
{
    static const char *const places[] = {"/dev/fd/", "/dev/std", "/proc/"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (strncmp(path, places[i], strlen(places[i])) == 0)
            error_hint(err, "name the file itself: husk keeps no descriptor that no option names, "
                            "and its broker sees no /proc");
}

/** folder_is_gone() - the folder of @path is one that has been removed, of which the broker's view keeps a hold (view.h). */
static bool folder_is_gone(const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    struct stat st;
    return copy && stat(dirname(copy), &st) == 0 && st.st_nlink == 0;
}

int source_connect(const char *path, int timeout_ms, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "the path '%s' is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not make a socket");
    int ret;
    for (long waited = 0;; waited += CONNECT_RETRY_NS / 1000000) {
        ret = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        if (ret != -EAGAIN || waited >= timeout_ms)
            break;
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_RETRY_NS}, NULL);
    }
    if (ret < 0) {
        error_set_errno(err, ret, "could not connect to '%s'", path);
        if (ret == -ECONNREFUSED)
            error_hint(err, "the program that served it has ended");
        if (ret == -ENOENT && folder_is_gone(path))
            error_hint(err,
                       "the folder it was in has been removed since husk started, and husk does "
                       "not see another in its place");
        return ret;
    }
    if (fcntl(fd, F_SETFL, 0) < 0)
        return error_set_errno(err, -errno, "could not use the socket");
    return take_fd(&fd);
}

void source_fds_close(struct source_fds *fds)
{
    while (fds->n)
        close(fds->fds[--fds->n]);
}

struct source_identity source_identity_of(const struct stat *st)
{
    return (struct source_identity){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .rdev = S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode) ? st->st_rdev : 0,
    };
}

int source_is_another(const char *path, struct error *err)
{
    return error_set(err, -ESTALE, "'%s' is another file than when husk started", path);
}

int source_check_path(const char *path, const struct source_identity *identity, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return 0;
    struct source_identity now = source_identity_of(&st);
    return source_same(&now, identity) ? 0 : source_is_another(path, err);
}

bool source_same(const struct source_identity *a, const struct source_identity *b)
{
    if (a->rdev || b->rdev)
        return a->rdev == b->rdev;
    return a->ino && a->dev == b->dev && a->ino == b->ino;
}
