#include "backends/blk_request.h"

#include "base/bytes.h"

#define SEGMENT_FLAG_UNMAP 1u

size_t blk_iov_read(const struct iovec *iov, unsigned n, void *to, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        size_t step = MIN(iov[i].iov_len, len - done);
        memcpy((uint8_t *)to + done, iov[i].iov_base, step);
        done += step;
    }
    return done;
}

size_t blk_iov_write(const struct iovec *iov, unsigned n, const void *from, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        size_t step = MIN(iov[i].iov_len, len - done);
        memcpy(iov[i].iov_base, (const uint8_t *)from + done, step);
        done += step;
    }
    return done;
}

void blk_iov_drop(struct iovec **iov, unsigned *n, uint64_t len)
{
    while (*n && len >= (*iov)->iov_len) {
        len -= (*iov)->iov_len;
        ++*iov;
        --*n;
    }
    if (*n && len) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + len;
        (*iov)->iov_len -= len;
    }
}

/* The status is the last writable byte. */
static uint8_t *find_status(const struct vu_chain *chain)
{
    if (!chain->in_len)
        return NULL;
    const struct iovec *last = &chain->iov[chain->n_out + chain->n_in - 1];
    return (uint8_t *)last->iov_base + last->iov_len - 1;
}

/* Readable buffers behind the header. */
static void take_out_data(struct blk_request *request, struct iovec *data)
{
    const struct vu_chain *chain = &request->chain;
    memcpy(data, chain->iov, chain->n_out * sizeof(*data));
    request->data = data;
    request->n_data = chain->n_out;
    blk_iov_drop(&request->data, &request->n_data, BLK_HEADER_BYTES);
    request->len = chain->out_len - BLK_HEADER_BYTES;
}

/* Writable buffers before the status. */
static void take_in_data(struct blk_request *request, struct iovec *data)
{
    const struct vu_chain *chain = &request->chain;
    memcpy(data, chain->iov + chain->n_out, chain->n_in * sizeof(*data));
    request->data = data;
    request->n_data = chain->n_in;
    if (--data[chain->n_in - 1].iov_len == 0)
        request->n_data--;
    request->len = chain->in_len - 1;
}

static bool is_inside(const struct blk_disk *disk, uint64_t sector, uint64_t len)
{
    return sector <= disk->bytes / BLK_SECTOR_BYTES && is_aligned(len, BLK_SECTOR_BYTES) &&
           range_within(sector * BLK_SECTOR_BYTES, len, disk->bytes);
}

/* virtio 1.2, 5.2.6.2: a discard with a flag is unsupported, reserved flags are so in both. */
static uint8_t parse_segments(struct blk_request *request, const struct blk_disk *disk,
                              struct iovec *data)
{
    uint8_t raw[BLK_SEGMENTS_MAX * BLK_SEGMENT_BYTES];
    take_out_data(request, data);
    if (!request->len || request->len % BLK_SEGMENT_BYTES || request->len > sizeof(raw))
        return BLK_S_IOERR;
    blk_iov_read(request->data, request->n_data, raw, request->len);
    request->n_segments = (unsigned)(request->len / BLK_SEGMENT_BYTES);
    for (unsigned i = 0; i < request->n_segments; i++) {
        const uint8_t *at = raw + (size_t)i * BLK_SEGMENT_BYTES;
        uint64_t sector = load_le64(at);
        uint32_t len_sectors = load_le32(at + 8), flags = load_le32(at + 12);
        uint32_t known = request->type == BLK_T_WRITE_ZEROES ? SEGMENT_FLAG_UNMAP : 0;
        if (flags & ~known)
            return BLK_S_UNSUPP;
        if (len_sectors > BLK_SEGMENT_SECTORS_MAX ||
            !is_inside(disk, sector, (uint64_t)len_sectors * BLK_SECTOR_BYTES))
            return BLK_S_IOERR;
        request->segments[i] = (struct blk_segment){
            .offset = sector * BLK_SECTOR_BYTES,
            .len_sectors = len_sectors,
            .unmap = flags & SEGMENT_FLAG_UNMAP,
        };
    }
    return BLK_S_OK;
}

uint8_t blk_request_parse(struct blk_request *request, const struct blk_disk *disk,
                          const struct vu_chain *chain, struct iovec *data)
{
    uint8_t header[BLK_HEADER_BYTES];
    request->chain = *chain;
    request->status_at = find_status(chain);
    request->data = data;
    request->n_data = 0;
    request->offset = request->len = 0;
    request->n_segments = 0;
    request->type = UINT32_MAX;
    if (!request->status_at ||
        blk_iov_read(chain->iov, chain->n_out, header, sizeof(header)) < sizeof(header))
        return BLK_S_IOERR;
    request->type = load_le32(header);
    uint64_t sector = load_le64(header + 8);

    switch (request->type) {
    case BLK_T_IN:
    case BLK_T_OUT:
        if (request->type == BLK_T_OUT)
            take_out_data(request, data);
        else
            take_in_data(request, data);
        if (!is_inside(disk, sector, request->len) ||
            (request->type == BLK_T_OUT && disk->readonly))
            return BLK_S_IOERR;
        request->offset = sector * BLK_SECTOR_BYTES;
        return BLK_S_OK;
    case BLK_T_FLUSH:
        return BLK_S_OK;
    case BLK_T_GET_ID:
        take_in_data(request, data);
        return BLK_S_OK;
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES:
        if (disk->readonly)
            return BLK_S_IOERR;
        if (!disk->can_discard && request->type == BLK_T_DISCARD)
            return BLK_S_UNSUPP;
        return parse_segments(request, disk, data);
    default:
        return BLK_S_UNSUPP;
    }
}
