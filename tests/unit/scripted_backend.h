/* A vhost-user back-end that answers as it should, but for one thing that the test asks for. It serves no queue. */
#ifndef HUSK_TESTS_UNIT_SCRIPTED_BACKEND_H
#define HUSK_TESTS_UNIT_SCRIPTED_BACKEND_H

#include "virtio/vhost_user.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SCRIPTED_QUEUES 4
#define SCRIPTED_CONFIG_BYTES 60
#define SCRIPTED_SEEN_MAX 256

enum scripted_fault {
    FAULT_NONE,
    FAULT_SILENT,        /* no answer, ever */
    FAULT_LATE,          /* the answer comes when scripted_release() is called */
    FAULT_CLOSE,         /* closes instead of answering */
    FAULT_OTHER_REQUEST, /* answers something else */
    FAULT_NO_REPLY_FLAG,
    FAULT_VERSION,
    FAULT_EMPTY, /* an answer without payload */
    FAULT_LONG,  /* eight bytes too many */
    FAULT_HUGE,  /* a header that announces 4 GiB */
    FAULT_HALF,  /* half a header, then nothing */
    FAULT_REFUSE,
    FAULT_DESCRIPTORS, /* three come along that nobody asked for */
    FAULT_WRONG_INDEX, /* the contents are of something else */
    FAULT_CHANNEL_FIRST, /* asks on its own channel and waits for that answer before it gives its own */
    FAULT_CHANNEL_FLOOD, /* sends requests on its own channel, and never answers */
    FAULT_CHANNEL_HALF,  /* half a request on its own channel, then answers */
    FAULTS,
};

struct scripted_queue {
    bool has_kick, has_call;
    int kick_fd, err_fd;
    bool enabled, stopped;
    uint32_t size, base;
};

struct scripted_backend {
    /* Set before scripted_start(); zero features mean a full set. */
    uint64_t features, protocol, n_queues;
    uint64_t capacity;
    enum scripted_fault fault;
    uint32_t fault_at; /* the request */

    int fd, frontend_fd, channel_fd;
    pthread_t thread;
    bool runs;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool released, closed;
    unsigned n_seen;
    uint32_t seen[SCRIPTED_SEEN_MAX];
    uint64_t acked_features;
    struct vhost_user_mem_table table;
    unsigned n_table_fds;
    struct scripted_queue queues[SCRIPTED_QUEUES];
    int inflight_fd; /* as it was set */
    struct vhost_user_inflight inflight;
};

/** scripted_start() - returns the front-end's end of the connection, which is the caller's. */
int scripted_start(struct scripted_backend *b);

/** scripted_kill() - as if its process died: the connection ends. From any thread. */
void scripted_kill(struct scripted_backend *b);

/** scripted_stop() - the same, and wait for its end; what it has seen stays. */
void scripted_stop(struct scripted_backend *b);

/** scripted_release() - let the answer that was kept back go. */
void scripted_release(struct scripted_backend *b);

/** scripted_saw() - how often @request has come. */
unsigned scripted_saw(struct scripted_backend *b, uint32_t request);

/** scripted_wait() - until @request has come @times times; false after five seconds. */
bool scripted_wait(struct scripted_backend *b, uint32_t request, unsigned times);

/** scripted_say() - bytes nobody asked for, on the connection or on its own channel. */
void scripted_say(struct scripted_backend *b, bool channel, const void *bytes, size_t len);

#endif
