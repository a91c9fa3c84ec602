#include "fake_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int fake_queue_init(struct vu_queue *queue)
{
    memset(queue, 0, sizeof(*queue));
    queue->features = 1ull << 9; /* VIRTIO_BLK_F_FLUSH */
    queue->size = 128;
    queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return queue->kick_fd < 0 || queue->stop_fd < 0 ? -errno : 0;
}

void fake_queue_clear(struct vu_queue *queue)
{
    close(queue->kick_fd);
    close(queue->stop_fd);
}

struct fake_request *fake_queue_add(struct vu_queue *queue, const struct iovec *out, unsigned n_out,
                                    const struct iovec *in, unsigned n_in)
{
    struct fake_request *request = &queue->requests[queue->n_requests];
    if (queue->n_requests == FAKE_REQUESTS_MAX ||
        n_out + n_in > sizeof(request->iov) / sizeof(request->iov[0]))
        abort();
    queue->n_requests++;
    request->answered = false;
    request->n_out = n_out;
    request->n_in = n_in;
    if (n_out)
        memcpy(request->iov, out, n_out * sizeof(*out));
    if (n_in)
        memcpy(request->iov + n_out, in, n_in * sizeof(*in));
    return request;
}

void fake_queue_rewind(struct vu_queue *queue)
{
    eventfd_t value;
    (void)eventfd_read(queue->stop_fd, &value);
    queue->n_requests = queue->n_popped = queue->n_answered = queue->n_notified = 0;
}

unsigned vu_queue_index(const struct vu_queue *queue)
{
    return queue->index;
}

int vu_queue_config_changed(const struct vu_queue *queue, struct error *err)
{
    (void)err;
    ((struct vu_queue *)queue)->n_config_changed++;
    return 0;
}

uint64_t vu_queue_features(const struct vu_queue *queue)
{
    return queue->features;
}

unsigned vu_queue_size(const struct vu_queue *queue)
{
    return queue->size;
}

int vu_queue_kick_fd(const struct vu_queue *queue)
{
    return queue->kick_fd;
}

int vu_queue_stop_fd(const struct vu_queue *queue)
{
    return queue->stop_fd;
}

int vu_queue_pop(struct vu_queue *queue, struct vu_chain *chain)
{
    if (queue->break_after && queue->n_popped == queue->break_after)
        return -EPROTO;
    if (queue->n_popped == queue->n_requests)
        return 0;
    const struct fake_request *request = &queue->requests[queue->n_popped];
    chain->head = (uint16_t)queue->n_popped++;
    chain->n_out = request->n_out;
    chain->n_in = request->n_in;
    chain->out_len = chain->in_len = 0;
    if (request->n_out + request->n_in > chain->iov_max)
        abort();
    for (unsigned i = 0; i < request->n_out + request->n_in; i++) {
        chain->iov[i] = request->iov[i];
        *(i < request->n_out ? &chain->out_len : &chain->in_len) += request->iov[i].iov_len;
    }
    return 1;
}

void vu_queue_unpop(struct vu_queue *queue, const struct vu_chain *chain)
{
    if (!queue->n_popped || chain->head != queue->n_popped - 1 ||
        queue->requests[chain->head].answered)
        abort();
    queue->n_popped--;
}

void vu_queue_push(struct vu_queue *queue, const struct vu_chain *chain, uint32_t written)
{
    struct fake_request *request = &queue->requests[chain->head];
    /* Given back once, with the buffers it came with. */
    if (chain->head >= queue->n_popped || request->answered || chain->n_out != request->n_out ||
        chain->n_in != request->n_in ||
        (!queue->changes_iov && memcmp(chain->iov, request->iov,
                                       (chain->n_out + chain->n_in) * sizeof(struct iovec)) != 0))
        abort();
    request->answered = true;
    request->written = written;
    queue->order[queue->n_answered++] = chain->head;
}

void vu_queue_notify(struct vu_queue *queue)
{
    queue->n_notified++;
}

bool vu_queue_used_before(const struct vu_queue *queue)
{
    (void)queue;
    return false;
}

bool vu_queue_want_kicks(struct vu_queue *queue, bool want)
{
    if (queue->n_popped < queue->n_requests)
        return true;
    if (want && (!queue->may_stop || queue->may_stop()))
        (void)eventfd_write(queue->stop_fd, 1);
    return false;
}
