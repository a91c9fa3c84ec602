#include "backends/guest_map.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void unmap(struct guest_region *region)
{
    munmap(region->mapping, region->mapping_len);
}

void guest_map_clear(struct guest_map *map)
{
    for (unsigned i = 0; i < map->n; i++)
        unmap(&map->regions[i]);
    free(map->regions);
    map->regions = NULL;
    map->n = 0;
}

/** position() - how many regions start at or below @gpa. */
static unsigned position(const struct guest_map *map, uint64_t gpa)
{
    unsigned low = 0, high = map->n;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (map->regions[middle].gpa <= gpa)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/** check_place() - against itself and the other regions, in either address space. */
static int check_place(const struct guest_map *map, const struct vhost_user_region *region,
                       struct error *err)
{
    uint64_t end;
    if (region->len == 0 || add_overflows(region->gpa, region->len, &end) ||
        add_overflows(region->user_addr, region->len, &end) ||
        add_overflows(region->offset, region->len, &end) || end > INT64_MAX)
        return error_set(err, -EINVAL, "it is empty or wraps around");
    for (unsigned i = 0; i < map->n; i++) {
        const struct guest_region *other = &map->regions[i];
        if (ranges_overlap(region->gpa, region->len, other->gpa, other->len) ||
            ranges_overlap(region->user_addr, region->len, other->user_addr, other->len))
            return error_set(err, -EEXIST, "it overlaps the one at %#llx",
                             (unsigned long long)other->gpa);
    }
    return 0;
}

/** check_file() - that @fd holds the region. @alignment: of what can be mapped, more than a page for hugetlbfs. */
static int check_file(struct guest_map *map, const struct vhost_user_region *region, int fd,
                      uint64_t *alignment, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "its descriptor cannot be looked at");
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "its descriptor is neither a memfd nor a file");
    if (!range_within(region->offset, region->len, (uint64_t)st.st_size))
        return error_set(err, -EINVAL, "its file has %llu bytes, which does not reach its end",
                         (unsigned long long)st.st_size);
    uint64_t block = (uint64_t)st.st_blksize;
    bool sane = block >= PAGE_BYTES && block <= GIB(1) && (block & (block - 1)) == 0;
    *alignment = sane ? block : PAGE_BYTES;
    int seals = fcntl(fd, F_GET_SEALS);
    if ((seals < 0 || !(seals & F_SEAL_SHRINK)) && !map->warned) {
        log_warn("guest memory is not sealed: whoever shrinks it ends this process");
        map->warned = true;
    }
    return 0;
}

/** map_file() - fill @mapped from @fd. hugetlbfs wants offset and length in whole pages of its own. */
static int map_file(const struct vhost_user_region *region, int fd, uint64_t alignment,
                    struct guest_region *mapped)
{
    uint64_t start = align_down(region->offset, alignment);
    uint64_t end = align_up(region->offset + region->len, alignment);
    void *at = mmap(NULL, end - start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                    (off_t)start);
    if (at == MAP_FAILED)
        return -errno;
    /* A core of this process is about this process. */
    madvise(at, end - start, MADV_DONTDUMP);
    *mapped = (struct guest_region){.gpa = region->gpa,
                                    .len = region->len,
                                    .user_addr = region->user_addr,
                                    .bytes = (uint8_t *)at + (region->offset - start),
                                    .mapping = at,
                                    .mapping_len = end - start};
    return 0;
}

static int add(struct guest_map *map, const struct vhost_user_region *region, int fd,
               struct error *err)
{
    if (map->n == GUEST_MAP_SLOTS)
        return error_set(err, -ENOSPC, "there are %u already", GUEST_MAP_SLOTS);
    uint64_t alignment = PAGE_BYTES;
    int ret = check_place(map, region, err);
    if (ret == 0)
        ret = check_file(map, region, fd, &alignment, err);
    if (ret < 0)
        return ret;
    struct guest_region *regions =
        reallocarray(map->regions, map->n + 1, sizeof(struct guest_region));
    if (!regions)
        return error_set(err, -ENOMEM, "out of memory");
    map->regions = regions;
    struct guest_region mapped;
    ret = map_file(region, fd, alignment, &mapped);
    if (ret < 0)
        return error_set_errno(err, ret, "it cannot be mapped");
    unsigned at = position(map, region->gpa);
    memmove(&regions[at + 1], &regions[at], (map->n - at) * sizeof(*regions));
    regions[at] = mapped;
    map->n++;
    return 0;
}

int guest_map_add(struct guest_map *map, const struct vhost_user_region *region, int fd,
                  struct error *err)
{
    int ret = add(map, region, fd, err);
    if (ret < 0)
        error_context(err, "memory region at %#llx of %#llx bytes", (unsigned long long)region->gpa,
                      (unsigned long long)region->len);
    return ret;
}

int guest_map_remove(struct guest_map *map, const struct vhost_user_region *region,
                     struct error *err)
{
    unsigned at = position(map, region->gpa);
    struct guest_region *found = at ? &map->regions[at - 1] : NULL;
    if (!found || found->gpa != region->gpa || found->len != region->len ||
        found->user_addr != region->user_addr)
        return error_set(err, -ENOENT, "there is no memory region at %#llx of %#llx bytes",
                         (unsigned long long)region->gpa, (unsigned long long)region->len);
    unmap(found);
    memmove(found, found + 1, (map->n - at) * sizeof(*found));
    map->n--;
    return 0;
}

void *guest_map_gpa(const struct guest_map *map, uint64_t gpa, uint64_t *len)
{
    unsigned at = position(map, gpa);
    if (at == 0)
        return NULL;
    const struct guest_region *region = &map->regions[at - 1];
    uint64_t offset = gpa - region->gpa;
    if (offset >= region->len)
        return NULL;
    *len = MIN(*len, region->len - offset);
    return region->bytes + offset;
}

void *guest_map_user(const struct guest_map *map, uint64_t user_addr, uint64_t len)
{
    for (unsigned i = 0; i < map->n; i++) {
        const struct guest_region *region = &map->regions[i];
        if (user_addr >= region->user_addr &&
            range_within(user_addr - region->user_addr, len, region->len))
            return region->bytes + (user_addr - region->user_addr);
    }
    return NULL;
}

uint64_t guest_map_gpa_of(const struct guest_map *map, const void *byte)
{
    uintptr_t at = (uintptr_t)byte;
    for (unsigned i = 0; i < map->n; i++) {
        uintptr_t start = (uintptr_t)map->regions[i].bytes;
        if (at >= start && at - start < map->regions[i].len)
            return map->regions[i].gpa + (at - start);
    }
    return UINT64_MAX;
}

int guest_map_read(const struct guest_map *map, uint64_t gpa, void *to, size_t len)
{
    uint8_t *bytes = to;
    while (len > 0) {
        uint64_t piece = len;
        const void *from = guest_map_gpa(map, gpa, &piece);
        if (!from)
            return -EFAULT;
        memcpy(bytes, from, piece);
        bytes += piece;
        gpa += piece; /* a region does not wrap: 0 is reached only with nothing left */
        len -= piece;
    }
    /* Nothing read above is read again behind the caller's checks. */
    __asm__ volatile("" ::: "memory");
    return 0;
}
