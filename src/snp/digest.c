#include "snp/digest.h"

#include "base/bytes.h"

struct __attribute__((packed)) page_info {
    uint8_t digest[SHA384_BYTES];
    uint8_t contents[SHA384_BYTES];
    uint16_t length;
    uint8_t page_type;
    uint8_t imi_page;
    uint8_t vmpl3_perms, vmpl2_perms, vmpl1_perms;
    uint8_t reserved;
    uint64_t gpa;
};

_Static_assert(sizeof(struct page_info) == 0x70, "SNP firmware ABI, table 67");

const char *snp_page_type_name(enum snp_page_type type)
{
    static const char *const names[] = {
        [SNP_PAGE_NORMAL] = "NORMAL",   [SNP_PAGE_VMSA] = "VMSA",
        [SNP_PAGE_ZERO] = "ZERO",       [SNP_PAGE_UNMEASURED] = "UNMEASURED",
        [SNP_PAGE_SECRETS] = "SECRETS", [SNP_PAGE_CPUID] = "CPUID",
    };
    return (size_t)type < ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

int snp_digest_extend(struct crypto_hash *hash, uint8_t digest[SHA384_BYTES],
                      enum snp_page_type type, uint64_t gpa, const uint8_t *contents)
{
    struct page_info info = {
        .length = htole16(sizeof(info)), .page_type = (uint8_t)type, .gpa = htole64(gpa)};
    memcpy(info.digest, digest, sizeof(info.digest));
    if (contents)
        memcpy(info.contents, contents, sizeof(info.contents));
    return crypto_digest(hash, &info, sizeof(info), digest);
}
