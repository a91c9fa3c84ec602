#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static _Atomic int current_level = LOG_WARN;
static _Atomic int current_format = LOG_FORMAT_TEXT;
static _Atomic int current_fd = STDERR_FILENO;

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
                                stamp, level_names[level], (int)getpid());
        used = append_escaped(line, used, sizeof(line) - 4, message, 1);
        memcpy(line + used, "\"}\n", 3);
        used += 3;
    } else {
        used = (size_t)snprintf(line, sizeof(line), "husk[%d] %s %s: ", (int)getpid(), stamp,
                                level_names[level]);
        used = append_escaped(line, used, sizeof(line) - 4, message, 0);
        line[used++] = '\n';
    }
    /* Nobody can be told that the log itself cannot be written. */
    if (write(current_fd, line, used) < 0)
        (void)0;
    errno = saved_errno;
}
