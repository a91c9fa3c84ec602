/* What is behind --console: ends of a socket, a file and an eventfd that husk made before the broker was forked. */
#include "sandbox/source.h"

#include <errno.h>
#include <fcntl.h>

static int check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    (void)device, (void)identity, (void)err;
    return 0;
}

static int hold(const struct device_entry *device, const struct broker_lent *lent,
                struct source_fds *fds, struct error *err)
{
    if (device->console->mode == CONSOLE_NULL)
        return 0;
    for (unsigned i = 0; i < BROKER_CONSOLE_FDS; i++) {
        int fd = fcntl(lent->console[i], F_DUPFD_CLOEXEC, BACKEND_FIRST_FD);
        if (fd < 0)
            return error_set_errno(err, -errno, "the console's socket cannot be kept");
        fds->fds[fds->n++] = fd;
    }
    return 0;
}

static void words(const struct device_entry *device, bool again, struct backend_words *to)
{
    (void)again;
    if (device->console->mode == CONSOLE_NULL) {
        backend_words_add(to, "--null");
        return;
    }
    backend_words_number(to, "--data-fd", BACKEND_FIRST_FD + BROKER_CONSOLE_DATA);
    backend_words_number(to, "--size-fd", BACKEND_FIRST_FD + BROKER_CONSOLE_SIZE);
    backend_words_number(to, "--change-fd", BACKEND_FIRST_FD + BROKER_CONSOLE_CHANGE);
}

const struct source_kind console_source = {
    .backend = "console",
    .check = check,
    .hold = hold,
    .words = words,
};
