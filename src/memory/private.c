#include "memory/private.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/units.h"
#include "memory/page_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Prefaulting goes in steps, so that it can be ended by a signal in between. */
#define PREFAULT_STEP MIB(256)

/* One slot: a region of RAM or a window. */
struct slot {
    uint64_t gpa, len;
    uint8_t *base;          /* where its shared half is mapped */
    int shared_fd;          /* the memfd of it; -1: anonymous memory */
    uint64_t shared_offset; /* in that */
    int private_fd;         /* guest_memfd, from offset 0 on */
    struct page_map shared; /* a bit a page: its attribute is shared */
};

/* How often a vCPU has faulted on the same page, with the same wish, in vain. */
struct fault_loop {
    uint64_t gpa;
    bool to_private;
    unsigned times;
};

struct private_memory {
    int vm_fd;
    struct slot slots[MEMORY_REGIONS_MAX + MEMORY_WINDOWS_MAX]; /* by address */
    unsigned n_slots;
    struct fault_loop *loops; /* by vCPU; each is its thread's own */
    uint32_t n_vcpus;
    pthread_mutex_t lock; /* guards what follows and the page maps, and keeps attribute, map and
                             the half that is given back in step */
    struct memory_counters counters;
    bool warned; /* that the host does not take memory back */
};

static int check_kvm(int vm_fd, struct error *err)
{
    static const struct {
        int number;
        int bits; /* that must be there */
        const char *name;
    } needed[] = {
        {KVM_CAP_USER_MEMORY2, 1, "KVM_CAP_USER_MEMORY2"},
        {KVM_CAP_GUEST_MEMFD, 1, "KVM_CAP_GUEST_MEMFD"},
        {KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE, "KVM_CAP_MEMORY_ATTRIBUTES"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (!(kvm_has(vm_fd, needed[i].number) & needed[i].bits)) {
            error_set(err, -ENOTSUP, "this KVM has no private memory (%s)", needed[i].name);
            return error_hint(err, "husk probe says what this host can do, and what it lacks");
        }
    return 0;
}

/** add_slot() - with its private half; behind those that are there. */
static int add_slot(struct private_memory *private, const struct kvm *kvm, struct slot slot,
                    struct error *err)
{
    unsigned number = private->n_slots;
    slot.private_fd = kvm_create_guest_memfd(private->vm_fd, slot.len, err);
    if (slot.private_fd < 0)
        return slot.private_fd;
    if (page_map_init(&slot.shared, slot.len / PAGE_BYTES) < 0) {
        cleanup_close(&slot.private_fd);
        return error_set(err, -ENOMEM, "out of memory for the attributes of 0x%" PRIx64 " bytes",
                         slot.len);
    }
    private->slots[private->n_slots++] = slot;
    const struct kvm_memory told = {
        .slot = number,
        .gpa = slot.gpa,
        .len = slot.len,
        .hva = slot.base,
        .has_private = true,
        .guest_memfd = slot.private_fd,
    };
    int ret = kvm_set_memory(kvm, private->vm_fd, &told, err);
    if (ret == 0)
        ret = kvm_set_private(private->vm_fd, slot.gpa, slot.len, true, err);
    if (ret == 0)
    private->counters.private_bytes += slot.len;
    return ret;
}

static int add_slots(struct private_memory *private, const struct guest_memory *memory,
                     const struct kvm *kvm, struct error *err)
{
    int ret = 0;
    for (unsigned i = 0; i < memory->n_regions && ret == 0; i++) {
        const struct memory_region *region = &memory->regions[i];
        struct slot slot = {.gpa = region->gpa,
                            .len = region->len,
                            .base = memory->base + region->offset,
                            .shared_fd = memory->fd,
                            .shared_offset = region->offset};
        ret = add_slot(private, kvm, slot, err);
    }
    for (unsigned i = 0; i < memory->windows.n && ret == 0; i++) {
        const struct memory_window *window = &memory->windows.at[i];
        struct slot slot = {
            .gpa = window->gpa, .len = window->len, .base = window->base, .shared_fd = -1};
        ret = add_slot(private, kvm, slot, err);
    }
    return ret;
}

static int compare_slots(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

struct private_memory *private_memory_create(const struct guest_memory *memory,
                                             const struct kvm *kvm, int vm_fd, uint32_t n_vcpus,
                                             struct error *err)
{
    struct private_memory *private = calloc(1, sizeof(*private));
    struct fault_loop *loops = calloc(n_vcpus ? n_vcpus : 1, sizeof(*loops));
    if (!private || !loops) {
        free(private);
        free(loops);
        error_set(err, -ENOMEM, "out of memory for the guest's private memory");
        return NULL;
    }
    private->vm_fd = vm_fd;
    private->loops = loops;
    private->n_vcpus = n_vcpus;
    pthread_mutex_init(&private->lock, NULL);

    int ret = check_kvm(vm_fd, err);
    if (ret == 0)
        ret = add_slots(private, memory, kvm, err);
    if (ret < 0) {
        private_memory_free(private);
        return NULL;
    }
    qsort(private->slots, private->n_slots, sizeof(private->slots[0]), compare_slots);
    return private;
}

void private_memory_free(struct private_memory *private)
{
    if (!private)
        return;
    for (unsigned i = 0; i < private->n_slots; i++) {
        page_map_release(&private->slots[i].shared);
        cleanup_close(&private->slots[i].private_fd);
    }
    pthread_mutex_destroy(&private->lock);
    free(private->loops);
    free(private);
}

static struct slot *slot_at(struct private_memory *private, uint64_t gpa)
{
    for (unsigned i = 0; i < private->n_slots; i++)
        if (gpa >= private->slots[i].gpa && gpa - private->slots[i].gpa < private->slots[i].len)
            return &private->slots[i];
    return NULL;
}

static int check_shape(uint64_t gpa, uint64_t len, struct error *err)
{
    if (len == 0 || !is_aligned(gpa | len, PAGE_BYTES) || !range_within(gpa, len, UINT64_MAX))
        return error_set(err, -EINVAL,
                         "0x%" PRIx64 " bytes at 0x%" PRIx64 " are no pages that can be converted",
                         len, gpa);
    return 0;
}

/** check_slots() - that all of the range is memory; before anything is changed. */
static int check_slots(struct private_memory *private, uint64_t gpa, uint64_t len,
                       struct error *err)
{
    for (uint64_t at = gpa; at < gpa + len;) {
        const struct slot *slot = slot_at(private, at);
        if (!slot)
            return error_set(err, -ENXIO, "there is no memory at 0x%" PRIx64, at);
        at = slot->gpa + slot->len;
    }
    return 0;
}

/**
 * give_back() - the half of @slot that is no longer used; the lock is held.
 *
 * A host that does not take it has less memory than it could have: no reason to stop the guest.
 */
static void give_back(struct private_memory *private, const struct slot *slot, uint64_t offset,
                      uint64_t len, bool private_half)
{
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int ret;
    do {
        if (private_half)
            ret = fallocate(slot->private_fd, mode, (off_t)offset, (off_t)len);
        else if (slot->shared_fd >= 0)
            ret =
                fallocate(slot->shared_fd, mode, (off_t)(slot->shared_offset + offset), (off_t)len);
        else
            ret = madvise(slot->base + offset, len, MADV_DONTNEED);
    } while (ret < 0 && errno == EINTR);
    if (ret == 0) {
        private->counters.punches++;
        private->counters.punched_bytes += len;
        return;
    }
    private->counters.punch_failures++;
    if (!private->warned)
        log_warn("the host does not take back the %s half of 0x%" PRIx64 " bytes at 0x%" PRIx64
                 ", which the guest no longer uses: %s",
                 private_half ? "private" : "shared", len, slot->gpa + offset, strerror(errno));
    private->warned = true;
}

/** convert_piece() - as memory_convert(), within one slot; the lock is held. Returns whether something changed, or -errno. */
static int convert_piece(struct private_memory *private, struct slot *slot, uint64_t gpa,
                         uint64_t len, bool to_private, enum memory_cause cause, struct error *err)
{
    uint64_t offset = gpa - slot->gpa;
    uint64_t first = offset / PAGE_BYTES;
    uint64_t end = first + len / PAGE_BYTES;
    if (page_map_next(&slot->shared, first, end, to_private) == end)
        return 0;
    int ret = kvm_set_private(private->vm_fd, gpa, len, to_private, err);
    if (ret < 0)
        return ret;
    uint64_t bytes = page_map_set(&slot->shared, first, end, !to_private) * PAGE_BYTES;
    struct memory_counters *counters = &private->counters;
    counters->private_bytes += to_private ? bytes : -bytes;
    counters->shared_bytes += to_private ? -bytes : bytes;
    if (cause != MEMORY_AT_LAUNCH)
        give_back(private, slot, offset, len, !to_private);
    return 1;
}

static int convert(struct private_memory *private, uint64_t gpa, uint64_t len, bool to_private,
                   enum memory_cause cause, struct error *err)
{
    int changed = 0;
    for (uint64_t at = gpa, end = gpa + len; at < end;) {
        struct slot *slot = slot_at(private, at);
        if (!slot) /* all of it is memory, as was checked */
            break;
        uint64_t piece = MIN(end, slot->gpa + slot->len) - at;
        int ret = convert_piece(private, slot, at, piece, to_private, cause, err);
        if (ret < 0)
            return ret;
        changed |= ret;
        at += piece;
    }
    if (cause == MEMORY_AT_LAUNCH)
        return changed;
    if (!changed)
    private->counters.unchanged++;
    else if (to_private) private->counters.to_private++;
    else private->counters.to_shared++;
    return changed;
}

/** check_loop() - after a fault of @vcpu that found (@changed: did not find) everything as it asks. */
static int check_loop(struct private_memory *private, uint32_t vcpu, uint64_t gpa, bool to_private,
                      bool changed, struct error *err)
{
    if (vcpu >= private->n_vcpus)
        return 0;
    struct fault_loop *loop = &private->loops[vcpu];
    if (changed || loop->gpa != gpa || loop->to_private != to_private)
        *loop = (struct fault_loop){.gpa = gpa, .to_private = to_private};
    if (changed || ++loop->times < MEMORY_FAULT_LIMIT)
        return 0;
    return error_set(err, -ELOOP,
                     "it faulted %d times at 0x%" PRIx64 ", which is %s as it asks, and never got "
                     "on",
                     MEMORY_FAULT_LIMIT, gpa, to_private ? "private" : "shared");
}

int memory_convert(struct private_memory *private, uint64_t gpa, uint64_t len, bool to_private,
                   enum memory_cause cause, uint32_t vcpu, struct error *err)
{
    int ret = check_shape(gpa, len, err);
    if (ret == 0)
        ret = check_slots(private, gpa, len, err);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&private->lock);
    ret = convert(private, gpa, len, to_private, cause, err);
    pthread_mutex_unlock(&private->lock);
    if (ret >= 0 && cause == MEMORY_BY_FAULT)
        ret = check_loop(private, vcpu, gpa, to_private, ret > 0, err);
    return MIN(ret, 0);
}

void memory_drop_shared(struct private_memory *private, uint64_t gpa, uint64_t len)
{
    pthread_mutex_lock(&private->lock);
    for (uint64_t at = gpa, end = gpa + len; at < end;) {
        struct slot *slot = slot_at(private, at);
        if (!slot) /* all of it is memory, as callers see to */
            break;
        uint64_t piece = MIN(end, slot->gpa + slot->len) - at;
        give_back(private, slot, at - slot->gpa, piece, false);
        at += piece;
    }
    pthread_mutex_unlock(&private->lock);
}

/** told_to_end() - whether a blocked signal that ends husk waits for somebody to look. */
static bool told_to_end(void)
{
    sigset_t waiting;
    return sigpending(&waiting) == 0 &&
           (sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1 ||
            sigismember(&waiting, SIGHUP) == 1);
}

/** prefault_pages() - @len bytes at @gpa, all private. */
static int prefault_pages(const struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t len,
                          struct error *err)
{
    for (uint64_t done = 0; done < len;) {
        if (told_to_end())
            return error_set(err, -EINTR, "a signal came while private memory was allocated");
        int64_t ret = kvm_vcpu_prefault(vcpu, gpa + done, MIN(PREFAULT_STEP, len - done));
        if (ret > 0) {
            done += (uint64_t)ret;
        } else if (ret != -EINTR && ret != -EAGAIN) {
            int code = ret < 0 ? (int)ret : -EIO;
            error_set_errno(err, code, "could not allocate private memory from 0x%" PRIx64 " on",
                            gpa + done);
            return error_hint(err,
                              "leave prefault=on out to allocate pages as the guest uses them");
        }
    }
    return 0;
}

int memory_prefault_private(struct private_memory *private, const struct kvm_vcpu *vcpu,
                            struct error *err)
{
    if (!kvm_has(private->vm_fd, KVM_CAP_PRE_FAULT_MEMORY)) {
        error_set(err, -ENOTSUP,
                  "this KVM cannot allocate private memory before the guest runs "
                  "(KVM_CAP_PRE_FAULT_MEMORY)");
        return error_hint(err, "leave prefault=on out to allocate pages as the guest uses them");
    }
    for (unsigned i = 0; i < private->n_slots; i++) {
        const struct slot *slot = &private->slots[i];
        uint64_t pages = slot->shared.pages;
        for (uint64_t at = 0; at < pages;) {
            at = page_map_next(&slot->shared, at, pages, false);
            uint64_t end = page_map_next(&slot->shared, at, pages, true);
            int ret =
                prefault_pages(vcpu, slot->gpa + at * PAGE_BYTES, (end - at) * PAGE_BYTES, err);
            if (ret < 0)
                return ret;
            at = end;
        }
    }
    return 0;
}

void memory_count(struct private_memory *private, struct memory_counters *counters)
{
    pthread_mutex_lock(&private->lock);
    *counters = private->counters;
    pthread_mutex_unlock(&private->lock);
}
