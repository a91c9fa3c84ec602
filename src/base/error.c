#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->hint[0] = '\0';
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    return code;
}

int error_set_errno(struct error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->hint[0] = '\0';
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);

    char reason[128];
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s",
             strerror_r(-code, reason, sizeof(reason)));
    return code;
}

int error_context(struct error *err, const char *fmt, ...)
{
    if (!err)
        return -EIO;
    char prefix[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(prefix, sizeof(prefix), fmt, args);
    va_end(args);
    if (len < 0)
        return err->code;

    char rest[ERROR_MESSAGE_MAX];
    memcpy(rest, err->message, sizeof(rest));
    snprintf(err->message, sizeof(err->message), "%s: ", prefix);
    size_t used = strlen(err->message);
    /* A message that no longer fits is cut at its end; what was being done stays readable. */
    size_t room = sizeof(err->message) - 1 - used;
    size_t n = strnlen(rest, room);
    memcpy(err->message + used, rest, n);
    err->message[used + n] = '\0';
    return err->code;
}

int error_hint(struct error *err, const char *fmt, ...)
{
    if (!err)
        return -EIO;
    if (err->hint[0] == '\0') {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->hint, sizeof(err->hint), fmt, args);
        va_end(args);
    }
    return err->code;
}
