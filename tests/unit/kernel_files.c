#include "kernel_files.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

const struct bzimage_spec bzimage_default = {
    .setup_sects = 4,
    .alignment = MIB(2),
    .pref_address = MIB(2),
    .init_size = MIB(1),
    .cmdline_size = 2047,
    .initrd_addr_max = 0x7fffffff,
    .payload_len = 0x3000,
};

void make_bzimage(struct buf *file, const struct bzimage_spec *spec)
{
    size_t start = file->len, sectors = spec->setup_sects ? spec->setup_sects : 4;
    uint8_t *f = buf_extend(file, (sectors + 1) * 512 + spec->payload_len);
    if (!f)
        return;
    f[0x1f1] = spec->setup_sects;
    store_le32(f + 0x1f4, spec->payload_len / 16);
    store_le16(f + 0x1fe, 0xaa55);
    f[0x200] = 0xeb;
    f[0x201] = 0x6a; /* the header ends at 0x26c */
    memcpy(f + 0x202, "HdrS", 4);
    store_le16(f + 0x206, 0x20f);
    f[0x211] = 1; /* LOADED_HIGH */
    store_le32(f + 0x214, 0x100000);
    store_le32(f + 0x22c, spec->initrd_addr_max);
    store_le32(f + 0x230, spec->alignment);
    f[0x234] = !spec->not_relocatable;
    store_le16(f + 0x236, 1); /* XLF_KERNEL_64 */
    store_le32(f + 0x238, spec->cmdline_size);
    store_le64(f + 0x250, 0x1122334455667788); /* setup_data: a loader's, not the file's */
    store_le64(f + 0x258, spec->pref_address);
    store_le32(f + 0x260, spec->init_size);
    uint8_t *payload = file->data + start + (sectors + 1) * 512;
    for (uint32_t i = 0; i < spec->payload_len; i++)
        payload[i] = (uint8_t)(i * 7);
}

/** put_note() - the PVH note at @at: 4 bytes of address, as 32-bit kernels have it, or 8. */
static void put_note(uint8_t *at, uint32_t desc_len)
{
    store_le32(at, 4);
    store_le32(at + 4, desc_len);
    store_le32(at + 8, 18);
    memcpy(at + 12, "Xen", 4);
    store_le32(at + 16, PVH_ENTRY);
}

static void put_ident(uint8_t *f, uint8_t class, uint16_t machine)
{
    memcpy(f, ELFMAG, SELFMAG);
    f[EI_CLASS] = class;
    f[EI_DATA] = ELFDATA2LSB;
    f[EI_VERSION] = EV_CURRENT;
    store_le16(f + 16, ET_EXEC);
    store_le16(f + 18, machine);
    store_le32(f + 20, EV_CURRENT);
}

static void put_phdr64(uint8_t *at, uint32_t type, uint64_t offset,
                       const struct segment_spec *segment)
{
    store_le32(at, type);
    store_le64(at + 8, offset);
    store_le64(at + 24, segment->paddr);
    store_le64(at + 32, segment->filesz);
    store_le64(at + 40, segment->memsz);
    store_le64(at + 48, 4);
}

void make_pvh(struct buf *file, const struct segment_spec *segments, unsigned n)
{
    size_t start = file->len;
    uint8_t *f = buf_extend(file, PVH_DATA);
    if (!f)
        return;
    put_ident(f, ELFCLASS64, EM_X86_64);
    store_le64(f + 32, PVH_PHDRS);
    store_le16(f + 52, 64);
    store_le16(f + 54, PVH_PHDR);
    store_le16(f + 56, (uint16_t)(n + 1));
    put_phdr64(f + PVH_PHDRS, PT_NOTE, PVH_NOTE, &(struct segment_spec){0, 24, 24});
    put_note(f + PVH_NOTE, 8);
    for (unsigned i = 0; i < n; i++) {
        uint64_t offset = file->len - start;
        uint8_t *bytes = buf_extend(file, segments[i].filesz);
        if (!bytes)
            return;
        put_phdr64(file->data + start + PVH_PHDRS + (size_t)(i + 1) * PVH_PHDR, PT_LOAD, offset,
                   &segments[i]);
        for (uint64_t j = 0; j < segments[i].filesz; j++)
            bytes[j] = (uint8_t)((segments[i].paddr + j) * 7 + 1);
    }
}

void make_pvh32(struct buf *file, uint32_t len)
{
    uint8_t *f = buf_extend(file, PVH_DATA + len);
    if (!f)
        return;
    put_ident(f, ELFCLASS32, EM_386);
    store_le32(f + 28, 52);
    store_le16(f + 42, 32);
    store_le16(f + 44, 2);
    uint8_t *phdr = f + 52;
    store_le32(phdr, PT_NOTE);
    store_le32(phdr + 4, PVH_NOTE);
    store_le32(phdr + 16, 20);
    store_le32(phdr + 20, 20);
    phdr += 32;
    store_le32(phdr, PT_LOAD);
    store_le32(phdr + 4, PVH_DATA);
    store_le32(phdr + 12, PVH_ENTRY);
    store_le32(phdr + 16, len);
    store_le32(phdr + 20, len);
    put_note(f + PVH_NOTE, 4);
    for (uint32_t i = 0; i < len; i++)
        f[PVH_DATA + i] = (uint8_t)((PVH_ENTRY + i) * 7 + 1);
}

int memory_file(const void *bytes, size_t len, char path[FILE_PATH_BYTES])
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    snprintf(path, FILE_PATH_BYTES, "/proc/self/fd/%d", fd);
    int ret = fd_write_full(fd, bytes, len);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

int materialise(const struct plan *plan, uint8_t *ram, uint64_t len)
{
    for (size_t i = 0; i < plan->n_runs; i++) {
        const struct plan_run *run = &plan->runs[i];
        if (!range_within(run->gpa, run->len, len))
            return -ERANGE;
        int ret = 0;
        if (run->source == PLAN_SOURCE_BYTES)
            memcpy(ram + run->gpa, run->bytes, run->len);
        else if (run->source == PLAN_SOURCE_FILE)
            ret = fd_pread_full(plan->files[run->range.file].fd, ram + run->gpa, run->len,
                                run->range.offset);
        if (ret < 0)
            return ret;
    }
    return 0;
}
