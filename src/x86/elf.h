/* The part of ELF that a kernel loader needs: the program headers, of both classes in one form. */
#ifndef HUSK_X86_ELF_H
#define HUSK_X86_ELF_H

#include "base/error.h"
#include "x86/boot_internal.h"

#include <stdint.h>

struct elf_segment {
    uint32_t type;
    uint64_t offset, filesz; /* in the file, checked to lie in it */
    uint64_t paddr, memsz;   /* memsz >= filesz; paddr + memsz does not wrap */
    uint64_t align;
};

/* More than any kernel has: Linux's has five or six. */
#define ELF_SEGMENTS_MAX 128

struct elf {
    unsigned n;
    struct elf_segment segments[ELF_SEGMENTS_MAX];
};

/**
 * elf_read() - read and check the headers of the ELF file that @load's kernel is.
 *
 * Return: 0; -ENOEXEC if it is not a little-endian x86 executable or its headers lie; -ENODATA if it is shorter than
 * they say; -errno of a read.
 */
int elf_read(const struct boot_load *load, struct elf *elf, struct error *err);

#endif
