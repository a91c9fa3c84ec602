/*
 * Load on a vhost-user block back-end through libblkio, whose driver is not husk's: random accesses of one size at one
 * depth for a while. Prints accesses a second.
 *
 * usage: blkio-load SOCKET read|write BYTES DEPTH MILLISECONDS
 */
#include <blkio.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 128
#define CLOCK_EVERY 16 /* completions between looks at the clock */

struct load {
    struct blkio *blkio;
    struct blkioq *queue;
    uint8_t *memory;
    int write;
    uint64_t bytes, capacity, random, done;
    int depth;
};

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "blkio-load: %s: %s (%s)\n", what, strerror(-r), blkio_get_error_msg());
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* xorshift64 */
static uint64_t next_random(struct load *load)
{
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return load->random;
}

static void submit(struct load *load, uintptr_t slot)
{
    uint64_t start = next_random(load) % (load->capacity / load->bytes) * load->bytes;
    uint8_t *buffer = load->memory + slot * load->bytes;
    if (load->write)
        blkioq_write(load->queue, start, buffer, load->bytes, (void *)slot, 0);
    else
        blkioq_read(load->queue, start, buffer, load->bytes, (void *)slot, 0);
}

static void connect_to(struct load *load, const char *path)
{
    check(blkio_create("virtio-blk-vhost-user", &load->blkio), "create");
    check(blkio_set_str(load->blkio, "path", path), "path");
    check(blkio_connect(load->blkio), "connect");
    check(blkio_set_int(load->blkio, "num-queues", 1), "num-queues");
    check(blkio_start(load->blkio), "start");
    check(blkio_get_uint64(load->blkio, "capacity", &load->capacity), "capacity");
    load->queue = blkio_get_queue(load->blkio, 0);

    struct blkio_mem_region region;
    size_t len = load->bytes * (size_t)load->depth;
    check(blkio_alloc_mem_region(load->blkio, &region, (len + 4095) & ~(size_t)4095), "memory");
    check(blkio_map_mem_region(load->blkio, &region), "map");
    load->memory = region.addr;
    memset(load->memory, 0x5a, len);
}

static double run(struct load *load, double seconds)
{
    struct blkio_completion completions[DEPTH_MAX];
    for (int i = 0; i < load->depth; i++)
        submit(load, (uintptr_t)i);
    double start = now(), end = start;
    uint64_t look = 0;
    while (end - start < seconds) {
        int n = blkioq_do_io(load->queue, completions, 1, load->depth, NULL);
        check(n, "do_io");
        for (int i = 0; i < n; i++) {
            check(completions[i].ret, "request");
            submit(load, (uintptr_t)completions[i].user_data);
        }
        load->done += (uint64_t)n;
        if (load->done >= look) {
            end = now();
            look = load->done + CLOCK_EVERY;
        }
    }
    return (double)load->done / (end - start);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: blkio-load SOCKET read|write BYTES DEPTH MILLISECONDS\n");
        return 2;
    }
    struct load load = {.random = 0x9e3779b97f4a7c15ull};
    load.write = !strcmp(argv[2], "write");
    load.bytes = strtoull(argv[3], NULL, 10);
    load.depth = atoi(argv[4]);
    if (!load.bytes || load.depth < 1 || load.depth > DEPTH_MAX)
        return 2;
    connect_to(&load, argv[1]);
    printf("%.0f\n", run(&load, atof(argv[5]) / 1e3));
    fflush(stdout);
    _Exit(0); /* what is under way is the back-end's */
}
