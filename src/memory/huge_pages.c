#include "memory/huge_pages.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define PAGES_PER_PIECE (HUGE_PAGE_BYTES / PAGE_BYTES)
/* RAM is looked at in groups of pieces: a guest that begins to use one goes on with the rest, and only pieces that it has
 * not come to yet spare it the faults. */
#define PIECES_PER_GROUP 4
#define GROUP_BYTES (PIECES_PER_GROUP * HUGE_PAGE_BYTES)
#define ENOUGH_IN_USE 64
#define FIRST_INTERVAL_MS 10u
#define LAST_INTERVAL_MS 10000u
#define STACK_BYTES KIB(64)

struct huge_pages {
    const struct guest_memory *memory;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    uint64_t n_groups;
    uint8_t done[]; /* one bit a group: huge pages have been asked for */
};

bool huge_pages_by_hand(void)
{
    _cleanup_fclose_ FILE *file = fopen(SHMEM_ENABLED, "re");
    char line[128];
    return file && fgets(line, sizeof(line), file) && strstr(line, "[never]");
}

/** put_one_page() - the kernel collapses nothing that has no page at all. */
static void put_one_page(uint8_t *start)
{
    madvise(start, PAGE_BYTES, MADV_POPULATE_WRITE);
}

void huge_pages_prepare(uint8_t *start, uint64_t len)
{
    uint64_t first =
        align_up((uint64_t)(uintptr_t)start, HUGE_PAGE_BYTES) - (uint64_t)(uintptr_t)start;
    if (first >= len || len - first < HUGE_PAGE_BYTES)
        return;
    len = align_down(len - first, HUGE_PAGE_BYTES);
    start += first;
    for (uint64_t at = 0; at < len; at += HUGE_PAGE_BYTES)
        put_one_page(start + at);
    if (madvise(start, len, MADV_COLLAPSE) < 0)
        log_debug("no huge pages for what is loaded: %s", strerror(errno));
}

static bool is_done(const struct huge_pages *watch, uint64_t group)
{
    return watch->done[group / CHAR_BIT] & BIT(group % CHAR_BIT);
}

/** in_use() - how many pages of the piece at @start have been allocated. */
static unsigned in_use(uint8_t *start)
{
    unsigned char resident[PAGES_PER_PIECE];
    if (mincore(start, HUGE_PAGE_BYTES, resident) < 0)
        return 0;
    unsigned n = 0;
    for (unsigned i = 0; i < PAGES_PER_PIECE; i++)
        n += resident[i] & 1;
    return n;
}

/** give() - huge pages for @group, if enough of it is in use. Returns whether it is. */
static bool give(struct huge_pages *watch, uint64_t group)
{
    uint8_t *start = watch->memory->base + group * GROUP_BYTES;
    uint64_t len =
        MIN(GROUP_BYTES, align_down(watch->memory->size - group * GROUP_BYTES, HUGE_PAGE_BYTES));
    unsigned used[PIECES_PER_GROUP] = {0}, all = 0;
    for (uint64_t at = 0; at < len; at += HUGE_PAGE_BYTES)
        all += used[at / HUGE_PAGE_BYTES] = in_use(start + at);
    if (all < ENOUGH_IN_USE)
        return false;
    watch->done[group / CHAR_BIT] |= (uint8_t)BIT(group % CHAR_BIT);
    for (uint64_t at = 0; at < len; at += HUGE_PAGE_BYTES)
        if (used[at / HUGE_PAGE_BYTES] == 0)
            put_one_page(start + at);
    /* A piece that the guest fills at this moment is refused: its pages are held elsewhere for a while yet. */
    if (madvise(start, len, MADV_COLLAPSE) < 0)
        log_debug("no huge pages for some of the guest's RAM: %s", strerror(errno));
    return true;
}

/** look() - one round over the groups that have a page. Returns whether there was something to do. */
static bool look(struct huge_pages *watch)
{
    bool any = false;
    for (uint64_t group = 0; group < watch->n_groups; group++) {
        if (is_done(watch, group))
            continue;
        off_t at = lseek(watch->memory->fd, (off_t)(group * GROUP_BYTES), SEEK_DATA);
        if (at < 0)
            break;
        group = (uint64_t)at / GROUP_BYTES;
        if (group < watch->n_groups && !is_done(watch, group))
            any |= give(watch, group);
    }
    return any;
}

static struct timespec after_ms(unsigned ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

static void *watch_thread(void *arg)
{
    struct huge_pages *watch = arg;
    pthread_setname_np(pthread_self(), "huge-pages");
    unsigned interval = FIRST_INTERVAL_MS;
    pthread_mutex_lock(&watch->lock);
    while (!watch->stop) {
        struct timespec until = after_ms(interval);
        if (pthread_cond_timedwait(&watch->wake, &watch->lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&watch->lock);
        interval = look(watch) ? FIRST_INTERVAL_MS : MIN(interval * 2, LAST_INTERVAL_MS);
        pthread_mutex_lock(&watch->lock);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

static int start_thread(struct huge_pages *watch)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&watch->lock, NULL);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int code = pthread_create(&watch->thread, &attr, watch_thread, watch);
    pthread_attr_destroy(&attr);
    return -code;
}

struct huge_pages *huge_pages_watch(const struct guest_memory *memory, struct error *err)
{
    uint64_t n_groups = align_up(memory->size, GROUP_BYTES) / GROUP_BYTES;
    struct huge_pages *watch = calloc(1, sizeof(*watch) + n_groups / CHAR_BIT + 1);
    if (!watch) {
        error_set(err, -ENOMEM, "out of memory for the watch over huge pages");
        return NULL;
    }
    watch->memory = memory;
    watch->n_groups = n_groups;
    int ret = start_thread(watch);
    if (ret < 0) {
        error_set_errno(err, ret, "could not start the thread that watches over huge pages");
        free(watch);
        return NULL;
    }
    return watch;
}

void huge_pages_free(struct huge_pages *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->stop = true;
    pthread_cond_signal(&watch->wake);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}
