/* The last steps before a back-end: its words, its descriptors, and exec. */
#include "sandbox/broker_internal.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the back-end finds what it is given. */
#define BACKEND_SOCKET_FD 3
#define BACKEND_DISK_FD 4
#define BACKEND_STATUS_FD 5 /* closed by exec */
#define BACKEND_FDS 6

/* How long a back-end that is started again waits for the lock of the one before, whose last writes the kernel may
 * still be at. */
#define LOCK_WAIT_MS 5000

#define WORDS_MAX 48
#define WORD_BYTES 32

struct words {
    const char *argv[WORDS_MAX + 1];
    unsigned n;
    char numbers[WORDS_MAX][WORD_BYTES];
};

static void add(struct words *words, const char *word)
{
    if (words->n < WORDS_MAX)
        words->argv[words->n++] = word;
}

/** add_number() - "@name @value" as two words. */
static void add_number(struct words *words, const char *name, uint64_t value)
{
    add(words, name);
    if (words->n == WORDS_MAX)
        return;
    char *text = words->numbers[words->n];
    snprintf(text, WORD_BYTES, "%" PRIu64, value);
    add(words, text);
}

static void add_text(struct words *words, const char *name, const char *text)
{
    add(words, name);
    add(words, text);
}

/** add_limit() - "--bw-size" and its relatives, if there is a limit. */
static void add_limit(struct words *words, const char *const names[3],
                      const struct rate_limit_config *limit)
{
    if (!limit->size)
        return;
    add_number(words, names[0], limit->size);
    if (limit->one_time_burst)
        add_number(words, names[1], limit->one_time_burst);
    add_number(words, names[2], limit->refill_time);
}

static void make_words(struct words *words, const char *program, const struct disk_config *disk,
                       bool again)
{
    static const char *const bandwidth[] = {"--bw-size", "--bw-one-time-burst", "--bw-refill-time"};
    static const char *const ops[] = {"--ops-size", "--ops-one-time-burst", "--ops-refill-time"};
    add(words, program);
    add(words, "blk");
    add_number(words, "--fd", BACKEND_SOCKET_FD);
    add_number(words, "--file-fd", BACKEND_DISK_FD);
    add_text(words, "--name", disk->id);
    add_number(words, "--num-queues", disk->num_queues);
    add_number(words, "--queue-size", disk->queue_size);
    add_text(words, "--lock", disk->lock_granularity == LOCK_FULL ? "full" : "byte-range");
    if (again)
        add_number(words, "--lock-wait", LOCK_WAIT_MS);
    if (disk->readonly)
        add(words, "--readonly");
    if (disk->direct)
        add(words, "--direct");
    if (disk->serial)
        add_text(words, "--serial", disk->serial);
    add_limit(words, bandwidth, &disk->bandwidth);
    add_limit(words, ops, &disk->ops);
    if (log_format_in_use() == LOG_FORMAT_JSON)
        add_text(words, "--log-format", "json");
    if (log_level_enabled(LOG_INFO))
        add(words, "-v");
    if (log_level_enabled(LOG_DEBUG))
        add(words, "-v");
    words->argv[words->n] = NULL;
}

/** place_fds() - @from[i] at number @to[i], everything else but standard input and output closed. */
static int place_fds(const int *from, const int *to, unsigned n)
{
    int moved[4];
    /* Out of the way first: one's place may be another's number. */
    for (unsigned i = 0; i < n; i++) {
        moved[i] = fcntl(from[i], F_DUPFD_CLOEXEC, BACKEND_FDS);
        if (moved[i] < 0)
            return -errno;
    }
    for (unsigned i = 0; i < n; i++)
        if (dup3(moved[i], to[i], to[i] == BACKEND_STATUS_FD ? O_CLOEXEC : 0) < 0)
            return -errno;
    return close_range(BACKEND_FDS, ~0u, 0) < 0 ? -errno : 0;
}

int broker_backend_exec(const char *program, const struct disk_config *disk, bool again,
                        int socket_fd, int disk_fd, int status_fd)
{
    const int from[] = {log_fd(), socket_fd, disk_fd, status_fd};
    const int to[] = {STDERR_FILENO, BACKEND_SOCKET_FD, BACKEND_DISK_FD, BACKEND_STATUS_FD};
    int ret = place_fds(from, to, ARRAY_SIZE(from));
    if (ret < 0)
        return ret;
    struct words words = {.n = 0};
    make_words(&words, program, disk, again);
    execv(program, (char *const *)words.argv);
    return -errno;
}
