#include "virtio/control_queue.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>

#define F_INDIRECT_DESC BIT64(28)
#define F_EVENT_IDX BIT64(29)

/* virtio 1.2, 2.7.5 to 2.7.8 */
#define DESC_BYTES 16u
#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define RING_HEAD_BYTES 4u
#define AVAIL_ENTRY_BYTES 2u
#define USED_ENTRY_BYTES 8u
#define EVENT_BYTES 2u

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* A request as it is gathered from its descriptors. */
struct gathered {
    size_t len;
    bool too_long;
    uint8_t *answer; /* where it goes, in guest memory; NULL: nowhere */
    bool writable;   /* such a part has begun */
    unsigned n;      /* descriptors met */
};

static uint16_t load_index(const uint8_t *at, int order)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, order);
}

static void store_index(uint8_t *at, uint16_t value, int order)
{
    __atomic_store_n((uint16_t *)(void *)at, value, order);
}

static uint8_t *ring_part(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
                          uint64_t align)
{
    return is_aligned(gpa, align) ? memory_ptr(memory, gpa, len) : NULL;
}

int control_queue_start(struct control_queue *control, const struct guest_memory *memory,
                        const struct virtio_pci_queue *queue, uint64_t features, struct error *err)
{
    control_queue_stop(control);
    uint64_t size = queue->size;
    control->desc = ring_part(memory, queue->desc, DESC_BYTES * size, DESC_BYTES);
    control->avail = ring_part(memory, queue->driver,
                               RING_HEAD_BYTES + AVAIL_ENTRY_BYTES * size + EVENT_BYTES, 2);
    control->used =
        ring_part(memory, queue->used, RING_HEAD_BYTES + USED_ENTRY_BYTES * size + EVENT_BYTES, 4);
    if (!size || !control->desc || !control->avail || !control->used)
        return error_set(err, -EINVAL, "the driver's control queue is not in RAM");
    control->size = queue->size;
    control->last_avail = control->used_idx = 0;
    control->event_idx = features & F_EVENT_IDX;
    control->indirect = features & F_INDIRECT_DESC;
    control->kick_fd = queue->kick_fd;
    control->call_fd = queue->call_fd;
    control->memory = memory;
    return 0;
}

void control_queue_stop(struct control_queue *control)
{
    control->memory = NULL;
}

/** read_desc() - each byte once. */
static struct desc read_desc(const uint8_t *table, unsigned i)
{
    uint8_t bytes[DESC_BYTES];
    memcpy(bytes, table + (size_t)i * DESC_BYTES, sizeof(bytes));
    __asm__ volatile("" ::: "memory");
    return (struct desc){.addr = load_le64(bytes),
                         .len = load_le32(bytes + 8),
                         .flags = load_le16(bytes + 12),
                         .next = load_le16(bytes + 14)};
}

/** add_desc() - one buffer of the request: bytes copied in, or the place for the answer. */
static int add_desc(struct control_queue *control, struct gathered *request,
                    const struct desc *desc, struct error *err)
{
    if (!desc->len)
        return 0;
    uint8_t *at = memory_ptr(control->memory, desc->addr, desc->len);
    if (!at)
        return error_set(err, -EPROTO, "a buffer of the control queue at %#" PRIx64 " is not RAM",
                         desc->addr);
    if (desc->flags & DESC_F_WRITE) {
        if (!request->writable)
            request->answer = at;
        request->writable = true;
        return 0;
    }
    if (request->writable)
        return error_set(err, -EPROTO, "a readable buffer follows a writable one");
    if (desc->len > sizeof(control->request) - request->len) {
        request->too_long = true;
        return 0;
    }
    memcpy(control->request + request->len, at, desc->len);
    request->len += desc->len;
    return 0;
}

/** gather() - the chain that begins with @i in @table of @n; goes on in an indirect table where there is one. */
static int gather(struct control_queue *control, struct gathered *request, const uint8_t *table,
                  unsigned n, unsigned i, bool nested, struct error *err)
{
    for (unsigned seen = 0;; seen++) {
        if (i >= n || seen == n)
            return error_set(err, -EPROTO,
                             "a chain of the control queue has a loop or leaves its table");
        struct desc desc = read_desc(table, i);
        if (desc.flags & DESC_F_INDIRECT) {
            /* 2.7.5.3: the ring's own descriptor is the last one then, and so many are in the table. */
            uint8_t *inner = memory_ptr(control->memory, desc.addr, MAX(desc.len, 1));
            if (nested || !control->indirect || desc.flags & DESC_F_NEXT || !inner || !desc.len ||
                desc.len % DESC_BYTES || desc.len / DESC_BYTES > control->size)
                return error_set(err, -EPROTO, "an indirect table of the control queue is wrong");
            return gather(control, request, inner, desc.len / DESC_BYTES, 0, true, err);
        }
        int ret = add_desc(control, request, &desc, err);
        if (ret < 0 || !(desc.flags & DESC_F_NEXT))
            return ret;
        i = desc.next;
    }
}

static void give_back(struct control_queue *control, uint16_t head, uint32_t written)
{
    uint8_t *entry = control->used + RING_HEAD_BYTES +
                     (size_t)(control->used_idx & (control->size - 1u)) * USED_ENTRY_BYTES;
    store_le32(entry, head);
    store_le32(entry + 4, written);
    control->used_idx++;
    store_index(control->used + 2, control->used_idx, __ATOMIC_RELEASE);
}

/** interrupt() - if the driver wants to know that used->idx went on from @before (2.7.7). */
static void interrupt(const struct control_queue *control, uint16_t before)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool wanted;
    if (control->event_idx) {
        const uint8_t *used_event =
            control->avail + RING_HEAD_BYTES + (size_t)control->size * AVAIL_ENTRY_BYTES;
        uint16_t event = load_index(used_event, __ATOMIC_RELAXED);
        wanted = (uint16_t)(control->used_idx - event - 1) < (uint16_t)(control->used_idx - before);
    } else {
        wanted = !(load_index(control->avail, __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);
    }
    if (wanted)
        fd_signal(control->call_fd);
}

/** next_waits() - whether there is a request, once the driver was asked for a kick for any after it. */
static bool next_waits(struct control_queue *control, uint16_t *avail_idx)
{
    *avail_idx = load_index(control->avail + 2, __ATOMIC_ACQUIRE);
    if (*avail_idx != control->last_avail || !control->event_idx)
        return *avail_idx != control->last_avail;
    store_index(control->used + RING_HEAD_BYTES + (size_t)control->size * USED_ENTRY_BYTES,
                control->last_avail, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    *avail_idx = load_index(control->avail + 2, __ATOMIC_ACQUIRE);
    return *avail_idx != control->last_avail;
}

/** serve_one() - the request at control->last_avail. Returns 0 or -EPROTO. */
static int serve_one(struct control_queue *control,
                     uint8_t (*handle)(void *ctx, const uint8_t *request, size_t len), void *ctx,
                     struct error *err)
{
    const uint8_t *slot = control->avail + RING_HEAD_BYTES +
                          (size_t)(control->last_avail & (control->size - 1u)) * AVAIL_ENTRY_BYTES;
    uint16_t head = load_index(slot, __ATOMIC_RELAXED), before = control->used_idx;
    struct gathered request = {0};
    int ret = gather(control, &request, control->desc, control->size, head, false, err);
    if (ret < 0)
        return ret;
    control->last_avail++;
    if (request.answer)
        *request.answer =
            request.too_long ? CONTROL_ERROR : handle(ctx, control->request, request.len);
    give_back(control, head, request.answer != NULL);
    interrupt(control, before);
    return 0;
}

int control_queue_serve(struct control_queue *control,
                        uint8_t (*handle)(void *ctx, const uint8_t *request, size_t len), void *ctx,
                        struct error *err)
{
    uint16_t avail_idx;
    fd_unsignal(control->kick_fd);
    if (!next_waits(control, &avail_idx))
        return 0;
    if ((uint16_t)(avail_idx - control->last_avail) > control->size)
        return error_set(err, -EPROTO, "more requests wait in the control queue than it holds");
    fd_signal(control->kick_fd);
    return serve_one(control, handle, ctx, err);
}
