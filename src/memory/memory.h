/*
 * The guest's RAM: one memfd, sealed so that no holder of a copy of its descriptor can shrink it under the others,
 * mapped once, shown to the guest as one region below the hole under 4 GiB and one above. Firmware, and what an IGVM file
 * asks for at addresses without RAM, has memory of its own beside it, in windows that no back-end sees.
 */
#ifndef HUSK_MEMORY_MEMORY_H
#define HUSK_MEMORY_MEMORY_H

#include "base/error.h"
#include "kvm/kvm.h"

#include <stdbool.h>
#include <stdint.h>

struct memory_window {
    uint64_t gpa, len; /* whole pages */
    bool readonly;     /* to the guest */
    uint8_t *base;     /* where it is mapped, once it is */
};

#define MEMORY_WINDOWS_MAX 64

/* By address; apart from each other and from RAM. */
struct memory_windows {
    struct memory_window at[MEMORY_WINDOWS_MAX];
    unsigned n;
};

/* What the host's files say of huge pages: looked at once, by a process that may open no file later. */
struct memory_host {
    uint64_t hugepage_size; /* the system's default, 0: it has none */
    long free_hugepages;    /* of the size asked for; -1: it has none of that size */
    bool thp_by_hand;       /* it gives shared memory transparent huge pages if asked only */
};

struct memory_params {
    uint64_t size;     /* bytes, a multiple of the page size in use */
    uint64_t low_size; /* bytes of it that lie below the hole, from guest address 0 */
    uint64_t high_gpa; /* where the rest begins */
    bool hugepages;
    uint64_t hugepage_size; /* bytes; 0 for the system's default */
    bool thp;               /* ask for transparent huge pages */
    bool prefault;          /* allocate everything now */
    bool reserve;           /* hugepages: set them aside now, so that none is lacking later */
    const struct memory_windows *windows; /* NULL for none */
    const struct memory_host *host;       /* NULL: look now */
};

struct memory_region {
    uint64_t gpa;
    uint64_t len;
    uint64_t offset; /* in the memfd and from @base */
};

#define MEMORY_REGIONS_MAX 2

struct guest_memory {
    int fd;
    uint8_t *base; /* where the whole memfd is mapped, 2 MiB-aligned */
    uint64_t size;
    struct memory_region regions[MEMORY_REGIONS_MAX];
    unsigned n_regions;
    struct memory_windows windows;
    bool
        huge_by_hand; /* transparent huge pages are wanted, and the kernel gives them to those who ask only */
};

/** memory_look() - at what memory_create() with @params asks of the host. */
void memory_look(struct memory_host *host, const struct memory_params *params);

/**
 * memory_create() - make and map RAM; it reads as zeros.
 *
 * Return: 0; -EINVAL if the size is no multiple of the huge page size; -ENOMEM with what is lacking.
 */
int memory_create(struct guest_memory *memory, const struct memory_params *params,
                  struct error *err);
void memory_destroy(struct guest_memory *memory);

/** memory_ptr() - where guest address @gpa is mapped; NULL unless all of @len bytes are RAM of one region. */
void *memory_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/**
 * memory_load_ptr() - where guest address @gpa is mapped for what is loaded before the guest runs: RAM or a window.
 * @len: bytes wanted, at least 1; fewer on return where the region or window ends before.
 *
 * Return: NULL if nothing is there.
 */
void *memory_load_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t *len);

/** memory_register() - one KVM slot a region, numbered from 0; one a window behind them. */
int memory_register(const struct guest_memory *memory, const struct kvm *kvm, int vm_fd,
                    struct error *err);

#endif
