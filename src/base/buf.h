/* A byte buffer that grows. A failed allocation is remembered: check buf_failed() once, at the end. */
#ifndef HUSK_BASE_BUF_H
#define HUSK_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool failed;
};

#define BUF_INIT ((struct buf){0})
#define _cleanup_buf_ __attribute__((cleanup(buf_release)))

/** buf_release() - free the contents; the buffer is empty and usable afterwards. */
void buf_release(struct buf *b);

/** buf_failed() - true if any append ran out of memory; the contents are then not to be used. */
static inline bool buf_failed(const struct buf *b)
{
    return b->failed;
}

/** buf_extend() - @len zero bytes at the end; returns where they start, NULL if memory ran out. */
void *buf_extend(struct buf *b, size_t len);

/** buf_append() - copy @len bytes of @data to the end. */
void buf_append(struct buf *b, const void *data, size_t len);

void buf_append_u8(struct buf *b, uint8_t v);
void buf_append_le16(struct buf *b, uint16_t v);
void buf_append_le32(struct buf *b, uint32_t v);
void buf_append_le64(struct buf *b, uint64_t v);

/** buf_printf() - formatted text at the end. The buffer stays NUL-terminated behind its length. */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** buf_align() - zero bytes until the length is a multiple of @align. */
void buf_align(struct buf *b, size_t align);

#endif
