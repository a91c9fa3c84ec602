#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

/* How long a reader of the log that has fallen behind is waited for. */
#define PATIENCE_MS 1000

static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned lost_lines; /* under the lock */
static _Atomic int current_level = LOG_WARN;
static _Atomic int current_format = LOG_FORMAT_TEXT;
static _Atomic int current_fd = STDERR_FILENO;
static _Atomic int remembered_pid; /* 0: ask the kernel */

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_set_level(enum log_level level)
{
    current_level = (int)level;
}

int log_level_enabled(enum log_level level)
{
    return (int)level <= current_level;
}

void log_set_format(enum log_format format)
{
    current_format = (int)format;
}

enum log_format log_format_in_use(void)
{
    return (enum log_format)current_format;
}

int log_open(const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not open the log file '%s'", path);
    current_fd = fd;
    return 0;
}

void log_set_pid(int pid)
{
    remembered_pid = pid;
}

void log_remember_pid(void)
{
    char text[16];
    ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);
    if (n <= 0)
        return;
    text[n] = '\0';
    log_set_pid(atoi(text));
}

int log_pid(void)
{
    int pid = remembered_pid;
    return pid > 0 ? pid : (int)getpid();
}

int log_fd(void)
{
    return current_fd;
}

/** append_escaped() - add @text to @line, control characters (and, for JSON, quotes) as escapes. */
static size_t append_escaped(char *line, size_t used, size_t size, const char *text, int json)
{
    for (const unsigned char *p = (const unsigned char *)text; *p && used + 8 < size; p++) {
        if (*p < 0x20 || *p == 0x7f)
            used += (size_t)snprintf(line + used, size - used, json ? "\\u%04x" : "\\x%02x", *p);
        else if (json && (*p == '"' || *p == '\\'))
            used += (size_t)snprintf(line + used, size - used, "\\%c", *p);
        else
            line[used++] = (char)*p;
    }
    return used;
}

/** told_of_lost() - whether the log takes lines again and knows how many it has missed. */
static bool told_of_lost(int fd)
{
    char line[64];
    int len = snprintf(line, sizeof(line), "husk: %u lines of the log were lost\n", lost_lines);
    if (write(fd, line, (size_t)len) != len)
        return false;
    lost_lines = 0;
    return true;
}

/**
 * put_line() - whoever reads the log may have stopped: it is waited for once, and the guest goes on without it until it
 * reads again. The lock is for what poll() promises: one writer.
 */
static void put_line(const char *line, size_t len)
{
    pthread_mutex_lock(&write_lock);
    struct pollfd log = {.fd = current_fd, .events = POLLOUT};
    bool ready = poll(&log, 1, lost_lines ? 0 : PATIENCE_MS) > 0;
    if (ready && lost_lines)
        ready = told_of_lost(log.fd) && poll(&log, 1, 0) > 0;
    if (!ready || write(log.fd, line, len) < 0)
        lost_lines++;
    pthread_mutex_unlock(&write_lock);
}

void log_message(enum log_level level, const char *fmt, ...)
{
    if (!log_level_enabled(level))
        return;

    int saved_errno = errno;
    char message[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[40];
    size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp + n, sizeof(stamp) - n, ".%06ldZ", now.tv_nsec / 1000);

    char line[LINE_MAX_BYTES];
    size_t used;
    if (current_format == LOG_FORMAT_JSON) {
        used = (size_t)snprintf(line, sizeof(line),
                                "{\"time\":\"%s\",\"level\":\"%s\",\"pid\":%d,\"message\":\"",
                                stamp, level_names[level], log_pid());
        used = append_escaped(line, used, sizeof(line) - 4, message, 1);
        memcpy(line + used, "\"}\n", 3);
        used += 3;
    } else {
        used = (size_t)snprintf(line, sizeof(line), "husk[%d] %s %s: ", log_pid(), stamp,
                                level_names[level]);
        used = append_escaped(line, used, sizeof(line) - 4, message, 0);
        line[used++] = '\n';
    }
    put_line(line, used);
    errno = saved_errno;
}
