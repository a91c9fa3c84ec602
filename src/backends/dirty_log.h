/* The log of pages a back-end wrote, one bit a page of 4 KiB, in memory shared with the front-end (migration). */
#ifndef HUSK_BACKENDS_DIRTY_LOG_H
#define HUSK_BACKENDS_DIRTY_LOG_H

#include "base/error.h"
#include "virtio/vhost_user.h"

#include <stddef.h>
#include <stdint.h>

struct dirty_log {
    uint8_t *bits;  /* NULL without a log; bit 0 of byte 0 is page 0 */
    uint64_t bytes; /* what lies beyond is not logged: the front-end sized it */
    void *mapping;
    size_t mapping_len;
};

/**
 * dirty_log_map() - @log must be empty.
 * @fd: stays the caller's.
 *
 * Return: 0; -EINVAL if @where is empty or beyond the end of @fd; -errno of mmap(2).
 */
int dirty_log_map(struct dirty_log *log, const struct vhost_user_log *where, int fd,
                  struct error *err);

/** dirty_log_unmap() - empty afterwards; an empty one is allowed. */
void dirty_log_unmap(struct dirty_log *log);

/** dirty_log_mark() - @len bytes at @gpa were written. From any thread. */
void dirty_log_mark(const struct dirty_log *log, uint64_t gpa, uint64_t len);

#endif
