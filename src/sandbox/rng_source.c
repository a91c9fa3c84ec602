/* What is behind --rng: a file that gives random bytes for as long as it is read. */
#include "sandbox/source.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>

static int cannot_open(const char *path, int code, struct error *err)
{
    error_set_errno(err, code, "could not open '%s'", path);
    source_hint(path, err);
    return code;
}

/** open_src() - returns the descriptor, which never blocks, or -errno. */
static int open_src(const char *path, struct source_identity *identity, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return cannot_open(path, -errno, err);
    if (!S_ISCHR(st.st_mode) && !S_ISFIFO(st.st_mode)) {
        error_set(err, -EINVAL, "'%s' is neither a character device nor a pipe", path);
        return error_hint(err, "a file ends, and gives every guest the same bytes; "
                               "src=/dev/urandom is the host's generator");
    }
    /* A pipe that is open for writing too does not end when its writer does. */
    int flags = S_ISFIFO(st.st_mode) ? O_RDWR : O_RDONLY;
    _cleanup_close_ int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return cannot_open(path, -errno, err);
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", path);
    *identity = source_identity_of(&st);
    return take_fd(&fd);
}

static int check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    _cleanup_close_ int fd = open_src(device->rng->src, identity, err);
    return fd < 0 ? fd : 0;
}

static int open_source(const struct device_entry *device, const struct source_identity *identity,
                       struct source_fds *fds, struct error *err)
{
    struct source_identity now = {0};
    int ret = source_check_path(device->rng->src, identity, err);
    if (ret < 0)
        return ret;
    _cleanup_close_ int fd = open_src(device->rng->src, &now, err);
    if (fd < 0)
        return fd;
    if (!source_same(&now, identity))
        return source_is_another(device->rng->src, err);
    fds->fds[fds->n++] = take_fd(&fd);
    return 0;
}

static void words(const struct device_entry *device, bool again, struct backend_words *to)
{
    (void)device, (void)again;
    backend_words_number(to, "--src-fd", BACKEND_FIRST_FD);
}

const struct source_kind rng_source = {
    .backend = "rng",
    .check = check,
    .open = open_source,
    .words = words,
};
