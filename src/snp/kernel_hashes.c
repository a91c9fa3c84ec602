#include "snp/kernel_hashes.h"

#include "base/bytes.h"
#include "snp/crypto.h"
#include "snp/guid.h"

#include <errno.h>

struct __attribute__((packed)) hash_entry {
    uint8_t guid[16];
    uint16_t length;
    uint8_t hash[SHA256_BYTES];
};

struct __attribute__((packed)) hash_table {
    uint8_t guid[16];
    uint16_t length;
    struct hash_entry cmdline, initrd, kernel; /* in the order QEMU writes and all measure */
    uint8_t padding[8];
};

_Static_assert(sizeof(struct hash_table) == KERNEL_HASHES_BYTES, "QEMU's PaddedSevHashTable");

#define TABLE_GUID GUID(0x9438d606, 0x4f22, 0x4cc9, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21)
#define KERNEL_GUID GUID(0x4de79437, 0xabd2, 0x427f, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b)
#define INITRD_GUID GUID(0x44baf731, 0x3a2f, 0x4bd7, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d)
#define CMDLINE_GUID \
    GUID(0x97d02dd8, 0xbd20, 0x4c94, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a)

static int hash_text(const char *text, size_t len, uint8_t *digest)
{
    struct crypto_hash *hash = crypto_hash_new(CRYPTO_SHA256);
    int r = hash ? crypto_digest(hash, text, len, digest) : -ENOMEM;
    crypto_hash_free(hash);
    return r;
}

int kernel_hashes_build(uint8_t out[KERNEL_HASHES_BYTES], const char *kernel, const char *initramfs,
                        const char *cmdline, struct error *err)
{
    struct hash_table table = {
        .guid = TABLE_GUID,
        .length = htole16(sizeof(table) - sizeof(table.padding)),
        .cmdline = {.guid = CMDLINE_GUID, .length = htole16(sizeof(struct hash_entry))},
        .initrd = {.guid = INITRD_GUID, .length = htole16(sizeof(struct hash_entry))},
        .kernel = {.guid = KERNEL_GUID, .length = htole16(sizeof(struct hash_entry))},
    };
    int r = crypto_load(err);
    if (r == 0)
        r = crypto_file_digest(CRYPTO_SHA256, kernel, table.kernel.hash, err);
    if (r == 0 && initramfs)
        r = crypto_file_digest(CRYPTO_SHA256, initramfs, table.initrd.hash, err);
    if (r < 0)
        return r;
    if (!cmdline)
        cmdline = "";
    if ((!initramfs && hash_text("", 0, table.initrd.hash) < 0) ||
        hash_text(cmdline, strlen(cmdline) + 1, table.cmdline.hash) < 0)
        return error_set(err, -EIO, "libcrypto could not hash the kernel's command line");
    memcpy(out, &table, sizeof(table));
    return 0;
}
