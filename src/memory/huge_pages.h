/*
 * Transparent huge pages for RAM that is a memfd. Most kernels leave them off for shared memory
 * (/sys/kernel/mm/transparent_hugepage/shmem_enabled: never), though not for MADV_COLLAPSE (Linux 6.1): so pages are
 * asked for by hand, at once where a file is about to be read to and then as the guest comes to use its RAM.
 */
#ifndef HUSK_MEMORY_HUGE_PAGES_H
#define HUSK_MEMORY_HUGE_PAGES_H

#include "base/error.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

#define HUGE_PAGE_BYTES MIB(2)

/** huge_pages_by_hand() - whether the kernel gives shared memory none by itself, and lets a program ask for them. */
bool huge_pages_by_hand(void);

/** huge_pages_prepare() - huge pages for the whole 2 MiB pieces of @len bytes at @start, which is about to be filled.
 *
 * A refusal is no error: small pages do as well.
 */
void huge_pages_prepare(uint8_t *start, uint64_t len);

struct huge_pages;

/**
 * huge_pages_watch() - a thread that gives 8 MiB of @memory huge pages once 256 KiB of them are in use.
 *
 * It looks every 10 ms while it finds something to do, then ever more rarely, every 10 s at last. What was given huge
 * pages once is not looked at again: where pages are punched out later, small ones come back.
 * @memory: outlives it.
 *
 * Return: the watch, or NULL with @err filled.
 */
struct huge_pages *huge_pages_watch(const struct guest_memory *memory, struct error *err);

/** huge_pages_free() - ends the thread; NULL is allowed. */
void huge_pages_free(struct huge_pages *watch);

#endif
