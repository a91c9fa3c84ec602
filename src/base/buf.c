#include "base/buf.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_release(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT;
}

/** reserve() - room for @len bytes and one NUL more. */
static bool reserve(struct buf *b, size_t len)
{
    if (b->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(b->len, len, &need) || __builtin_add_overflow(need, 1, &need))
        goto fail;
    if (need <= b->cap)
        return true;
    size_t cap = MAX(need, b->cap > SIZE_MAX / 2 ? need : b->cap * 2);
    cap = MAX(cap, (size_t)64);
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        goto fail;
    b->data = data;
    b->cap = cap;
    return true;
fail:
    b->failed = true;
    return false;
}

void *buf_extend(struct buf *b, size_t len)
{
    if (!reserve(b, len))
        return NULL;
    uint8_t *start = b->data + b->len;
    memset(start, 0, len + 1);
    b->len += len;
    return start;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    void *to = buf_extend(b, len);
    if (to && len)
        memcpy(to, data, len);
}

void buf_append_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, 1);
}

void buf_append_le16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_le32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_le64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_append(b, &v, sizeof(v));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    /* Most texts fit into what is there already, and are formatted once. */
    bool ready = reserve(b, 0);
    size_t room = ready ? b->cap - b->len : 0;
    int n = vsnprintf(ready ? (char *)b->data + b->len : NULL, room, fmt, args);
    va_end(args);
    if (n < 0)
        b->failed = true;
    else if (ready && (size_t)n < room)
        b->len += (size_t)n;
    else if (reserve(b, (size_t)n)) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_align(struct buf *b, size_t align)
{
    size_t over = b->len % align;
    if (over)
        buf_extend(b, align - over);
}
