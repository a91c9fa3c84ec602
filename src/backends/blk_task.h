/*
 * Carrying out one request: a row of accesses to the disk, each decided on by how the one before it ended. Knows nothing
 * of how and when they are carried out.
 *
 *     while (blk_task_next(&task, &io))
 *         blk_task_advance(&task, result of io);
 */
#ifndef HUSK_BACKENDS_BLK_TASK_H
#define HUSK_BACKENDS_BLK_TASK_H

#include "backends/blk_io.h"
#include "backends/blk_request.h"

enum blk_stage { BLK_STAGE_DATA, BLK_STAGE_SEGMENTS, BLK_STAGE_SYNC, BLK_STAGE_DONE };
enum blk_method { BLK_PUNCH, BLK_ZERO_RANGE, BLK_LAST_RESORT };

struct blk_task {
    struct blk_request request;
    struct blk_disk *disk;
    enum blk_stage stage;
    bool stable;    /* to be on the disk before it is answered */
    uint8_t status; /* BLK_S_* */
    unsigned segment;
    uint64_t done; /* bytes of that segment, or of the data */
    enum blk_method method;
    bool helped; /* for who carries the accesses out: a thread of its own does */

    /* Where O_DIRECT does not take the guest's own buffers. */
    uint8_t *bounce;
    size_t bounce_size;
    uint32_t bounce_head; /* bytes read before those wanted */
    struct iovec bounce_iov;
    bool bouncing; /* the access under way goes there */
};

/**
 * blk_task_start() - from a request that blk_request_parse() filled in task->request.
 * @status: what that function returned.
 * @stable: the driver relies on answered writes being on the disk.
 */
void blk_task_start(struct blk_task *task, struct blk_disk *disk, uint8_t status, bool stable);

/** blk_task_next() - the access to carry out next. Returns false if the request is over: task->status says how. */
bool blk_task_next(struct blk_task *task, struct blk_io *io);

/** blk_task_advance() - the access of the last blk_task_next() ended: @result is bytes, 0 or -errno. */
void blk_task_advance(struct blk_task *task, int64_t result);

/** blk_task_keep() - a copy on the heap with its own arrays; free() it. NULL if memory ran out. */
struct blk_task *blk_task_keep(const struct blk_task *task);

/** blk_task_answer() - write the status to the guest and release what the task holds.
 *
 * Return: bytes written to the guest, for the used ring. An error counts them all too: the status is the last of them.
 */
uint32_t blk_task_answer(struct blk_task *task);

#endif
