#include "backends/inflight.h"

#include "backends/server.h"
#include "backends/shared_file.h"
#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

_Static_assert(sizeof(struct inflight_desc) == 16, "a descriptor's state has 16 bytes");
_Static_assert(sizeof(struct inflight_ring) == 16, "a ring's header has 16 bytes");

#define INFLIGHT_VERSION 1
#define INFLIGHT_ALIGNMENT 64u /* of each queue's part: none shares a cache line with another */

/*
 * Stores reach the region in the order of the program: a back-end that is killed between two of them leaves what the
 * specification's recovery understands. Each field is read once, for the other side may write it at any time.
 */
#define STORE(to, value) __atomic_store_n(&(to), (value), __ATOMIC_RELEASE)
#define LOAD(from) __atomic_load_n(&(from), __ATOMIC_ACQUIRE)

static size_t ring_bytes(unsigned queue_size)
{
    return align_up(sizeof(struct inflight_ring) + queue_size * sizeof(struct inflight_desc),
                    INFLIGHT_ALIGNMENT);
}

static int check_numbers(const struct vhost_user_inflight *where, struct error *err)
{
    if (where->n_queues == 0 || where->n_queues > VU_QUEUES_MAX || where->queue_size == 0 ||
        where->queue_size > VU_QUEUE_SIZE_MAX)
        return error_set(err, -EINVAL, "an in-flight region for %u queues of %u cannot be",
                         where->n_queues, where->queue_size);
    return 0;
}

/** adopt() - write the header of a ring nobody has used, or check it. */
static int adopt(struct inflight_ring *ring, uint16_t queue_size, struct error *err)
{
    uint16_t version = LOAD(ring->version);
    uint16_t desc_num = LOAD(ring->desc_num);
    if (version == 0) {
        STORE(ring->desc_num, queue_size);
        STORE(ring->version, INFLIGHT_VERSION);
    } else if (version != INFLIGHT_VERSION || desc_num != queue_size) {
        return error_set(err, -EINVAL,
                         "the in-flight region is of version %u for %u descriptors, not of "
                         "version 1 for %u",
                         version, desc_num, queue_size);
    }
    return 0;
}

static struct inflight_ring *ring_at(const struct inflight *region, unsigned index)
{
    /* Aligned as the region is, which is checked when it is mapped. */
    return (void *)(region->bytes + index * ring_bytes(region->queue_size));
}

int inflight_map(struct inflight *region, const struct vhost_user_inflight *where, int fd,
                 struct error *err)
{
    int ret = check_numbers(where, err);
    if (ret < 0)
        return ret;
    if (where->mmap_size < where->n_queues * ring_bytes(where->queue_size) ||
        !is_aligned(where->mmap_offset, sizeof(uint64_t)))
        return error_set(err, -EINVAL, "%llu bytes at %llu cannot be an in-flight region",
                         (unsigned long long)where->mmap_size,
                         (unsigned long long)where->mmap_offset);
    struct inflight mapped = {.n_queues = where->n_queues, .queue_size = where->queue_size};
    ret = shared_file_map(fd, where->mmap_offset, where->mmap_size, &mapped.mapping,
                          &mapped.mapping_len, &mapped.bytes, err);
    if (ret < 0)
        return error_context(err, "in-flight region");
    for (unsigned i = 0; i < mapped.n_queues && ret == 0; i++)
        ret = adopt(ring_at(&mapped, i), mapped.queue_size, err);
    if (ret < 0)
        inflight_unmap(&mapped);
    else
        *region = mapped;
    return ret;
}

int inflight_create(struct vhost_user_inflight *where, struct error *err)
{
    int ret = check_numbers(where, err);
    if (ret < 0)
        return ret;
    where->mmap_offset = 0;
    where->mmap_size = where->n_queues * ring_bytes(where->queue_size);
    _cleanup_close_ int fd = memfd_create("husk-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)where->mmap_size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set_errno(err, -errno, "no memory for an in-flight region");
    struct inflight region = {0};
    ret = inflight_map(&region, where, fd, err);
    inflight_unmap(&region);
    return ret < 0 ? ret : take_fd(&fd);
}

void inflight_unmap(struct inflight *region)
{
    if (region->mapping)
        munmap(region->mapping, region->mapping_len);
    *region = (struct inflight){0};
}

struct inflight_ring *inflight_ring(const struct inflight *region, unsigned index, unsigned num)
{
    if (!region->bytes || index >= region->n_queues || num > region->queue_size)
        return NULL;
    return ring_at(region, index);
}

void inflight_take(struct inflight_ring *ring, uint16_t head, uint64_t counter)
{
    STORE(ring->desc[head].counter, counter);
    STORE(ring->desc[head].inflight, 1);
}

void inflight_giving(struct inflight_ring *ring, uint16_t head)
{
    STORE(ring->desc[head].next, LOAD(ring->last_batch_head));
    STORE(ring->last_batch_head, head);
}

void inflight_gave(struct inflight_ring *ring, uint16_t head, uint16_t used_idx)
{
    STORE(ring->desc[head].inflight, 0);
    STORE(ring->used_idx, used_idx);
}

/** finish_last_batch() - what the driver was told of is no longer under way. */
static void finish_last_batch(struct inflight_ring *ring, unsigned num, uint16_t used_idx)
{
    uint16_t n = (uint16_t)(used_idx - LOAD(ring->used_idx));
    uint16_t head = LOAD(ring->last_batch_head);
    /* A list that another program wrote may lead anywhere, but no batch is larger than the queue. */
    for (unsigned i = 0; i < n && i < num && head < num; i++) {
        STORE(ring->desc[head].inflight, 0);
        head = LOAD(ring->desc[head].next);
    }
    STORE(ring->used_idx, used_idx);
}

struct taken {
    uint64_t counter;
    uint16_t head;
};

static int by_counter(const void *a, const void *b)
{
    const struct taken *x = a, *y = b;
    if (x->counter != y->counter)
        return x->counter < y->counter ? -1 : 1;
    return x->head - y->head;
}

unsigned inflight_recover(struct inflight_ring *ring, unsigned num, uint16_t used_idx,
                          uint16_t *heads, uint64_t *counter)
{
    *counter = 0;
    finish_last_batch(ring, num, used_idx);
    _cleanup_free_ struct taken *taken = calloc(num, sizeof(*taken));
    unsigned n = 0;
    for (unsigned i = 0; i < num; i++) {
        if (!LOAD(ring->desc[i].inflight))
            continue;
        /* Without memory to sort by age they come by number: a driver relies on no order. */
        if (taken)
            taken[n] = (struct taken){LOAD(ring->desc[i].counter), (uint16_t)i};
        heads[n++] = (uint16_t)i;
    }
    if (!taken || n == 0)
        return n;
    qsort(taken, n, sizeof(*taken), by_counter);
    for (unsigned i = 0; i < n; i++)
        heads[i] = taken[i].head;
    *counter = taken[n - 1].counter + 1;
    return n;
}
