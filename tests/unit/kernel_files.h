/* Kernels made for tests: valid bzImages and PVH ELF files, to be damaged as a test needs. */
#ifndef HUSK_TESTS_KERNEL_FILES_H
#define HUSK_TESTS_KERNEL_FILES_H

#include "base/buf.h"
#include "launch/plan.h"

#include <stdbool.h>
#include <stdint.h>

struct bzimage_spec {
    uint8_t setup_sects;
    bool not_relocatable;
    uint32_t alignment;
    uint64_t pref_address;
    uint32_t init_size;
    uint32_t cmdline_size;
    uint32_t initrd_addr_max;
    uint32_t payload_len; /* a multiple of 16, above 0x200 */
};

/* 2 MiB alignment, preferred at 2 MiB, 1 MiB of memory, 12 KiB of code; every payload byte is its own offset * 7. */
extern const struct bzimage_spec bzimage_default;

/** make_bzimage() - append a bzImage to @file. */
void make_bzimage(struct buf *file, const struct bzimage_spec *spec);

struct segment_spec {
    uint64_t paddr, filesz, memsz;
};

#define PVH_ENTRY 0x100000u
#define PVH_PHDRS 64u  /* offset of the program headers of a 64-bit file; number 0 is the note's */
#define PVH_PHDR 56u   /* bytes of each */
#define PVH_NOTE 0x400 /* offset of the note */
#define PVH_DATA 0x500 /* offset of the first segment's bytes; the next follow without gaps */

/** make_pvh() - append an ELF64 file with up to 15 segments and a PVH note for PVH_ENTRY to @file. Every byte that is
 * loaded is the low byte of (its address * 7 + 1).
 */
void make_pvh(struct buf *file, const struct segment_spec *segments, unsigned n);

/** make_pvh32() - the same in ELF32 for i386 with one segment of @len bytes at PVH_ENTRY. */
void make_pvh32(struct buf *file, uint32_t len);

#define FILE_PATH_BYTES 64

/** memory_file() - a descriptor of a file in memory that holds @len bytes; @path gets a name to open it by. */
int memory_file(const void *bytes, size_t len, char path[FILE_PATH_BYTES]);

/** materialise() - what the plan's runs leave in @ram, which starts at guest address 0. Returns 0 or -errno. */
int materialise(const struct plan *plan, uint8_t *ram, uint64_t len);

#endif
