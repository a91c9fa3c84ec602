/*
 * A virtqueue whose memory is whatever the fuzzer makes of it: descriptor table, rings, indirect tables, buffers and the
 * in-flight region, changed between and behind the device's calls. Every entry that a request is given must lie in
 * guest memory, the queue must end its work, and a broken queue must stay broken.
 *
 * The input: 4 bytes of settings, the first 4 KiB of guest memory as far as there is input, then steps of 4 bytes.
 */
#include "backends/vring.h"
#include "base/bytes.h"
#include "base/log.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NUM_MAX 64u
#define IMAGE_BYTES 4096u
#define REGION_BYTES 4096u
#define REGIONS 3u /* the first two meet; the third is apart */
#define RAM_BYTES (REGIONS * REGION_BYTES)
#define FAR_GPA 0x10000u
#define USER 0x40000000u
#define AVAIL_AT 0x400u
#define USED_AT 0x500u
#define UNDER_WAY_MAX NUM_MAX

struct fuzz {
    int memfd, inflight_fd;
    uint8_t *ram;
    struct vhost_user_inflight where;
    struct guest_map map;
    struct inflight inflight;
    struct vu_queue queue;
    struct vu_chain chains[UNDER_WAY_MAX]; /* taken, not given back; their entries are not kept */
    unsigned n_chains;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

/** memory() - made once: it is cleared, not made anew, for each input. */
static struct fuzz *memory(void)
{
    static struct fuzz fuzz;
    struct error err = ERROR_INIT;
    if (fuzz.ram)
        return &fuzz;
    log_set_level((enum log_level) - 1);
    fuzz.memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    check(fuzz.memfd >= 0 && ftruncate(fuzz.memfd, RAM_BYTES) == 0);
    fuzz.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fuzz.memfd, 0);
    check(fuzz.ram != MAP_FAILED);
    static const uint64_t gpas[REGIONS] = {0, REGION_BYTES, FAR_GPA};
    for (unsigned i = 0; i < REGIONS; i++) {
        /* In the file the first is followed by the third. */
        const struct vhost_user_region region = {gpas[i], REGION_BYTES, USER + gpas[i],
                                                 (i * 2 % REGIONS) * REGION_BYTES};
        check(guest_map_add(&fuzz.map, &region, fuzz.memfd, &err) == 0);
    }
    fuzz.where = (struct vhost_user_inflight){.n_queues = 1, .queue_size = NUM_MAX};
    fuzz.inflight_fd = inflight_create(&fuzz.where, &err);
    check(fuzz.inflight_fd >= 0 &&
          inflight_map(&fuzz.inflight, &fuzz.where, fuzz.inflight_fd, &err) == 0);
    return &fuzz;
}

static void start(struct fuzz *f, const uint8_t *settings)
{
    static const struct vhost_user_vring_addr addr = {.desc = USER,
                                                      .avail = USER + AVAIL_AT,
                                                      .used = USER + USED_AT,
                                                      .log = USED_AT,
                                                      .flags = VHOST_USER_VRING_LOG};
    static struct dirty_log log;
    static uint8_t bits[4];
    struct error err = ERROR_INIT;
    check(vring_init(&f->queue, "fuzz", 0, NUM_MAX) == 0);
    log = (struct dirty_log){.bits = bits, .bytes = sizeof(bits)};
    f->queue.map = &f->map;
    f->queue.inflight = settings[0] & 1 ? &f->inflight : NULL;
    f->queue.log = settings[0] & 2 ? &log : NULL;
    f->queue.features = VIRTIO_F_VERSION_1 | (settings[0] & 4 ? 0 : VIRTIO_F_RING_INDIRECT_DESC) |
                        (settings[0] & 8 ? VIRTIO_F_RING_EVENT_IDX : 0);
    f->queue.num = (uint16_t)(1u << (settings[1] % 7));
    f->queue.addr = addr;
    f->queue.addr_set = true;
    f->queue.last_avail = settings[2];
    check(vring_map(&f->queue, &err) == 0);
    vring_start(&f->queue);
    f->n_chains = 0;
}

/** check_chain() - every byte of it is guest memory, and the numbers say what the entries say. */
static void check_chain(const struct fuzz *f, const struct vu_chain *chain)
{
    uint64_t out = 0, in = 0;
    check(chain->head < f->queue.num && chain->n_out + chain->n_in <= chain->iov_max);
    for (unsigned i = 0; i < chain->n_out + chain->n_in; i++) {
        const struct iovec *iov = &chain->iov[i];
        uint64_t gpa = guest_map_gpa_of(&f->map, iov->iov_base);
        uint64_t len = iov->iov_len;
        check(len > 0 && guest_map_gpa(&f->map, gpa, &len) == iov->iov_base && len == iov->iov_len);
        *(i < chain->n_out ? &out : &in) += iov->iov_len;
    }
    check(out == chain->out_len && in == chain->in_len && out + in <= UINT32_MAX);
    for (unsigned i = 0; i < f->n_chains; i++)
        check(f->chains[i].head != chain->head);
}

static void pop(struct fuzz *f, uint8_t iov_max)
{
    static struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain = {.iov = iov, .iov_max = iov_max ? iov_max : VU_CHAIN_IOV_MAX};
    if (f->n_chains == UNDER_WAY_MAX)
        return;
    int ret = vu_queue_pop(&f->queue, &chain);
    check((ret < 0) == f->queue.broken);
    if (ret <= 0)
        return;
    check_chain(f, &chain);
    chain.n_out = chain.n_in = 0;
    f->chains[f->n_chains++] = chain;
}

static void push(struct fuzz *f, uint8_t which)
{
    if (!f->n_chains)
        return;
    unsigned i = which % f->n_chains;
    vu_queue_push(&f->queue, &f->chains[i], which);
    f->chains[i] = f->chains[--f->n_chains];
}

static void step(struct fuzz *f, const uint8_t *settings, const uint8_t *bytes)
{
    size_t at = load_le16(bytes + 1);
    switch (bytes[0] % 8) {
    case 0: /* the driver makes one more available */
        f->ram[AVAIL_AT + 2]++;
        pop(f, 0);
        break;
    case 1:
        pop(f, bytes[1]);
        break;
    case 2:
        push(f, bytes[1]);
        break;
    case 3:
        vu_queue_notify(&f->queue);
        break;
    case 4:
        check(!vu_queue_want_kicks(&f->queue, bytes[1] & 1) || !f->queue.broken);
        break;
    case 5: /* the driver writes anywhere */
        f->ram[at % RAM_BYTES] = bytes[3];
        break;
    case 6: /* whoever shares the in-flight region does */
        f->inflight.bytes[16 + at % (f->where.mmap_size - 16)] = bytes[3];
        f->inflight.bytes[12 + bytes[1] % 4] = bytes[3];
        break;
    default: /* the back-end dies, and another one takes over */
        vring_release(&f->queue);
        start(f, settings);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = memory();
    if (size < 4)
        return 0;
    const uint8_t *settings = data;
    size_t image = MIN(size - 4, IMAGE_BYTES);
    memset(f->ram, 0, RAM_BYTES);
    memcpy(f->ram, data + 4, image);
    struct inflight_ring *ring = inflight_ring(&f->inflight, 0, NUM_MAX);
    memset(ring->desc, 0, NUM_MAX * sizeof(ring->desc[0]));
    ring->used_idx = ring->last_batch_head = 0;
    start(f, settings);
    for (size_t at = 4 + image; at + 4 <= size; at += 4)
        step(f, settings, data + at);
    for (unsigned i = 0; i < 2 * NUM_MAX; i++) {
        pop(f, 0);
        push(f, (uint8_t)i);
    }
    vu_queue_notify(&f->queue);
    vring_release(&f->queue);
    return 0;
}
