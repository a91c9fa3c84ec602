/* A vhost-user front-end for tests of the server, and the device that the server serves: it copies what it reads. */
#ifndef HUSK_TESTS_FRONT_END_H
#define HUSK_TESTS_FRONT_END_H

#include "ring_driver.h"

#include <pthread.h>

#define NUM 16u /* descriptors in the ring, of 64 that the device allows */
#define QUEUES 2u
#define PATIENCE_MS 60000
#define DEVICE_FEATURE 1ull
#define FEATURES                                                                                   \
    (DEVICE_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX | \
     VHOST_FEATURE_PROTOCOL_FEATURES)
#define PROTOCOL                                                                              \
    (VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_LOG_SHMFD | VHOST_USER_PROTOCOL_REPLY_ACK | \
     VHOST_USER_PROTOCOL_BACKEND_REQ | VHOST_USER_PROTOCOL_CONFIG |                           \
     VHOST_USER_PROTOCOL_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_RESET_DEVICE |                  \
     VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS)

struct loopback {
    int prepare_result;
    unsigned prepared, runs; /* how often each was called */
    bool hold;               /* takes requests and gives none back */
    bool give_up;            /* serves nothing */
    uint8_t config[16];
};

struct front {
    struct loopback loopback;
    struct vu_backend backend;
    struct ring_driver driver;
    int fd, served_fd, stop_fd; /* the front-end's and the back-end's end of the connection */
    int kick, call, err;        /* eventfds of ring 0 */
    pthread_t thread;           /* of vu_serve() */
    bool running;
    int result; /* of vu_serve() */
    struct error why;
};

/** front_serve_again() - a new connection, served by a thread. */
void front_serve_again(struct front *f);

/** front_unserved() - a front-end and a back-end that nobody runs yet. */
struct front *front_unserved(void);

/** front_served() - with a connection. */
struct front *front_served(void);

/** front_hang_up() - close the connection; returns what serving it came to. */
int front_hang_up(struct front *f);
void front_free(struct front *f);

/** front_say_with() - send a message of version 1. */
void front_say_with(struct front *f, struct vhost_user_msg *msg, const int *fds, unsigned n);

/** front_hear() - the reply to @request. Returns its first descriptor or -1. */
int front_hear(struct front *f, uint32_t request, struct vhost_user_msg *reply);

/** front_ask_with() - a message that wants an answer: 0 done, 1 refused. */
uint64_t front_ask_with(struct front *f, struct vhost_user_msg msg, const int *fds, unsigned n);

/** u64_msg() - a message with a number; state_msg() - about a ring. */
struct vhost_user_msg u64_msg(uint32_t request, uint64_t value);
struct vhost_user_msg state_msg(uint32_t request, uint32_t index, uint32_t num);

/** front_ask() - front_ask_with() without descriptors. */
uint64_t front_ask(struct front *f, struct vhost_user_msg msg);

/** front_get_u64() - what a request for a number is answered with. */
uint64_t front_get_u64(struct front *f, uint32_t request);

/** front_get_base() - stop a ring; returns where it stands. */
uint32_t front_get_base(struct front *f, uint32_t index);

/** front_table_msg() - the first @n of the driver's regions; front_region_msg() - number @i. */
struct vhost_user_msg front_table_msg(const struct front *f, unsigned n);
struct vhost_user_msg front_region_msg(const struct front *f, uint32_t request, unsigned i);

/** front_agree() - on all features that are offered. */
void front_agree(struct front *f);

/** front_set_memory() - all of the driver's regions. */
void front_set_memory(struct front *f);

/** front_set_ring() - all of ring 0 but for enabling it. */
void front_set_ring(struct front *f, uint32_t base);

/** front_enable() - ring 0; front_set_up() - all from the features to this. */
void front_enable(struct front *f);
void front_set_up(struct front *f);

/** front_wait_readable() - until an eventfd was written, and read it. */
void front_wait_readable(int fd);

/** front_kick() - ring 0. */
void front_kick(struct front *f);

/** front_offer() - a request that copies 16 bytes of @text; descriptors 2 * @slot and the one behind it. */
void front_offer(struct front *f, unsigned slot, const char *text);

/** front_reap() - wait until a request is given back, and see that it is @slot's. */
void front_reap(struct front *f, unsigned slot, const char *text);

/** front_round_trip() - offer, kick and reap. */
void front_round_trip(struct front *f, unsigned slot, const char *text);

/** front_get_inflight() - ask for a region, in a payload of @len bytes. Returns its descriptor; @msg is the reply. */
int front_get_inflight(struct front *f, struct vhost_user_msg *msg, uint32_t len);

#endif
