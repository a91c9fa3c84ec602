/* Files that are often given for a kernel and are none, told by their magic. */
#include "x86/boot_internal.h"

#include "base/bytes.h"

#include <errno.h>

struct kind {
    uint16_t offset;
    uint8_t len;
    const char *magic;
    const char *what; /* "'x' is neither a bzImage nor an ELF file, but ..." */
    const char *hint; /* NULL: nothing to say */
};

#define OTHER_ARCH "husk runs x86_64 guests: give a kernel built for x86_64"
#define DECOMPRESS \
    "decompress it and give what comes out; a bzImage unpacks itself and is given as it is"

/* The first that matches names the file, so longer magics come before what contains them. */
static const struct kind kinds[] = {
    {0x38, 4, "ARMd", "an arm64 Linux image", OTHER_ARCH},
    {0x38, 4, "RSC\x05", "a RISC-V Linux image", OTHER_ARCH},
    {0x24, 4, "\x18\x28\x6f\x01", "a 32-bit ARM zImage", OTHER_ARCH},
    {0, 8, "MZ\0\0zimg", "an EFI zboot image, a compressed kernel of another architecture",
     OTHER_ARCH},
    {0x38, 4, "\xcd\x23\x82\x81", "a LoongArch Linux image", OTHER_ARCH},
    {0, 2, "MZ", "an EFI program",
     "of a unified kernel image, give the kernel in its .linux section (objcopy -O binary -j "
     ".linux)"},
    {0, 2, "\x1f\x8b", "gzip-compressed data", DECOMPRESS},
    {0, 4, "\x28\xb5\x2f\xfd", "zstd-compressed data", DECOMPRESS},
    {0, 6, "\xfd\x37zXZ\0", "xz-compressed data", DECOMPRESS},
    {0, 4, "\x02\x21\x4c\x18", "lz4-compressed data", DECOMPRESS},
    {0, 3, "BZh", "bzip2-compressed data", DECOMPRESS},
    {0, 5, "07070", "a cpio archive", "an initramfs is given with --initramfs"},
    {0, 4, "\x27\x05\x19\x56", "a U-Boot image", "give the kernel that it wraps"},
    {0, 4, "IGVM", "an IGVM file", NULL},
    {0, 4, "QFI\xfb", "a qcow2 disk image", "a disk is given with --disk"},
    {0x1fe, 2, "\x55\xaa", "a boot sector or disk image without a Linux setup header", NULL},
};

int boot_refuse_unknown(const struct boot_load *load, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct kind *kind = &kinds[i];
        if (load->head_len < (size_t)kind->offset + kind->len ||
            memcmp(load->head + kind->offset, kind->magic, kind->len) != 0)
            continue;
        error_set(err, -ENOEXEC, "kernel '%s' is neither a bzImage nor an ELF file, but %s",
                  load->kernel.path, kind->what);
        if (kind->hint)
            error_hint(err, "%s", kind->hint);
        return -ENOEXEC;
    }
    return error_set(err, -ENOEXEC, "kernel '%s' is neither a bzImage nor an ELF file",
                     load->kernel.path);
}
