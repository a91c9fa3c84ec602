/* The SEV-SNP launch digest: a chain of SHA-384 over PAGE_INFO structures (SNP firmware ABI, 8.17.2). */
#ifndef HUSK_SNP_DIGEST_H
#define HUSK_SNP_DIGEST_H

#include "snp/crypto.h"

#include <stdint.h>

/* PAGE_INFO.PAGE_TYPE (SNP firmware ABI, table 67). */
enum snp_page_type {
    SNP_PAGE_NORMAL = 1,
    SNP_PAGE_VMSA = 2,
    SNP_PAGE_ZERO = 3,
    SNP_PAGE_UNMEASURED = 4,
    SNP_PAGE_SECRETS = 5,
    SNP_PAGE_CPUID = 6,
};

/** snp_page_type_name() - "NORMAL" and so on. */
const char *snp_page_type_name(enum snp_page_type type);

/** snp_digest_extend() - one page more.
 * @hash: SHA-384.
 * @digest: the launch digest so far (48 zero bytes at first), and after.
 * @contents: SHA-384 of the page for NORMAL and VMSA; NULL for the others, whose contents are not measured.
 *
 * Return: 0 or -EIO.
 */
int snp_digest_extend(struct crypto_hash *hash, uint8_t digest[SHA384_BYTES],
                      enum snp_page_type type, uint64_t gpa, const uint8_t *contents);

#endif
