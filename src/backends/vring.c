#include "backends/vring.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

_Static_assert(sizeof(struct vring_desc) == 16, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct vring_used_elem) == 8, "virtio 1.2, 2.7.8");

/* Ring fields the driver writes are read with this, once each. */
#define LOAD(from, order) __atomic_load_n(&(from), (order))
#define STORE(to, value, order) __atomic_store_n(&(to), (value), (order))

/* --- Set-up, on the server's thread. --- */

int vring_init(struct vu_queue *queue, const char *name, unsigned index, unsigned num_max)
{
    *queue = (struct vu_queue){.name = name,
                               .index = index,
                               .num_max = num_max,
                               .kick_fd = -1,
                               .call_fd = -1,
                               .err_fd = -1,
                               .log_fd = -1,
                               .backend_fd = -1,
                               .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                               .taken = calloc(num_max, sizeof(*queue->taken)),
                               .resubmit = calloc(num_max, sizeof(*queue->resubmit))};
    if (queue->stop_fd >= 0 && queue->taken && queue->resubmit)
        return 0;
    int ret = queue->stop_fd < 0 ? -errno : -ENOMEM;
    vring_release(queue);
    return ret;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void vring_reset(struct vu_queue *queue)
{
    close_fd(&queue->kick_fd);
    close_fd(&queue->call_fd);
    close_fd(&queue->err_fd);
    queue->num = 0;
    queue->addr_set = false;
    queue->desc = NULL;
    queue->avail = NULL;
    queue->used = NULL;
    queue->tracked = NULL;
    queue->last_avail = queue->shadow_avail = queue->used_idx = queue->signalled = 0;
    queue->signalled_valid = queue->broken = false;
    queue->n_resubmit = queue->next_resubmit = 0;
}

void vring_release(struct vu_queue *queue)
{
    vring_reset(queue);
    close_fd(&queue->stop_fd);
    free(queue->taken);
    free(queue->resubmit);
    queue->taken = NULL;
    queue->resubmit = NULL;
}

static void *find_part(const struct vu_queue *queue, const char *part, uint64_t user_addr,
                       uint64_t len, uint64_t alignment, struct error *err)
{
    /* Regions may be mapped anywhere: only the alignment of the address here counts for the loads. */
    void *at = guest_map_user(queue->map, user_addr, len);
    if (!at)
        error_set(err, -EINVAL, "its %s at %#llx is not in guest memory", part,
                  (unsigned long long)user_addr);
    else if (!is_aligned((uintptr_t)at, alignment)) {
        error_set(err, -EINVAL, "its %s at %#llx is not aligned", part,
                  (unsigned long long)user_addr);
        at = NULL;
    }
    return at;
}

int vring_map(struct vu_queue *queue, struct error *err)
{
    queue->desc = NULL;
    queue->tracked = NULL;
    if (!queue->num || !queue->addr_set)
        return error_set(err, -EINVAL, "it was started without a size or addresses");
    uint64_t num = queue->num;
    struct vring_desc *desc = find_part(queue, "descriptor table", queue->addr.desc,
                                        num * sizeof(struct vring_desc), 16, err);
    queue->avail = desc ? find_part(queue, "available ring", queue->addr.avail,
                                    sizeof(struct vring_avail) + num * 2 + 2, 2, err)
                        : NULL;
    queue->used =
        queue->avail
            ? find_part(queue, "used ring", queue->addr.used,
                        sizeof(struct vring_used) + num * sizeof(struct vring_used_elem) + 2, 4,
                        err)
            : NULL;
    if (!queue->used)
        return -EINVAL;
    if (queue->inflight)
        queue->tracked = inflight_ring(queue->inflight, queue->index, queue->num);
    queue->desc = desc;
    return 0;
}

void vring_start(struct vu_queue *queue)
{
    memset(queue->taken, 0, queue->num_max);
    queue->n_resubmit = queue->next_resubmit = 0;
    queue->signalled_valid = false;
    queue->used_idx = LOAD(queue->used->idx, __ATOMIC_ACQUIRE);
    /* QEMU makes a region for the size it offers, and firmware on it sets up larger rings: better served than not. */
    if (!queue->tracked && queue->inflight && queue->inflight->bytes)
        log_warn("%s: queue %u: the in-flight region has no room for %u descriptors: what is under "
                 "way is lost if this process is",
                 queue->name, queue->index, queue->num);
    if (queue->tracked) {
        queue->n_resubmit = inflight_recover(queue->tracked, queue->num, queue->used_idx,
                                             queue->resubmit, &queue->counter);
        /* What was taken is what was given back and what is under way: a dead back-end can tell no better. */
        queue->last_avail = (uint16_t)(queue->used_idx + queue->n_resubmit);
        if (queue->n_resubmit)
            log_info("%s: queue %u: %u requests of an earlier back-end are served again",
                     queue->name, queue->index, queue->n_resubmit);
    }
    queue->shadow_avail = queue->last_avail;
    queue->broken = false;
}

/** signal_fd() - add one to an eventfd; a full one is readable anyhow. */
static void signal_fd(int fd)
{
    const uint64_t one = 1;
    if (fd >= 0)
        (void)!write(fd, &one, sizeof(one));
}

int vring_break(struct vu_queue *queue, int code, const struct error *why)
{
    log_error("%s: queue %u is not served any more: %s", queue->name, queue->index, why->message);
    queue->broken = true;
    signal_fd(queue->err_fd);
    return code;
}

/* --- Requests, on the queue's thread. --- */

unsigned vu_queue_index(const struct vu_queue *queue)
{
    return queue->index;
}

uint64_t vu_queue_features(const struct vu_queue *queue)
{
    return queue->features;
}

unsigned vu_queue_size(const struct vu_queue *queue)
{
    return queue->num;
}

bool vu_queue_used_before(const struct vu_queue *queue)
{
    return queue->used_idx != 0;
}

int vu_queue_kick_fd(const struct vu_queue *queue)
{
    return queue->kick_fd;
}

int vu_queue_stop_fd(const struct vu_queue *queue)
{
    return queue->stop_fd;
}

/* A walk along one chain. */
struct walk {
    const struct vu_queue *queue;
    struct vu_chain *chain;
    struct error *err;
    unsigned n;     /* descriptors met */
    uint64_t bytes; /* in all buffers */
};

/** add_buffer() - the entries for one descriptor, which may lie across regions of guest memory. */
static int add_buffer(struct walk *walk, const struct vring_desc *desc)
{
    struct vu_chain *chain = walk->chain;
    bool writable = desc->flags & VRING_DESC_F_WRITE;
    if (!writable && chain->n_in)
        return error_set(walk->err, -EPROTO, "a readable buffer follows a writable one");
    uint64_t gpa = desc->addr, left = desc->len;
    walk->bytes += left;
    if (walk->bytes > UINT32_MAX)
        return error_set(walk->err, -EPROTO, "a request has 4 GiB or more");
    while (left > 0) {
        uint64_t piece = left;
        void *at = guest_map_gpa(walk->queue->map, gpa, &piece);
        if (!at)
            return error_set(walk->err, -EFAULT, "a buffer at %#llx is not in guest memory",
                             (unsigned long long)gpa);
        unsigned used = chain->n_out + chain->n_in;
        if (used == chain->iov_max)
            return error_set(walk->err, -EPROTO, "a request has more than %u parts",
                             chain->iov_max);
        chain->iov[used] = (struct iovec){.iov_base = at, .iov_len = piece};
        if (writable) {
            chain->n_in++;
            chain->in_len += piece;
        } else {
            chain->n_out++;
            chain->out_len += piece;
        }
        gpa += piece;
        left -= piece;
    }
    return 0;
}

/** count_desc() - a descriptor more; @most are as many as a chain without a loop can have. */
static int count_desc(struct walk *walk, unsigned *here, unsigned most)
{
    if (++*here > most)
        return error_set(walk->err, -ELOOP, "a chain of descriptors has a loop");
    if (++walk->n > VU_CHAIN_IOV_MAX)
        return error_set(walk->err, -EPROTO, "a request has more than %u descriptors",
                         VU_CHAIN_IOV_MAX);
    return 0;
}

/** walk_indirect() - the chain in the table that @table points to (virtio 1.2, 2.7.5.3). */
static int walk_indirect(struct walk *walk, const struct vring_desc *table)
{
    if (!(walk->queue->features & VIRTIO_F_RING_INDIRECT_DESC))
        return error_set(walk->err, -EPROTO, "an indirect table, which was not agreed upon");
    if (table->len == 0 || table->len % sizeof(struct vring_desc) ||
        table->flags & VRING_DESC_F_NEXT)
        return error_set(walk->err, -EPROTO, "an indirect table of %u bytes with flags %#x",
                         table->len, table->flags);
    unsigned n = table->len / (unsigned)sizeof(struct vring_desc);
    unsigned seen = 0, i = 0;
    for (;;) {
        struct vring_desc desc;
        uint64_t gpa;
        int ret = count_desc(walk, &seen, n);
        if (ret < 0)
            return ret;
        if (add_overflows(table->addr, i * sizeof(desc), &gpa) ||
            guest_map_read(walk->queue->map, gpa, &desc, sizeof(desc)) < 0)
            return error_set(walk->err, -EFAULT,
                             "an indirect table at %#llx is not in guest memory",
                             (unsigned long long)table->addr);
        if (desc.flags & VRING_DESC_F_INDIRECT)
            return error_set(walk->err, -EPROTO, "an indirect table within another");
        ret = add_buffer(walk, &desc);
        if (ret < 0 || !(desc.flags & VRING_DESC_F_NEXT))
            return ret;
        i = desc.next;
        if (i >= n)
            return error_set(walk->err, -EPROTO, "descriptor %u of an indirect table of %u", i, n);
    }
}

/** read_desc() - one of the ring's descriptors, each byte once. */
static struct vring_desc read_desc(const struct vu_queue *queue, unsigned i)
{
    struct vring_desc desc;
    memcpy(&desc, &queue->desc[i], sizeof(desc));
    __asm__ volatile("" ::: "memory");
    return desc;
}

static int walk_chain(struct walk *walk, unsigned i)
{
    unsigned seen = 0;
    for (;;) {
        if (i >= walk->queue->num)
            return error_set(walk->err, -EPROTO, "descriptor %u of %u", i, walk->queue->num);
        int ret = count_desc(walk, &seen, walk->queue->num);
        if (ret < 0)
            return ret;
        struct vring_desc desc = read_desc(walk->queue, i);
        if (desc.flags & VRING_DESC_F_INDIRECT)
            return walk_indirect(walk, &desc);
        ret = add_buffer(walk, &desc);
        if (ret < 0 || !(desc.flags & VRING_DESC_F_NEXT))
            return ret;
        i = desc.next;
    }
}

/** requests_wait() - whether the available ring has an entry that was not taken. */
static bool requests_wait(struct vu_queue *queue)
{
    if (queue->shadow_avail == queue->last_avail)
        queue->shadow_avail = LOAD(queue->avail->idx, __ATOMIC_ACQUIRE);
    return queue->shadow_avail != queue->last_avail;
}

/** next_head() - what to serve next. Returns 1, 0 if there is nothing, or -errno. */
static int next_head(struct vu_queue *queue, uint16_t *head, struct error *err)
{
    if (queue->next_resubmit < queue->n_resubmit) {
        *head = queue->resubmit[queue->next_resubmit];
        return 1;
    }
    if (!requests_wait(queue))
        return 0;
    uint16_t waiting = (uint16_t)(queue->shadow_avail - queue->last_avail);
    if (waiting > queue->num)
        return error_set(err, -EPROTO, "%u requests in a ring of %u", waiting, queue->num);
    *head = LOAD(queue->avail->ring[queue->last_avail & (queue->num - 1)], __ATOMIC_RELAXED);
    if (*head >= queue->num)
        return error_set(err, -EPROTO, "a request begins with descriptor %u of %u", *head,
                         queue->num);
    if (queue->taken[*head])
        return error_set(err, -EPROTO, "descriptor %u is made available again while in use", *head);
    return 1;
}

int vu_queue_pop(struct vu_queue *queue, struct vu_chain *chain)
{
    if (queue->broken)
        return -EPROTO;
    uint16_t head = 0;
    int ret = next_head(queue, &head, &queue->why);
    if (ret <= 0)
        return ret < 0 ? vring_break(queue, ret, &queue->why) : 0;
    chain->head = head;
    chain->n_out = chain->n_in = 0;
    chain->out_len = chain->in_len = 0;
    struct walk walk = {.queue = queue, .chain = chain, .err = &queue->why};
    ret = walk_chain(&walk, head);
    if (ret < 0)
        return vring_break(queue, ret, &queue->why);
    queue->taken[head] = true;
    if (queue->next_resubmit < queue->n_resubmit) {
        queue->next_resubmit++;
        return 1;
    }
    if (queue->tracked)
        inflight_take(queue->tracked, head, queue->counter++);
    queue->last_avail++;
    return 1;
}

void vu_queue_unpop(struct vu_queue *queue, const struct vu_chain *chain)
{
    queue->taken[chain->head] = false;
    queue->last_avail--;
}

/** log_used() - the used ring's bytes [@offset, @offset + @len) were written. */
static void log_used(const struct vu_queue *queue, uint64_t offset, uint64_t len)
{
    uint64_t gpa;
    if (queue->log && queue->addr.flags & VHOST_USER_VRING_LOG &&
        !add_overflows(queue->addr.log, offset, &gpa))
        dirty_log_mark(queue->log, gpa, len);
}

/** log_chain() - every writable buffer: a request that fails, too, may have written any part of it. */
static void log_chain(const struct vu_queue *queue, const struct vu_chain *chain)
{
    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in; i++)
        dirty_log_mark(queue->log, guest_map_gpa_of(queue->map, chain->iov[i].iov_base),
                       chain->iov[i].iov_len);
    signal_fd(queue->log_fd);
}

void vu_queue_push(struct vu_queue *queue, const struct vu_chain *chain, uint32_t written)
{
    unsigned slot = queue->used_idx & (queue->num - 1u);
    if (queue->log)
        log_chain(queue, chain);
    STORE(queue->used->ring[slot].id, chain->head, __ATOMIC_RELAXED);
    STORE(queue->used->ring[slot].len, written, __ATOMIC_RELAXED);
    log_used(queue, offsetof(struct vring_used, ring) + slot * sizeof(struct vring_used_elem),
             sizeof(struct vring_used_elem));
    queue->taken[chain->head] = false;
    queue->used_idx++;
    if (queue->tracked)
        inflight_giving(queue->tracked, chain->head);
    STORE(queue->used->idx, queue->used_idx, __ATOMIC_RELEASE);
    if (queue->tracked)
        inflight_gave(queue->tracked, chain->head, queue->used_idx);
    log_used(queue, 0, sizeof(struct vring_used));
}

/** interrupt_wanted() - whether the driver wants to know that the used ring went on (virtio 1.2, 2.7.7). */
static bool interrupt_wanted(struct vu_queue *queue)
{
    /* idx is written before the driver's wish is read, or both sides could wait for each other. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t before = queue->signalled;
    bool valid = queue->signalled_valid;
    queue->signalled = queue->used_idx;
    queue->signalled_valid = true;
    if (!(queue->features & VIRTIO_F_RING_EVENT_IDX))
        return !(LOAD(queue->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
    if (!valid)
        return true;
    uint16_t event = LOAD(queue->avail->ring[queue->num], __ATOMIC_RELAXED);
    return (uint16_t)(queue->used_idx - event - 1) < (uint16_t)(queue->used_idx - before);
}

void vu_queue_notify(struct vu_queue *queue)
{
    if (queue->signalled_valid && queue->signalled == queue->used_idx)
        return;
    if (interrupt_wanted(queue))
        signal_fd(queue->call_fd);
}

bool vu_queue_want_kicks(struct vu_queue *queue, bool want)
{
    if (queue->features & VIRTIO_F_RING_EVENT_IDX) {
        /* Without a wish for kicks avail_event stays behind, and the driver does not pass it again. */
        if (want) {
            /* It stands where used_event's counterpart does: behind the last element. */
            uint16_t *avail_event = (void *)&queue->used->ring[queue->num];
            STORE(*avail_event, queue->last_avail, __ATOMIC_RELAXED);
            log_used(queue,
                     offsetof(struct vring_used, ring) +
                         queue->num * sizeof(struct vring_used_elem),
                     sizeof(*avail_event));
        }
    } else {
        STORE(queue->used->flags, want ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
        log_used(queue, 0, sizeof(queue->used->flags));
    }
    /* The wish is written before idx is read: a driver that saw no wish has written idx before. */
    if (want)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !queue->broken && (queue->next_resubmit < queue->n_resubmit || requests_wait(queue));
}

int vu_queue_config_changed(const struct vu_queue *queue, struct error *err)
{
    if (queue->backend_fd < 0)
        return error_set(err, -ENOTCONN, "the front-end gave no channel for back-end requests");
    const struct vhost_user_msg msg = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                                       .flags = VHOST_USER_FLAG_VERSION};
    /* Twelve bytes go at once or not at all: a front-end that does not read them stops no queue. */
    return vhost_user_send(queue->backend_fd, &msg, NULL, 0, 0, err);
}
