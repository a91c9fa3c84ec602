/*
 * The common part of every back-end process: a vhost-user server that owns the connection, guest memory, the virtqueues
 * and their threads, the in-flight region and the dirty log. A device (block, net, ...) gives it a table of functions
 * and serves requests that it takes from its queues.
 *
 * Everything a front-end sends and everything guest memory holds is hostile: checked once at the door, read once.
 * Rules: the vhost-user specification (QEMU's docs/interop/vhost-user.rst) and virtio 1.2, 2.7 (split virtqueues).
 */
#ifndef HUSK_BACKENDS_SERVER_H
#define HUSK_BACKENDS_SERVER_H

#include "base/error.h"
#include "sandbox/seccomp.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRTIO_F_RING_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_RING_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

#define VU_QUEUES_MAX 256u       /* the protocol's index of a ring has 8 bits */
#define VU_QUEUE_SIZE_MAX 32768u /* virtio 1.2, 2.7 */
#define VU_CHAIN_IOV_MAX 1024u   /* the kernel's limit for one readv(2) or io_uring request */

struct vu_queue;  /* one virtqueue, owned by its thread while it runs */
struct vu_server; /* one connection */

struct vu_backend_ops {
    /**
     * prepare() - called once for each connection, before its first queue starts and before the in-flight region is
     * read: take locks. May wait. Returns 0 or -errno: then the front-end's request fails, and it is called again
     * with the next one.
     */
    int (*prepare)(void *device, struct error *err);
    /**
     * run() - the body of a queue's thread: serve until vu_queue_stop_fd() is readable, then finish what is under way
     * and return. Only a ring that the driver broke ends it early (vu_queue_pop() < 0), and then, too, what is under
     * way is finished first. Called again whenever the queue starts again.
     */
    void (*run)(void *device, struct vu_queue *queue);
    /**
     * run_all() - instead of run(): one thread for all queues, for a device whose queues share their state.
     * @queues: by index; NULL where a queue does not run, at least one is not NULL.
     *
     * Serves until vu_queue_stop_fd() is readable, which it is for all of them at once, then finishes what is under way
     * and returns. Called again whenever a queue starts or stops; a queue that broke is left alone.
     */
    void (*run_all)(void *device, struct vu_queue *const *queues);
    /**
     * stopped() - what the driver and the device shared is gone: GET_VRING_BASE, RESET_DEVICE or the connection's end.
     * For a device with run_all(), no thread of which runs meanwhile. May be NULL.
     */
    void (*stopped)(void *device);
    /** config_read() - @len bytes at @offset, within the device's config_len. Returns 0 or -errno. */
    int (*config_read)(void *device, uint32_t offset, void *data, uint32_t len);
    /** config_write() - the driver writes; on the server's thread, while queues run. Returns 0 or -errno. */
    int (*config_write)(void *device, uint32_t offset, const void *data, uint32_t len);
};

struct vu_backend {
    const char *name;          /* for messages */
    enum seccomp_mode seccomp; /* of processes that the device starts */
    const struct vu_backend_ops *ops;
    void *device;
    /* The device's own virtio features. The server adds VERSION_1, RING_INDIRECT_DESC, RING_EVENT_IDX and vhost-user's. */
    uint64_t features;
    unsigned n_queues, queue_size; /* at most; the size is a power of two */
    uint32_t config_len;           /* bytes, at most VHOST_USER_CONFIG_MAX */
    /* Requests are given back in the order in which they came, so that used->idx alone says where a back-end that died
     * was: there is no in-flight region. */
    bool in_order;
};

/**
 * vu_serve() - serve one front-end until it closes the connection.
 * @fd: a connected UNIX stream socket; closed on return.
 * @stop_fd: when it becomes readable, the queues are stopped and the call returns; -1 for none.
 *
 * Return: 0 when the connection or serving ended as it should; -errno with @err filled if the front-end broke the
 * protocol or the device failed.
 */
int vu_serve(struct vu_backend *backend, int fd, int stop_fd, struct error *err);

/**
 * vu_listen() - make the socket @path. One that nobody listens on any more is replaced.
 * @backlog: connections that wait to be accepted.
 *
 * Return: the descriptor, for vu_serve_path(); -errno with @err filled if @path cannot be listened on.
 */
int vu_listen(const char *path, int backlog, struct error *err);

/**
 * vu_serve_path() - serve one front-end after another until @stop_fd is readable. What ends a connection is logged.
 * @listener: of vu_listen(), closed at the end; its socket @path is removed then.
 *
 * Return: 0 when stopped; -errno with @err filled.
 */
int vu_serve_path(struct vu_backend *backend, int listener, const char *path, int stop_fd,
                  struct error *err);

/* --- What a queue's thread may call, for its queue alone. --- */

/** vu_queue_index() - from 0. */
unsigned vu_queue_index(const struct vu_queue *queue);

/** vu_queue_features() - those the driver accepted. */
uint64_t vu_queue_features(const struct vu_queue *queue);

/** vu_queue_size() - descriptors in the ring as the driver set it up: never more requests are under way. */
unsigned vu_queue_size(const struct vu_queue *queue);

/** vu_queue_used_before() - whether the driver has had answers on this ring, from this process or from another. */
bool vu_queue_used_before(const struct vu_queue *queue);

/** vu_queue_kick_fd() - an eventfd, non-blocking, that the device reads; -1 if the front-end wants polling. */
int vu_queue_kick_fd(const struct vu_queue *queue);

/** vu_queue_stop_fd() - an eventfd; readable when the thread is to end. The device does not read it. */
int vu_queue_stop_fd(const struct vu_queue *queue);

/* One request. @iov is the caller's array of @iov_max (VU_CHAIN_IOV_MAX is enough for every legal chain). */
struct vu_chain {
    uint16_t head;
    unsigned n_out, n_in; /* entries of @iov: first those the device reads, then those it writes */
    uint64_t out_len, in_len;
    struct iovec *iov;
    unsigned iov_max;
};

/**
 * vu_queue_pop() - the next request. Those resubmitted from the in-flight region come first, oldest first.
 *
 * The buffers are inside guest RAM, no entry is empty, and all of them together are less than 4 GiB; either list may
 * be empty, and bytes may be parted into entries in any way.
 *
 * Return: 1; 0 if there is none; -errno if the ring cannot be served any more, which was logged and signalled to the
 * front-end: nothing else comes until it is set up anew. No other queue is touched.
 */
int vu_queue_pop(struct vu_queue *queue, struct vu_chain *chain);

/**
 * vu_queue_unpop() - as if the request popped last had not been. Of several, those popped later first. Only for a
 * backend that is in_order.
 */
void vu_queue_unpop(struct vu_queue *queue, const struct vu_chain *chain);

/**
 * vu_queue_push() - give a request back: used ring, in-flight region, dirty log. In any order.
 * @written: bytes written from the beginning of the request's writable buffers.
 */
void vu_queue_push(struct vu_queue *queue, const struct vu_chain *chain, uint32_t written);

/** vu_queue_notify() - interrupt the driver, if it wants to know of what was pushed since the last call. */
void vu_queue_notify(struct vu_queue *queue);

/**
 * vu_queue_want_kicks() - ask the driver for kicks, or for none.
 *
 * Return: whether there are requests to pop already, so that waiting for a kick would be wrong. Always look at it when
 * @want is true.
 */
bool vu_queue_want_kicks(struct vu_queue *queue, bool want);

/**
 * vu_queue_config_changed() - tell the front-end that the device's configuration is another now.
 *
 * Return: 0; -ENOTCONN if it gave no channel for that (BACKEND_REQ); -ETIMEDOUT if it reads nothing from it.
 */
int vu_queue_config_changed(const struct vu_queue *queue, struct error *err);

#endif
