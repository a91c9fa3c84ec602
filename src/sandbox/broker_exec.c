/* The last steps before a back-end: its words, its descriptors, and exec. */
#include "sandbox/broker_internal.h"

#include "base/log.h"
#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Log, connection, the empty root and the pipe that exec closes, beside the kind's own. */
#define FDS_MAX (SOURCE_FDS_MAX + 4)

static void make_words(struct backend_words *words, const char *program,
                       const struct device_entry *device, bool again, int root_fd, pid_t pid,
                       enum seccomp_mode seccomp)
{
    const struct source_kind *kind = source_kind_of(device);
    backend_words_add(words, program);
    backend_words_add(words, kind->backend);
    backend_words_number(words, "--fd", BACKEND_SOCKET_FD);
    backend_words_text(words, "--name", device->id);
    kind->words(device, again, words);
    if (seccomp != SECCOMP_ON)
        backend_words_text(words, "--seccomp", seccomp_mode_name(seccomp));
    if (log_format_in_use() == LOG_FORMAT_JSON)
        backend_words_text(words, "--log-format", "json");
    if (log_level_enabled(LOG_INFO))
        backend_words_add(words, "-v");
    if (log_level_enabled(LOG_DEBUG))
        backend_words_add(words, "-v");
    if (root_fd >= 0)
        backend_words_number(words, "--root-fd", (uint64_t)root_fd);
    backend_words_number(words, "--pid", (uint64_t)pid);
    words->argv[words->n] = NULL;
}

/** place_fds() - @from[i] at number @to[i], the last one to be closed by exec; all but those and 0 to 2 closed. */
static int place_fds(const int *from, const int *to, unsigned n)
{
    int moved[FDS_MAX], first_free = to[n - 1] + 1;
    /* Out of the way first: one's place may be another's number. */
    for (unsigned i = 0; i < n; i++) {
        moved[i] = fcntl(from[i], F_DUPFD_CLOEXEC, first_free);
        if (moved[i] < 0)
            return -errno;
    }
    for (unsigned i = 0; i < n; i++)
        if (dup3(moved[i], to[i], i == n - 1 ? O_CLOEXEC : 0) < 0)
            return -errno;
    return close_range((unsigned)first_free, ~0u, 0) < 0 ? -errno : 0;
}

int broker_backend_exec(const struct broker_context *context, const struct device_entry *device,
                        bool again, int socket_fd, const struct source_fds *fds, int root_fd,
                        int status_fd, pid_t pid)
{
    int from[FDS_MAX] = {log_fd(), socket_fd}, to[FDS_MAX] = {STDERR_FILENO, BACKEND_SOCKET_FD};
    unsigned n = 2;
    for (unsigned i = 0; i < fds->n; i++, n++) {
        from[n] = fds->fds[i];
        to[n] = BACKEND_FIRST_FD + (int)i;
    }
    int next = BACKEND_FIRST_FD + (int)fds->n, root_at = -1;
    if (root_fd >= 0) {
        from[n] = root_fd;
        to[n++] = root_at = next++;
    }
    from[n] = status_fd;
    to[n++] = next;
    int ret = place_fds(from, to, n);
    if (ret < 0)
        return ret;
    struct backend_words words = {.n = 0};
    make_words(&words, context->program, device, again, root_at, pid,
               (enum seccomp_mode)context->config->seccomp);
    execv(context->program, (char *const *)words.argv);
    return -errno;
}
