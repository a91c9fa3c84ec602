#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ring_driver.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define AVAIL_AT 0x1000u
#define USED_AT 0x2000u

void ring_driver_open(struct ring_driver *driver, uint16_t num)
{
    *driver = (struct ring_driver){.num = num};
    driver->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(driver->memfd >= 0);
    assert_int_equal(ftruncate(driver->memfd, DRIVER_RAM_BYTES), 0);
    assert_int_equal(fcntl(driver->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    driver->ram =
        mmap(NULL, DRIVER_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, driver->memfd, 0);
    assert_ptr_not_equal(driver->ram, MAP_FAILED);
    static const uint64_t gpas[DRIVER_REGIONS] = {DRIVER_GPA, DRIVER_SEAM_GPA, DRIVER_FAR_GPA};
    static const uint64_t offsets[DRIVER_REGIONS] = {0, 2 * DRIVER_REGION_BYTES,
                                                     3 * DRIVER_REGION_BYTES};
    for (unsigned i = 0; i < DRIVER_REGIONS; i++)
        driver->regions[i] = (struct vhost_user_region){.gpa = gpas[i],
                                                        .len = DRIVER_REGION_BYTES,
                                                        .user_addr = DRIVER_USER + gpas[i],
                                                        .offset = offsets[i]};
    driver->desc = (void *)driver->ram;
    driver->avail = (void *)(driver->ram + AVAIL_AT);
    driver->used = (void *)(driver->ram + USED_AT);
}

void ring_driver_close(struct ring_driver *driver)
{
    munmap(driver->ram, DRIVER_RAM_BYTES);
    close(driver->memfd);
}

uint8_t *ring_driver_at(const struct ring_driver *driver, uint64_t gpa)
{
    for (unsigned i = 0; i < DRIVER_REGIONS; i++)
        if (gpa - driver->regions[i].gpa < DRIVER_REGION_BYTES)
            return driver->ram + driver->regions[i].offset + (gpa - driver->regions[i].gpa);
    fail_msg("no guest memory at %#llx", (unsigned long long)gpa);
    return NULL;
}

struct vhost_user_vring_addr ring_driver_addr(unsigned index)
{
    const uint64_t base = DRIVER_USER + DRIVER_GPA;
    return (struct vhost_user_vring_addr){.index = index,
                                          .desc = base,
                                          .avail = base + AVAIL_AT,
                                          .used = base + USED_AT,
                                          .log = DRIVER_GPA + USED_AT};
}

void ring_driver_set(struct ring_driver *driver, uint16_t i, uint64_t gpa, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    driver->desc[i] = (struct vring_desc){.addr = gpa, .len = len, .flags = flags, .next = next};
}

void ring_driver_offer(struct ring_driver *driver, uint16_t head)
{
    driver->avail->ring[driver->next_avail % driver->num] = head;
    __atomic_store_n(&driver->avail->idx, ++driver->next_avail, __ATOMIC_SEQ_CST);
}

bool ring_driver_reap(struct ring_driver *driver, struct vring_used_elem *elem)
{
    if (__atomic_load_n(&driver->used->idx, __ATOMIC_ACQUIRE) == driver->next_used)
        return false;
    *elem = driver->used->ring[driver->next_used++ % driver->num];
    return true;
}

void ring_driver_map(const struct ring_driver *driver, struct guest_map *map)
{
    for (unsigned i = 0; i < DRIVER_REGIONS; i++) {
        struct error err = ERROR_INIT;
        int ret = guest_map_add(map, &driver->regions[i], driver->memfd, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(ret, 0);
    }
}
