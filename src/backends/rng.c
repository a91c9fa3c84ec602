/* A virtio entropy device over a character device or a pipe, put together from its options. */
#include "backends/rng.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_SRC "/dev/urandom"

enum option_id { OPT_SRC = BACKEND_OPTION_FIRST, OPT_SRC_FD };

struct rng {
    char *src; /* NULL: not given */
    int src_fd;
    struct rng_device device;
};

static const struct option long_options[] = {
    {"src", required_argument, NULL, OPT_SRC},
    {"src-fd", required_argument, NULL, OPT_SRC_FD},
    {0},
};

static const char help[] =
    "  --src PATH           the source, a character device or a pipe (" DEFAULT_SRC ")\n"
    "  --src-fd N           the same, already open\n";

static void run(void *device, struct vu_queue *queue)
{
    rng_run(device, queue);
}

static const struct vu_backend_ops ops = {.run = run};

static void *create(void)
{
    struct rng *rng = calloc(1, sizeof(*rng));
    if (!rng)
        return NULL;
    rng->src_fd = rng->device.src_fd = -1;
    return rng;
}

static int set(void *state, int val, const char *value, struct error *err)
{
    struct rng *rng = state;
    uint64_t fd;
    if (val == OPT_SRC_FD) {
        if (units_parse_size(value, &fd) < 0 || fd > INT_MAX)
            return error_set(err, -EINVAL, "--src-fd %s: not a descriptor", value);
        rng->src_fd = (int)fd;
        return 0;
    }
    free(rng->src);
    rng->src = strdup(value);
    return rng->src ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/** open_src() - returns the descriptor, which does not block, or -errno. */
static int open_src(const char *path, struct error *err)
{
    struct stat st;
    /* A pipe that is open for writing too does not end when its writer does. */
    int flags = stat(path, &st) == 0 && S_ISFIFO(st.st_mode) ? O_RDWR : O_RDONLY;
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? error_set_errno(err, -errno, "could not open '%s'", path) : fd;
}

/** take_src() - the descriptor of the source, whoever opened it. A regular file ends, and is no source. */
static int take_src(struct rng *rng, struct error *err)
{
    int fd = rng->device.src_fd =
        rng->src_fd >= 0 ? rng->src_fd : open_src(rng->src ? rng->src : DEFAULT_SRC, err);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return error_set_errno(err, -errno, "could not use the source");
    if (!S_ISCHR(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
        return error_set(err, -EIO, "the source is neither a character device nor a pipe");
    return 0;
}

static int open_rng(void *state, struct vu_backend *backend, struct error *err)
{
    struct rng *rng = state;
    if (rng->src && rng->src_fd >= 0)
        return error_set(err, -EINVAL, "give either --src or --src-fd");
    int ret = take_src(rng, err);
    if (ret < 0) /* -EINVAL is for options alone */
        return ret == -EINVAL ? -EIO : ret;
    backend->ops = &ops;
    backend->device = &rng->device;
    backend->n_queues = 1;
    backend->queue_size = RNG_QUEUE_SIZE_MAX;
    backend->in_order = true;
    return 0;
}

static void destroy(void *state)
{
    struct rng *rng = state;
    if (rng->device.src_fd >= 0)
        close(rng->device.src_fd);
    explicit_bzero(rng->device.pool, sizeof(rng->device.pool));
    free(rng->src);
    free(rng);
}

const struct backend_kind rng_kind = {
    .name = "rng",
    .role = CAGE_RNG,
    .summary = "random bytes",
    .help = help,
    .options = long_options,
    .create = create,
    .set = set,
    .open = open_rng,
    .destroy = destroy,
};
