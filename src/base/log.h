/*
 * Log lines. One write(2) a line, so that lines of several threads and processes never mix. Standard error until
 * log_open() names a file.
 */
#ifndef HUSK_BASE_LOG_H
#define HUSK_BASE_LOG_H

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/** log_set_level() - the least important level that is still written; LOG_WARN at start. */
void log_set_level(enum log_level level);

/** log_level_enabled() - whether a line of @level would be written. */
int log_level_enabled(enum log_level level);

/** log_set_format() - text for people, or one JSON object a line (time, level, message). */
void log_set_format(enum log_format format);

/** log_format_in_use() - what log_set_format() said. */
enum log_format log_format_in_use(void);

/** log_open() - append to @path from now on; created with mode 0600. Returns 0 or -errno. */
int log_open(const char *path, struct error *err);

/** log_set_pid() - the number that the host knows this process by, though it may be 1 to itself. */
void log_set_pid(int pid);

/** log_remember_pid() - the same, if it can be found out. */
void log_remember_pid(void);

/** log_pid() - what lines tell. */
int log_pid(void);

/** log_fd() - the descriptor lines go to, for a child process to inherit. */
int log_fd(void);

/** log_message() - write one line; use the macros. Line breaks and control characters in it are escaped. */
void log_message(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_message(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_message(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                           \
    do {                                         \
        if (log_level_enabled(LOG_DEBUG))        \
            log_message(LOG_DEBUG, __VA_ARGS__); \
    } while (0)

#endif
