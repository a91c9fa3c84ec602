/*
 * A vhost-user device between a scripted back-end and a driver that is the test: the PCI transport's place is taken by one
 * that counts what the device tells it.
 */
#ifndef HUSK_TESTS_DEVICE_FIXTURE_H
#define HUSK_TESTS_DEVICE_FIXTURE_H

#include "base/bytes.h"
#include "scripted_backend.h"
#include "virtio/device.h"
#include "virtio/pci.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A device has two queues, but where the test wants more. */
enum { CONNECTIONS = 64, QUEUES = 2, QUEUES_MAX = 5 };
#define RAM_BYTES MIB(1)
/* What a step may take that is to be done, on a machine with much else to do; and one that is never done. */
#define PATIENCE_MS 60000
#define IMPATIENCE_MS 1000
#define USED_AT 0x3000

struct virtio_pci {
    struct virtio_pci_params params;
    struct virtio_pci_queue queues[QUEUES_MAX];
    uint64_t driver_features;
};

struct counters {
    unsigned connects, kills, resets, needs_reset, config_changes, interrupts;
};

struct fixture {
    struct vhost_user_device_params params;
    struct guest_memory memory;
    struct virtio_pci transport;
    struct vhost_user_device *device;
    struct scripted_backend connections[CONNECTIONS];
    int64_t connected_ms[CONNECTIONS]; /* when each was made */
    int pidfd;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct counters n;
};

/** reaches() - whether *@counter comes to @n within @timeout_ms. */
bool reaches(const unsigned *counter, unsigned n, int timeout_ms);

/** wait_ms() - from here on the device waits so long for its back-end; for PATIENCE_MS again when it has killed one. */
void wait_ms(struct fixture *f, int timeout_ms);

/** setup(), teardown() - for cmocka; *@state is the fixture. */
int setup(void **state);

/** forget_device() - and all there was, for a device that begins anew. */
void forget_device(struct fixture *f);
int teardown(void **state);

/** create() - the device, as f->params say. */
void create(struct fixture *f);

/** activate(), reset() - what the driver asks for. */
void activate(struct fixture *f);
void reset(struct fixture *f);

/** reset_and_wait() - until the reset is over. */
void reset_and_wait(struct fixture *f);

/** create_active() - until the first back-end has its queues. Returns @f. */
struct fixture *create_active(struct fixture *f);

/** create_active_that_never_drains() - the first back-end does not stop a queue. */
struct fixture *create_active_that_never_drains(struct fixture *f);

/** used_index() - what the used ring of @queue says that is done. */
void used_index(struct fixture *f, unsigned queue, uint16_t index);

/** kicked() - whether the back-end finds a doorbell of @queue. */
bool kicked(const struct scripted_backend *b, unsigned queue);

#endif
