#include "backends/blk_task.h"

#include "base/bytes.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>

#define BOUNCE_BYTES_MAX (256u << 10)
#define ZERO_BYTES (256u << 10)

/* Never written to: one page of memory at most. */
static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(PAGE_BYTES)));

static void finish(struct blk_task *task, uint8_t status)
{
    task->stage = BLK_STAGE_DONE;
    task->status = status;
}

/* All of it is done, but for making it stable. */
static void data_done(struct blk_task *task, bool sync)
{
    if (sync)
        task->stage = BLK_STAGE_SYNC;
    else
        finish(task, BLK_S_OK);
}

void blk_task_start(struct blk_task *task, struct blk_disk *disk, uint8_t status, bool stable)
{
    struct blk_request *request = &task->request;
    task->disk = disk;
    task->stable = stable;
    task->segment = 0;
    task->done = 0;
    task->method = BLK_PUNCH;
    task->bounce = NULL;
    task->bouncing = false;
    task->helped = false;
    if (status != BLK_S_OK) {
        finish(task, status);
        return;
    }
    switch (request->type) {
    case BLK_T_GET_ID:
        /* Shorter ones end with a zero, the longest has none (virtio 1.2, 5.2.6). */
        blk_iov_write(request->data, request->n_data, disk->serial, BLK_SERIAL_BYTES);
        finish(task, BLK_S_OK);
        return;
    case BLK_T_FLUSH:
        task->stage = BLK_STAGE_SYNC;
        return;
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES:
        task->stage = BLK_STAGE_SEGMENTS;
        return;
    default:
        task->stage = BLK_STAGE_DATA;
        if (!request->len)
            finish(task, BLK_S_OK);
    }
}

/* Whether O_DIRECT would refuse what is left to do. */
static bool is_misaligned(const struct blk_task *task, uint64_t offset, uint64_t left)
{
    const struct blk_disk *disk = task->disk;
    if (!disk->direct)
        return false;
    uint64_t bits = 0;
    for (unsigned i = 0; i < task->request.n_data; i++)
        bits |= (uintptr_t)task->request.data[i].iov_base | task->request.data[i].iov_len;
    return bits & (disk->memory_align - 1) || (offset | left) & (disk->offset_align - 1);
}

static bool get_bounce(struct blk_task *task, uint64_t bytes)
{
    if (task->bounce)
        return true;
    task->bounce_size = (size_t)MIN(bytes, BOUNCE_BYTES_MAX);
    void *memory;
    if (posix_memalign(&memory, MAX(task->disk->memory_align, PAGE_BYTES), task->bounce_size))
        return false;
    task->bounce = memory;
    return true;
}

/* Reads are widened to whole blocks. A write cannot be: what it would have to keep around it may change meanwhile, and
 * the driver was told the block size. */
static bool next_bounced(struct blk_task *task, struct blk_io *io, uint64_t offset, uint64_t left)
{
    uint64_t align = task->disk->offset_align;
    bool write = task->request.type == BLK_T_OUT;
    uint64_t start = align_down(offset, align);
    uint64_t bytes = align_up(offset + left, align) - start;
    if ((write && (start != offset || bytes != left)) || !get_bounce(task, bytes)) {
        finish(task, BLK_S_IOERR);
        return false;
    }
    bytes = MIN(bytes, align_down(task->bounce_size, align));
    if (write)
        blk_iov_read(task->request.data, task->request.n_data, task->bounce, bytes);
    task->bouncing = true;
    task->bounce_head = (uint32_t)(offset - start);
    task->bounce_iov = (struct iovec){task->bounce, bytes};
    io->iov = &task->bounce_iov;
    io->n_iov = 1;
    io->offset = start;
    return true;
}

static bool next_data(struct blk_task *task, struct blk_io *io)
{
    const struct blk_request *request = &task->request;
    uint64_t offset = request->offset + task->done, left = request->len - task->done;
    bool write = request->type == BLK_T_OUT;
    *io = (struct blk_io){
        .kind = write ? BLK_IO_WRITE : BLK_IO_READ,
        .flags = write && task->stable ? RWF_DSYNC : 0,
        .iov = request->data,
        .n_iov = request->n_data,
        .offset = offset,
        .len = left,
    };
    task->bouncing = false;
    return !is_misaligned(task, offset, left) || next_bounced(task, io, offset, left);
}

/* What was refused before is not tried again; what cannot be meant is left out. */
static enum blk_method choose_method(const struct blk_task *task, const struct blk_segment *segment)
{
    enum blk_method method = task->method;
    bool discard = task->request.type == BLK_T_DISCARD;
    if (method == BLK_PUNCH &&
        ((!discard && !segment->unmap) || atomic_load(&task->disk->no_punch)))
        method = BLK_ZERO_RANGE;
    if (method == BLK_ZERO_RANGE && (discard || atomic_load(&task->disk->no_zero_range)))
        method = BLK_LAST_RESORT;
    return method;
}

static bool next_segment(struct blk_task *task, struct blk_io *io)
{
    const struct blk_request *request = &task->request;
    const struct blk_segment *segment = &request->segments[task->segment];
    uint64_t left = (uint64_t)segment->len_sectors * BLK_SECTOR_BYTES - task->done;
    task->method = choose_method(task, segment);
    *io = (struct blk_io){.offset = segment->offset + task->done, .len = left};
    switch (task->method) {
    case BLK_PUNCH:
        io->kind = BLK_IO_ALLOCATE;
        io->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        return true;
    case BLK_ZERO_RANGE:
        io->kind = BLK_IO_ALLOCATE;
        io->flags = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        return true;
    default:
        break;
    }
    if (request->type == BLK_T_DISCARD) {
        io->kind = BLK_IO_DISCARD;
        if (!task->disk->is_device)
            finish(task, BLK_S_UNSUPP);
        return task->disk->is_device;
    }
    io->kind = BLK_IO_WRITE;
    task->bounce_iov = (struct iovec){zeroes, MIN(left, ZERO_BYTES)};
    io->iov = &task->bounce_iov;
    io->n_iov = 1;
    return true;
}

/* Segments without a length need nothing done. */
static void skip_empty_segments(struct blk_task *task)
{
    const struct blk_request *request = &task->request;
    while (task->segment < request->n_segments && request->segments[task->segment].len_sectors == 0)
        task->segment++;
    if (task->segment == request->n_segments)
        data_done(task, task->stable);
}

bool blk_task_next(struct blk_task *task, struct blk_io *io)
{
    if (task->stage == BLK_STAGE_SEGMENTS)
        skip_empty_segments(task);
    switch (task->stage) {
    case BLK_STAGE_DATA:
        return next_data(task, io);
    case BLK_STAGE_SEGMENTS:
        return next_segment(task, io);
    case BLK_STAGE_SYNC:
        *io = (struct blk_io){.kind = BLK_IO_SYNC};
        return true;
    default:
        return false;
    }
}

static void advance_data(struct blk_task *task, uint64_t bytes)
{
    struct blk_request *request = &task->request;
    if (task->bouncing) {
        /* A widened read may have stopped before what was wanted, or gone beyond it. */
        uint64_t head = task->bounce_head;
        bytes = bytes > head ? bytes - head : 0;
        bytes = MIN(bytes, request->len - task->done);
        if (request->type == BLK_T_IN)
            blk_iov_write(request->data, request->n_data, task->bounce + head, bytes);
    }
    if (!bytes) { /* the file is shorter than it was, or the disk is full */
        finish(task, BLK_S_IOERR);
        return;
    }
    blk_iov_drop(&request->data, &request->n_data, bytes);
    task->done += bytes;
    if (task->done >= request->len)
        data_done(task, false);
}

static void advance_segment(struct blk_task *task, uint64_t bytes)
{
    struct blk_request *request = &task->request;
    uint64_t len = (uint64_t)request->segments[task->segment].len_sectors * BLK_SECTOR_BYTES;
    bool writing = task->method == BLK_LAST_RESORT && request->type == BLK_T_WRITE_ZEROES;
    if (writing && !bytes) {
        finish(task, BLK_S_IOERR);
        return;
    }
    task->done += writing ? bytes : len;
    if (task->done < len)
        return;
    task->done = 0;
    task->method = BLK_PUNCH;
    task->segment++;
}

/* On to the next method, if there is one. */
static void segment_failed(struct blk_task *task, int64_t result)
{
    if (result != -EOPNOTSUPP && result != -ENOSYS && result != -ENOTTY) {
        finish(task, BLK_S_IOERR);
        return;
    }
    switch (task->method) {
    case BLK_PUNCH:
        atomic_store(&task->disk->no_punch, true);
        task->method = BLK_ZERO_RANGE;
        return;
    case BLK_ZERO_RANGE:
        atomic_store(&task->disk->no_zero_range, true);
        task->method = BLK_LAST_RESORT;
        return;
    default:
        finish(task, BLK_S_UNSUPP);
    }
}

void blk_task_advance(struct blk_task *task, int64_t result)
{
    if (result < 0) {
        if (task->stage == BLK_STAGE_SEGMENTS)
            segment_failed(task, result);
        else
            finish(task, BLK_S_IOERR);
        return;
    }
    if (task->stage == BLK_STAGE_DATA)
        advance_data(task, (uint64_t)result);
    else if (task->stage == BLK_STAGE_SEGMENTS)
        advance_segment(task, (uint64_t)result);
    else
        finish(task, BLK_S_OK);
}

struct blk_task *blk_task_keep(const struct blk_task *task)
{
    const struct blk_request *request = &task->request;
    size_t n_chain = (size_t)request->chain.n_out + request->chain.n_in;
    struct blk_task *kept =
        malloc(sizeof(*kept) + (n_chain + request->n_data) * sizeof(struct iovec));
    if (!kept)
        return NULL;
    *kept = *task;
    struct iovec *iov = (struct iovec *)(kept + 1);
    memcpy(iov, request->chain.iov, n_chain * sizeof(*iov));
    memcpy(iov + n_chain, request->data, request->n_data * sizeof(*iov));
    kept->request.chain.iov = iov;
    kept->request.data = iov + n_chain;
    return kept;
}

uint32_t blk_task_answer(struct blk_task *task)
{
    const struct blk_request *request = &task->request;
    free(task->bounce);
    task->bounce = NULL;
    if (!request->status_at)
        return 0;
    *(volatile uint8_t *)request->status_at = task->status;
    return (uint32_t)MIN(request->chain.in_len, UINT32_MAX);
}
