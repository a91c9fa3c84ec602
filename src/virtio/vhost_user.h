/*
 * The vhost-user protocol as both of its ends use it: numbers, message layouts, sending and receiving. Source of every
 * number: the vhost-user specification (docs/interop/vhost-user.rst of QEMU). Integers on the wire are the host's.
 */
#ifndef HUSK_VIRTIO_VHOST_USER_H
#define HUSK_VIRTIO_VHOST_USER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Front-end to back-end. */
enum vhost_user_request {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_LOG_FD = 7,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_NET_SET_MTU = 20,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_GET_INFLIGHT_FD = 31,
    VHOST_USER_SET_INFLIGHT_FD = 32,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
    VHOST_USER_SET_DEVICE_STATE_FD = 42,
    VHOST_USER_CHECK_DEVICE_STATE = 43,
};

/* Back-end to front-end, on the channel of VHOST_USER_SET_BACKEND_REQ_FD. */
enum vhost_user_backend_request {
    VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
    VHOST_USER_BACKEND_VRING_CALL = 4,
    VHOST_USER_BACKEND_VRING_ERR = 5,
};

/* Virtio feature bits that vhost-user adds or uses. */
#define VHOST_FEATURE_LOG_ALL (1ull << 26)
#define VHOST_FEATURE_PROTOCOL_FEATURES (1ull << 30)

/* Protocol features. */
#define VHOST_USER_PROTOCOL_MQ (1ull << 0)
#define VHOST_USER_PROTOCOL_LOG_SHMFD (1ull << 1)
#define VHOST_USER_PROTOCOL_REPLY_ACK (1ull << 3)
#define VHOST_USER_PROTOCOL_MTU (1ull << 4)
#define VHOST_USER_PROTOCOL_BACKEND_REQ (1ull << 5)
#define VHOST_USER_PROTOCOL_CONFIG (1ull << 9)
#define VHOST_USER_PROTOCOL_INFLIGHT_SHMFD (1ull << 12)
#define VHOST_USER_PROTOCOL_RESET_DEVICE (1ull << 13)
#define VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS (1ull << 15)
#define VHOST_USER_PROTOCOL_STATUS (1ull << 16)
#define VHOST_USER_PROTOCOL_DEVICE_STATE (1ull << 19)

#define VHOST_USER_FLAG_VERSION 1u
#define VHOST_USER_FLAG_VERSION_MASK 3u
#define VHOST_USER_FLAG_REPLY (1u << 2)
#define VHOST_USER_FLAG_NEED_REPLY (1u << 3)

#define VHOST_USER_HEADER_BYTES 12u
#define VHOST_USER_MEM_REGIONS_MAX 8u /* in one SET_MEM_TABLE, and descriptors in one message */
#define VHOST_USER_CONFIG_MAX 256u
#define VHOST_USER_VRING_INDEX_MASK 0xffull /* of the u64 in SET_VRING_KICK, CALL, ERR */
#define VHOST_USER_VRING_NO_FD (1ull << 8)  /* of the same: no descriptor comes along */
#define VHOST_USER_VRING_LOG (1u << 0)      /* of vring_addr.flags: log writes to the used ring */

struct vhost_user_vring_state {
    uint32_t index;
    uint32_t num;
};

struct vhost_user_vring_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc, used, avail; /* front-end's virtual addresses */
    uint64_t log;               /* guest physical address of the used ring, for the log */
};

struct vhost_user_region {
    uint64_t gpa;
    uint64_t len;
    uint64_t user_addr; /* where the front-end has it mapped */
    uint64_t offset;    /* in the descriptor that comes along */
};

struct vhost_user_mem_table {
    uint32_t n_regions;
    uint32_t padding;
    struct vhost_user_region regions[VHOST_USER_MEM_REGIONS_MAX];
};

struct vhost_user_mem_reg {
    uint64_t padding;
    struct vhost_user_region region;
};

struct vhost_user_config {
    uint32_t offset;
    uint32_t len;
    uint32_t flags; /* of SET_CONFIG: 0 written by the driver, 1 by a migration */
    uint8_t data[VHOST_USER_CONFIG_MAX];
};

struct vhost_user_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t n_queues;
    uint16_t queue_size;
};

struct vhost_user_log {
    uint64_t mmap_size;
    uint64_t mmap_offset;
};

/* One message. @len is of the payload; what follows it in the union is not sent and reads as zero when received. */
struct vhost_user_msg {
    uint32_t request;
    uint32_t flags;
    uint32_t len;
    union {
        uint64_t u64;
        struct vhost_user_vring_state state;
        struct vhost_user_vring_addr addr;
        struct vhost_user_mem_table table;
        struct vhost_user_mem_reg mem_reg;
        struct vhost_user_config config;
        struct vhost_user_inflight inflight;
        struct vhost_user_log log;
    } payload;
};

/* The descriptors that came with a message. Whoever received them owns them. */
struct vhost_user_fds {
    int fd[VHOST_USER_MEM_REGIONS_MAX];
    unsigned n;
};

/** vhost_user_fds_close() - those that are left. */
void vhost_user_fds_close(struct vhost_user_fds *fds);

/** vhost_user_fds_take() - hand the only descriptor on: -1 if there is none; more than one are closed, and it is -1 too. */
int vhost_user_fds_take(struct vhost_user_fds *fds);

/** vhost_user_request_name() - "SET_MEM_TABLE", for messages; "request 77" is "an unknown request". */
const char *vhost_user_request_name(uint32_t request);

/**
 * vhost_user_send() - one message with @n_fds descriptors.
 * @timeout_ms: until the peer has room for all of it; -1 for ever.
 *
 * Return: 0; -ETIMEDOUT; -EPIPE or -ECONNRESET if the peer is gone.
 */
int vhost_user_send(int socket_fd, const struct vhost_user_msg *msg, const int *fds, unsigned n_fds,
                    int timeout_ms, struct error *err);

/**
 * vhost_user_recv() - one whole message, checked for version and length.
 * @fds: receives the descriptors, close-on-exec.
 * @timeout_ms: until all of it is there; -1 for ever.
 *
 * Return: 1; 0 if the peer closed the connection between two messages; -ETIMEDOUT; -EPROTO if what came cannot be a
 * message (the connection is of no more use); another -errno. Without a message @fds holds nothing.
 */
int vhost_user_recv(int socket_fd, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                    int timeout_ms, struct error *err);

#endif
