/* A device's state, for its two halves: what is done to the back-end (device_backend.c) and when (device.c). */
#ifndef HUSK_VIRTIO_DEVICE_INTERNAL_H
#define HUSK_VIRTIO_DEVICE_INTERNAL_H

#include "virtio/control_queue.h"
#include "virtio/device.h"
#include "virtio/frontend.h"
#include "virtio/net_control.h"
#include "virtio/pci.h"

#include <pthread.h>

#define CONFIG_WRITES_MAX 8
#define CONFIG_WRITE_BYTES 8

struct config_write {
    unsigned offset, len;
    uint8_t data[CONFIG_WRITE_BYTES];
};

/* What vCPU threads ask of the control thread. */
struct device_jobs {
    bool activate, reset, exit;
    unsigned n_writes;
    struct config_write writes[CONFIG_WRITES_MAX];
};

struct vhost_user_device {
    struct vhost_user_device_params params;
    struct virtio_pci *pci;
    uint64_t features; /* offered to the driver */

    pthread_mutex_t lock; /* @jobs and @config; taken after the transport's where both are */
    struct device_jobs jobs;
    uint8_t config[VHOST_USER_CONFIG_MAX];

    /* The control thread's, but before it runs and after. */
    pthread_t thread;
    bool thread_runs;
    int wake_fd; /* eventfd: there are jobs */
    int err_fd;  /* eventfd, the back-end's: the driver broke a queue */
    struct vhost_user_frontend frontend;
    /* What the driver has written of the configuration, for the next back-end to know. */
    uint8_t driver_config[VHOST_USER_CONFIG_MAX];
    bool driver_wrote[VHOST_USER_CONFIG_MAX];
    int pidfd;
    bool active;       /* the driver has its queues running, as far as it knows */
    bool started;      /* this back-end has been given queues, and may touch them */
    bool broken;       /* DEVICE_NEEDS_RESET was said; nothing is done until then */
    bool draining;     /* the driver's reset waits for a back-end that cannot be killed */
    bool has_inflight; /* the first back-end kept an in-flight region, so that all must */
    int inflight_fd;   /* -1: none */
    struct vhost_user_inflight inflight;
    unsigned failures;              /* in a row */
    int64_t connected_at, retry_at; /* milliseconds of the monotonic clock */
    struct net_front *net;          /* of a network device, else NULL */
};

/* The front-end's part of a network device. */
struct net_front {
    struct net_control state;
    struct control_queue control;
    struct error err; /* what went wrong with the back-end while the driver was served */
};

/** device_asks_config() - whether the configuration is the back-end's to tell, and not the front-end's own. */
bool device_asks_config(const struct vhost_user_device *device);

/** device_timeout() - milliseconds that the back-end has for a job. */
int device_timeout(const struct vhost_user_device *device);

/**
 * device_connect() - start or connect to the back-end, shake hands, read the configuration.
 * @again: refuse one that lacks what the driver has been shown.
 *
 * Return: 0 or -errno, without a connection then.
 */
int device_connect(struct vhost_user_device *device, bool again, struct error *err);

/** device_disconnect() - close the connection; what it was for stays as it is. */
void device_disconnect(struct vhost_user_device *device);

/**
 * device_start() - give the back-end features, memory and queues as the driver has set them up.
 * @recover: an earlier back-end has been at these queues.
 *
 * Return: 0; -EINVAL if what the driver has set cannot be done; another -errno if the connection is of no more use.
 */
int device_start(struct vhost_user_device *device, bool recover, struct error *err);

/** device_stop() - returns 0 when the back-end has finished what it had taken, and touches no queue. */
int device_stop(struct vhost_user_device *device, struct error *err);

/** device_read_config() - from the back-end into @config; @same_size: refuse another capacity. */
int device_read_config(struct vhost_user_device *device, bool same_size, struct error *err);

/** device_forget_inflight() - nothing is in flight any more. */
void device_forget_inflight(struct vhost_user_device *device);

/* device_net.c: every function may be called for a device of another kind, too. */

/** device_net_init() - returns 0 or -ENOMEM. */
int device_net_init(struct vhost_user_device *device, struct error *err);

/** device_net_features() - those that are the front-end's to offer. */
uint64_t device_net_features(const struct vhost_user_device *device);

/** device_backend_queues() - how many of the queues, from 0 on, are the back-end's. */
unsigned device_backend_queues(const struct vhost_user_device *device);

/** device_queue_on() - whether the driver has that queue of the back-end's in use. */
bool device_queue_on(const struct vhost_user_device *device, unsigned index);

/** device_net_start() - at the driver's start: its control queue. Returns 0 or -EINVAL. */
int device_net_start(struct vhost_user_device *device, struct error *err);

/** device_net_reset() - as at the beginning. */
void device_net_reset(struct vhost_user_device *device);

/** device_control_fd() - what is readable when the driver asks for something; -1 for never. */
int device_control_fd(const struct vhost_user_device *device);

/**
 * device_net_serve() - what the driver asks for on its control queue.
 *
 * Return: 0; -EINVAL if the driver broke the queue; another -errno if the back-end failed at it.
 */
int device_net_serve(struct vhost_user_device *device, struct error *err);

#endif
