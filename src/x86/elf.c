#include "x86/elf.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_AARCH64:
        return "arm64";
    case EM_ARM:
        return "32-bit ARM";
    case EM_RISCV:
        return "RISC-V";
    case EM_S390:
        return "s390";
    case EM_PPC64:
        return "64-bit PowerPC";
    case EM_PPC:
        return "PowerPC";
    case EM_MIPS:
        return "MIPS";
    case EM_LOONGARCH:
        return "LoongArch";
    case EM_SPARCV9:
        return "64-bit SPARC";
    default:
        return NULL;
    }
}

static int refuse_machine(const char *path, unsigned machine, struct error *err)
{
    const char *name = machine_name(machine);
    if (name)
        error_set(err, -ENOEXEC, "kernel '%s' is an ELF file for %s", path, name);
    else
        error_set(err, -ENOEXEC, "kernel '%s' is an ELF file for machine number %u, not for x86",
                  path, machine);
    return error_hint(err, "husk runs x86_64 guests: give a kernel built for x86_64");
}

/* Where the program headers are, as the ELF header says. */
struct header_table {
    uint64_t offset;
    unsigned count, entry_bytes;
    bool is64;
};

/** check_header() - class, byte order, machine and type; fills @table. */
static int check_header(const struct boot_load *load, struct header_table *table, struct error *err)
{
    const uint8_t *head = load->head;
    const char *path = load->kernel.path;
    table->is64 = head[EI_CLASS] == ELFCLASS64;
    if (load->head_len < (table->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it ends at byte %zu, within its ELF header",
                         path, load->head_len);
    if (head[EI_CLASS] != ELFCLASS64 && head[EI_CLASS] != ELFCLASS32)
        return error_set(err, -ENOEXEC, "kernel '%s' is an ELF file of an unknown class, %u", path,
                         head[EI_CLASS]);
    unsigned machine = load_le16(head + offsetof(Elf64_Ehdr, e_machine));
    if (head[EI_DATA] == ELFDATA2MSB)
        return refuse_machine(path, (machine & 0xff) << 8 | machine >> 8, err);
    if (machine != (table->is64 ? EM_X86_64 : EM_386))
        return refuse_machine(path, machine, err);
    unsigned type = load_le16(head + offsetof(Elf64_Ehdr, e_type));
    if (type != ET_EXEC && type != ET_DYN)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is an ELF file, but not an executable (its type is %u)", path,
                         type);
    if (table->is64) {
        table->offset = load_le64(head + offsetof(Elf64_Ehdr, e_phoff));
        table->entry_bytes = load_le16(head + offsetof(Elf64_Ehdr, e_phentsize));
        table->count = load_le16(head + offsetof(Elf64_Ehdr, e_phnum));
    } else {
        table->offset = load_le32(head + offsetof(Elf32_Ehdr, e_phoff));
        table->entry_bytes = load_le16(head + offsetof(Elf32_Ehdr, e_phentsize));
        table->count = load_le16(head + offsetof(Elf32_Ehdr, e_phnum));
    }
    return 0;
}

static int check_table(const struct boot_load *load, const struct header_table *table,
                       struct error *err)
{
    const char *path = load->kernel.path;
    size_t expected = table->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (table->count == 0)
        return error_set(err, -ENOEXEC, "kernel '%s' has no program headers: nothing to load",
                         path);
    if (table->count > ELF_SEGMENTS_MAX)
        return error_set(err, -ENOEXEC, "kernel '%s' has %u program headers, at most %u are read",
                         path, table->count, ELF_SEGMENTS_MAX);
    if (table->entry_bytes != expected)
        return error_set(err, -ENOEXEC, "kernel '%s' has program headers of %u bytes, not %zu",
                         path, table->entry_bytes, expected);
    if (!range_within(table->offset, table->count * expected, load->kernel.size))
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it has %" PRIu64
                         " bytes, its program headers are at 0x%" PRIx64,
                         path, load->kernel.size, table->offset);
    return 0;
}

static struct elf_segment parse_segment(const uint8_t *raw, bool is64)
{
    if (is64)
        return (struct elf_segment){
            .type = load_le32(raw + offsetof(Elf64_Phdr, p_type)),
            .offset = load_le64(raw + offsetof(Elf64_Phdr, p_offset)),
            .filesz = load_le64(raw + offsetof(Elf64_Phdr, p_filesz)),
            .paddr = load_le64(raw + offsetof(Elf64_Phdr, p_paddr)),
            .memsz = load_le64(raw + offsetof(Elf64_Phdr, p_memsz)),
            .align = load_le64(raw + offsetof(Elf64_Phdr, p_align)),
        };
    return (struct elf_segment){
        .type = load_le32(raw + offsetof(Elf32_Phdr, p_type)),
        .offset = load_le32(raw + offsetof(Elf32_Phdr, p_offset)),
        .filesz = load_le32(raw + offsetof(Elf32_Phdr, p_filesz)),
        .paddr = load_le32(raw + offsetof(Elf32_Phdr, p_paddr)),
        .memsz = load_le32(raw + offsetof(Elf32_Phdr, p_memsz)),
        .align = load_le32(raw + offsetof(Elf32_Phdr, p_align)),
    };
}

static int check_segment(const struct boot_load *load, unsigned index,
                         const struct elf_segment *segment, struct error *err)
{
    const char *path = load->kernel.path;
    if (segment->type != PT_LOAD && segment->type != PT_NOTE)
        return 0;
    if (!range_within(segment->offset, segment->filesz, load->kernel.size))
        return error_set(err, -ENODATA,
                         "kernel '%s' is truncated: it has %" PRIu64
                         " bytes, segment %u takes 0x%" PRIx64 " from 0x%" PRIx64 " on",
                         path, load->kernel.size, index, segment->filesz, segment->offset);
    if (segment->type != PT_LOAD)
        return 0;
    uint64_t end;
    if (segment->filesz > segment->memsz)
        return error_set(err, -ENOEXEC,
                         "kernel '%s': segment %u is larger in the file (0x%" PRIx64
                         " bytes) than in memory (0x%" PRIx64 ")",
                         path, index, segment->filesz, segment->memsz);
    if (add_overflows(segment->paddr, segment->memsz, &end))
        return error_set(err, -ENOEXEC,
                         "kernel '%s': segment %u at 0x%" PRIx64
                         " runs past the end of the address space",
                         path, index, segment->paddr);
    return 0;
}

int elf_read(const struct boot_load *load, struct elf *elf, struct error *err)
{
    struct header_table table = {0};
    int ret = check_header(load, &table, err);
    if (ret == 0)
        ret = check_table(load, &table, err);
    if (ret < 0)
        return ret;
    uint8_t raw[ELF_SEGMENTS_MAX * sizeof(Elf64_Phdr)];
    ret =
        fd_pread_full(load->kernel.fd, raw, (size_t)table.count * table.entry_bytes, table.offset);
    if (ret < 0)
        return error_set_errno(err, ret, "could not read kernel '%s'", load->kernel.path);
    elf->n = table.count;
    for (unsigned i = 0; i < elf->n; i++) {
        elf->segments[i] = parse_segment(raw + (size_t)i * table.entry_bytes, table.is64);
        ret = check_segment(load, i, &elf->segments[i], err);
        if (ret < 0)
            return ret;
    }
    return 0;
}
