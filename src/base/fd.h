/* Descriptors: reads and writes that do not stop half-way. */
#ifndef HUSK_BASE_FD_H
#define HUSK_BASE_FD_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * fd_fill_standard() - open /dev/null as standard input, output and error where they are closed, so that no file opened
 * later is taken for one of them.
 */
void fd_fill_standard(void);

/** fd_close_others() - every descriptor above standard error but the @n of @keep (-1: none), which is put in order. */
void fd_close_others(int *keep, unsigned n);

/**
 * fd_close_inherited() - every descriptor above standard error that was there before this program: husk opens none that exec would not
 * close, so that those are they.
 * @keep: @n that stay.
 */
void fd_close_inherited(const int *keep, unsigned n);

/** fd_open_file() - open @path for reading, close-on-exec, and refuse anything but a regular file.
 * @size: the file's size in bytes.
 *
 * Return: the descriptor, or -errno with @err filled ("could not open ...").
 */
int fd_open_file(const char *path, uint64_t *size, struct error *err);

/** fd_pread_full() - exactly @len bytes from @offset. Returns 0, -ENODATA if the file ends before, or -errno. */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t offset);

/** fd_write_full() - all of @len bytes. Returns 0 or -errno. */
int fd_write_full(int fd, const void *buf, size_t len);

/** fd_set_nonblock() - set O_NONBLOCK. Returns 0 or -errno. */
int fd_set_nonblock(int fd);

/**
 * fd_signal() - count an eventfd up by one without ever waiting, though another process that holds it has filled it and
 * made it blocking.
 */
void fd_signal(int event_fd);

/** fd_unsignal() - count an eventfd down to zero, without ever waiting either. */
void fd_unsignal(int event_fd);

#endif
