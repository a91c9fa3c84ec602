/*
 * The io_uring of each queue, made before the process gives up the right to make any: a ring is a second door into the
 * kernel, which a system call filter does not see through. These carry out what a disk needs and nothing else.
 */
#ifndef HUSK_BACKENDS_BLK_RING_H
#define HUSK_BACKENDS_BLK_RING_H

#include <stdbool.h>
#include <stddef.h>

struct io_uring;
struct blk_rings;

/**
 * blk_rings_open() - @n rings of up to @entries requests, restricted to reads, writes, fsync and fallocate.
 *
 * Return: the rings; NULL with *@code filled (-ENOSYS, -EPERM, -ENOMEM, ...) where the kernel has none, or none that can
 * be restricted (Linux before 5.10).
 */
struct blk_rings *blk_rings_open(unsigned n, unsigned entries, int *code);

/** blk_rings_get() - the ring of queue @index, used by one thread at a time; NULL if there is none. */
struct io_uring *blk_rings_get(struct blk_rings *rings, unsigned index);

/** blk_rings_close() - nothing may be under way in them; NULL is allowed. */
void blk_rings_close(struct blk_rings *rings);

#endif
