#include "memory/memory.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/units.h"
#include "memory/huge_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Prefaulting goes in steps, so that it can be ended by a signal in between. */
#define PREFAULT_STEP MIB(256)

/** default_hugepage_size() - from /proc/meminfo; 0 if the kernel has no huge pages. */
static uint64_t default_hugepage_size(void)
{
    _cleanup_fclose_ FILE *meminfo = fopen("/proc/meminfo", "re");
    if (!meminfo)
        return 0;
    char line[128];
    while (fgets(line, sizeof(line), meminfo)) {
        uint64_t kib;
        if (sscanf(line, "Hugepagesize: %" SCNu64 " kB", &kib) == 1)
            return KIB(kib);
    }
    return 0;
}

/** free_hugepages() - how many pages of @size the kernel has left; -1 if it has none of that size. */
static long free_hugepages(uint64_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/free_hugepages",
             size / 1024);
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    long pages;
    if (!file || fscanf(file, "%ld", &pages) != 1)
        return -1;
    return pages;
}

void memory_look(struct memory_host *host, const struct memory_params *params)
{
    *host = (struct memory_host){.free_hugepages = -1};
    if (params->hugepages) {
        host->hugepage_size = default_hugepage_size();
        uint64_t size = params->hugepage_size ? params->hugepage_size : host->hugepage_size;
        host->free_hugepages = free_hugepages(size);
    } else if (params->thp) {
        host->thp_by_hand = huge_pages_by_hand();
    }
}

static int lacks_hugepages(const struct memory_params *params, uint64_t page, int code,
                           struct error *err)
{
    uint64_t size = params->size;
    char page_text[UNITS_SIZE_TEXT];
    units_format_size(page, page_text);
    long left = params->host->free_hugepages;
    if (left < 0)
        error_set(err, code, "the kernel offers no huge pages of %s", page_text);
    else
        error_set(err, code, "%" PRIu64 " huge pages of %s are needed, %ld are free", size / page,
                  page_text, left);
    error_hint(err,
               "set pages aside in /sys/kernel/mm/hugepages/hugepages-%" PRIu64
               "kB/nr_hugepages, or leave hugepages=on out",
               page / 1024);
    return code;
}

static int create_memfd(const struct memory_params *params, uint64_t page, struct error *err)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (params->hugepages)
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(page) << MFD_HUGE_SHIFT;
    _cleanup_close_ int fd = memfd_create("husk-guest-ram", flags);
    if (fd < 0 && params->hugepages)
        return lacks_hugepages(params, page, -errno, err);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not make a memfd for the guest's RAM");
    if (ftruncate(fd, (off_t)params->size) < 0)
        return error_set_errno(err, -errno, "could not give the guest's RAM 0x%" PRIx64 " bytes",
                               params->size);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set_errno(err, -errno, "could not seal the guest's RAM");
    return take_fd(&fd);
}

/** told_to_end() - whether a blocked signal that ends husk waits for somebody to look. */
static bool told_to_end(void)
{
    sigset_t waiting;
    return sigpending(&waiting) == 0 &&
           (sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1 ||
            sigismember(&waiting, SIGHUP) == 1);
}

static int prefault(const struct guest_memory *memory, struct error *err)
{
    for (uint64_t done = 0; done < memory->size; done += PREFAULT_STEP) {
        uint64_t len = MIN(PREFAULT_STEP, memory->size - done);
        if (told_to_end())
            return error_set(err, -EINTR, "a signal came while the guest's RAM was allocated");
        if (memory->huge_by_hand)
            huge_pages_prepare(memory->base + done, len);
        int ret;
        do
            ret = madvise(memory->base + done, len, MADV_POPULATE_WRITE);
        while (ret < 0 && (errno == EINTR || errno == EAGAIN));
        if (ret < 0) {
            error_set_errno(err, -errno,
                            "could not allocate the guest's RAM beyond %" PRIu64 " MiB",
                            done >> 20);
            return error_hint(err,
                              "leave prefault=on out to allocate pages as the guest uses them");
        }
    }
    return 0;
}

static void lay_out(struct guest_memory *memory, const struct memory_params *params)
{
    uint64_t low = MIN(params->low_size, params->size);
    memory->regions[memory->n_regions++] = (struct memory_region){.gpa = 0, .len = low};
    if (params->size > low)
        memory->regions[memory->n_regions++] = (struct memory_region){
            .gpa = params->high_gpa, .len = params->size - low, .offset = low};
}

/** map_aligned() - as mmap(), at a multiple of 2 MiB: only there can KVM map a huge page as one. */
static void *map_aligned(uint64_t size, int flags, int fd)
{
    uint8_t *room = mmap(NULL, size + HUGE_PAGE_BYTES, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return MAP_FAILED;
    uint64_t before =
        align_up((uint64_t)(uintptr_t)room, HUGE_PAGE_BYTES) - (uint64_t)(uintptr_t)room;
    void *base = mmap(room + before, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        int code = errno;
        munmap(room, size + HUGE_PAGE_BYTES);
        errno = code;
        return MAP_FAILED;
    }
    uint64_t end = align_up(before + size, PAGE_BYTES);
    if (before)
        munmap(room, before);
    if (end < size + HUGE_PAGE_BYTES)
        munmap(room + end, size + HUGE_PAGE_BYTES - end);
    return base;
}

/** advise() - what the kernel should know about RAM. */
static void advise(struct guest_memory *memory, const struct memory_params *params)
{
    /* A core dump of husk must not hold the guest's memory. */
    madvise(memory->base, memory->size, MADV_DONTDUMP);
    if (!params->thp || params->hugepages)
        return;
    if (madvise(memory->base, memory->size, MADV_HUGEPAGE) < 0)
        log_debug("no transparent huge pages for the guest's RAM: %s", strerror(errno));
    else
        memory->huge_by_hand = params->host->thp_by_hand;
}

/** create_windows() - private to this process: nothing but the guest's processors looks at them. */
static int create_windows(struct guest_memory *memory, const struct memory_params *params,
                          struct error *err)
{
    for (unsigned i = 0; params->windows && i < params->windows->n; i++) {
        struct memory_window window = params->windows->at[i];
        void *base = mmap(NULL, window.len, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            return error_set_errno(err, -errno,
                                   "could not map 0x%" PRIx64 " bytes for guest address 0x%" PRIx64,
                                   window.len, window.gpa);
        madvise(base, window.len, MADV_DONTDUMP);
        window.base = base;
        memory->windows.at[memory->windows.n++] = window;
    }
    return 0;
}

int memory_create(struct guest_memory *memory, const struct memory_params *asked, struct error *err)
{
    struct memory_host now;
    struct memory_params with_host = *asked;
    const struct memory_params *params = &with_host;
    if (!asked->host) {
        memory_look(&now, asked);
        with_host.host = &now;
    }
    uint64_t page = PAGE_BYTES;
    if (params->hugepages)
        page = params->hugepage_size ? params->hugepage_size : params->host->hugepage_size;
    if (page == 0)
        return error_set(err, -ENOTSUP, "this kernel has no huge pages");
    if (params->size == 0 || !is_aligned(params->size, page) ||
        !is_aligned(params->low_size, page)) {
        char text[UNITS_SIZE_TEXT];
        return error_set(err, -EINVAL, "the guest's RAM must be a multiple of %s",
                         units_format_size(page, text));
    }

    *memory = (struct guest_memory){.fd = -1, .size = params->size};
    _cleanup_close_ int fd = create_memfd(params, page, err);
    if (fd < 0)
        return fd;
    /* Huge pages are set aside here or not at all: a guest that meets the shortage later cannot go on. */
    int flags = MAP_SHARED | (params->reserve || params->hugepages ? 0 : MAP_NORESERVE);
    void *base = params->hugepages ? mmap(NULL, params->size, PROT_READ | PROT_WRITE, flags, fd, 0)
                                   : map_aligned(params->size, flags, fd);
    if (base == MAP_FAILED) {
        if (params->hugepages)
            return lacks_hugepages(params, page, -errno, err);
        return error_set_errno(err, -errno, "could not map the guest's RAM");
    }
    memory->base = base;
    memory->fd = take_fd(&fd);
    lay_out(memory, params);

    advise(memory, params);
    int ret = params->prefault ? prefault(memory, err) : 0;
    if (ret == 0)
        ret = create_windows(memory, params, err);
    if (ret < 0)
        memory_destroy(memory);
    return ret;
}

void memory_destroy(struct guest_memory *memory)
{
    if (memory->base)
        munmap(memory->base, memory->size);
    for (unsigned i = 0; i < memory->windows.n; i++)
        munmap(memory->windows.at[i].base, memory->windows.at[i].len);
    cleanup_close(&memory->fd);
    *memory = (struct guest_memory){.fd = -1};
}

void *memory_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < memory->n_regions; i++) {
        const struct memory_region *region = &memory->regions[i];
        if (gpa >= region->gpa && range_within(gpa - region->gpa, len, region->len))
            return memory->base + region->offset + (gpa - region->gpa);
    }
    return NULL;
}

void *memory_load_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t *len)
{
    for (unsigned i = 0; i < memory->n_regions; i++) {
        const struct memory_region *region = &memory->regions[i];
        if (gpa < region->gpa || gpa - region->gpa >= region->len)
            continue;
        *len = MIN(*len, region->len - (gpa - region->gpa));
        return memory->base + region->offset + (gpa - region->gpa);
    }
    for (unsigned i = 0; i < memory->windows.n; i++) {
        const struct memory_window *window = &memory->windows.at[i];
        if (gpa < window->gpa || gpa - window->gpa >= window->len)
            continue;
        *len = MIN(*len, window->len - (gpa - window->gpa));
        return window->base + (gpa - window->gpa);
    }
    return NULL;
}

int memory_register(const struct guest_memory *memory, const struct kvm *kvm, int vm_fd,
                    struct error *err)
{
    for (unsigned i = 0; i < memory->n_regions; i++) {
        const struct memory_region *region = &memory->regions[i];
        struct kvm_memory slot = {
            .slot = i,
            .gpa = region->gpa,
            .len = region->len,
            .hva = memory->base + region->offset,
        };
        int ret = kvm_set_memory(kvm, vm_fd, &slot, err);
        if (ret < 0)
            return ret;
    }
    for (unsigned i = 0; i < memory->windows.n; i++) {
        const struct memory_window *window = &memory->windows.at[i];
        struct kvm_memory slot = {
            .slot = memory->n_regions + i,
            .readonly = window->readonly,
            .gpa = window->gpa,
            .len = window->len,
            .hva = window->base,
        };
        int ret = kvm_set_memory(kvm, vm_fd, &slot, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}
