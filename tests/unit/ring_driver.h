/* The other side of a virtqueue for tests of back-ends: guest memory in a memfd and a driver that fills a split ring. */
#ifndef HUSK_TESTS_RING_DRIVER_H
#define HUSK_TESTS_RING_DRIVER_H

#include "backends/vring.h"

/* Two regions that meet in guest addresses but not in the file, and one far away. */
#define DRIVER_REGIONS 3u
#define DRIVER_REGION_BYTES 0x10000u
#define DRIVER_GPA 0x100000u
#define DRIVER_FAR_GPA 0x200000000u
#define DRIVER_SEAM_GPA (DRIVER_GPA + DRIVER_REGION_BYTES) /* where the first two meet */
#define DRIVER_RAM_BYTES (4 * DRIVER_REGION_BYTES)
#define DRIVER_BUFFERS (DRIVER_GPA + 0x4000u)
#define DRIVER_USER 0x7f0000000000u /* the front-end's address of gpa 0 */

struct ring_driver {
    int memfd;
    uint8_t *ram;
    struct vhost_user_region regions[DRIVER_REGIONS];
    uint16_t num;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t next_avail, next_used;
};

/** ring_driver_open() - with an empty ring of @num descriptors, at most 256. */
void ring_driver_open(struct ring_driver *driver, uint16_t num);
void ring_driver_close(struct ring_driver *driver);

/** ring_driver_at() - the byte at @gpa in the test's own mapping. */
uint8_t *ring_driver_at(const struct ring_driver *driver, uint64_t gpa);

/** ring_driver_addr() - where the rings are, for SET_VRING_ADDR. */
struct vhost_user_vring_addr ring_driver_addr(unsigned index);

/** ring_driver_set() - one descriptor. */
void ring_driver_set(struct ring_driver *driver, uint16_t i, uint64_t gpa, uint32_t len,
                     uint16_t flags, uint16_t next);

/** ring_driver_offer() - put @head into the available ring and tell of it; the kick is the caller's. */
void ring_driver_offer(struct ring_driver *driver, uint16_t head);

/** ring_driver_reap() - the next used element. Returns whether there was one. */
bool ring_driver_reap(struct ring_driver *driver, struct vring_used_elem *elem);

/** ring_driver_map() - the regions in a back-end's map. */
void ring_driver_map(const struct ring_driver *driver, struct guest_map *map);

#endif
