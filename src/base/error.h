/*
 * Errors as sentences. A function that can fail returns 0 or a negative errno and, on failure, fills the struct error
 * that its caller passed. Whoever knows what was being done puts that in front on the way up, and the sentence is
 * printed once, at the top.
 */
#ifndef HUSK_BASE_ERROR_H
#define HUSK_BASE_ERROR_H

#define ERROR_MESSAGE_MAX 1024
#define ERROR_HINT_MAX 512

struct error {
    int code;                        /* negative errno, 0 while there is no error */
    char message[ERROR_MESSAGE_MAX]; /* "what was being done: what went wrong" */
    char hint[ERROR_HINT_MAX];       /* what to do about it; empty if there is nothing to say */
};

#define ERROR_INIT ((struct error){0})

/**
 * error_set() - record a failure.
 * @err: where to record it; NULL if the caller does not want the text.
 * @code: negative errno.
 * @fmt: what is wrong, without a final full stop.
 *
 * Return: @code.
 */
int error_set(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** error_set_errno() - as error_set(), with ": " and the text of errno @code added. Returns @code. */
int error_set_errno(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** error_context() - put "@fmt: " before the recorded message. Returns the recorded code. */
int error_context(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** error_hint() - say what to do about it, as one sentence. Keeps an earlier hint. Returns the code. */
int error_hint(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
