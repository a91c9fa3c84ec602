#include "backends/blk_ring.h"

#include "base/bytes.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct blk_rings {
    unsigned n;
    struct io_uring rings[];
};

/* What blk_io_prepare() asks for, and the flag that sends a request to a kernel thread. */
static const uint8_t operations[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                     IORING_OP_FALLOCATE};

static int restrict_ring(struct io_uring *ring)
{
    struct io_uring_restriction rules[ARRAY_SIZE(operations) + 1] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = operations[i];
    }
    rules[ARRAY_SIZE(operations)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[ARRAY_SIZE(operations)].sqe_flags = IOSQE_ASYNC;
    /* By system call: liburing 2.3 has the functions in its header, but Debian's library does not offer them. */
    if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules,
                ARRAY_SIZE(rules)) < 0 ||
        syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    return 0;
}

struct blk_rings *blk_rings_open(unsigned n, unsigned entries, int *code)
{
    struct blk_rings *rings = calloc(1, sizeof(*rings) + n * sizeof(rings->rings[0]));
    *code = rings ? 0 : -ENOMEM;
    while (rings && rings->n < n && *code == 0) {
        struct io_uring *ring = &rings->rings[rings->n];
        *code = io_uring_queue_init(entries, ring, IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);
        if (*code < 0)
            break;
        rings->n++;
        *code = restrict_ring(ring);
    }
    if (*code == 0)
        return rings;
    blk_rings_close(rings);
    return NULL;
}

struct io_uring *blk_rings_get(struct blk_rings *rings, unsigned index)
{
    return rings && index < rings->n ? &rings->rings[index] : NULL;
}

void blk_rings_close(struct blk_rings *rings)
{
    if (!rings)
        return;
    for (unsigned i = 0; i < rings->n; i++)
        io_uring_queue_exit(&rings->rings[i]);
    free(rings);
}
