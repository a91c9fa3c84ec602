/* The ID block, by which a guest's owner says what launch digest and policy a guest must have, and its signatures. */
#ifndef HUSK_SNP_ID_BLOCK_H
#define HUSK_SNP_ID_BLOCK_H

#include "snp/crypto.h"

#include <stdbool.h>
#include <stdint.h>

#define SNP_ECDSA_P384_SHA384 1
#define SNP_CURVE_P384 2
#define SNP_KEY_COMPONENT 72

/* SNP firmware ABI, 8.18.1 (ID_BLOCK). */
struct __attribute__((packed)) snp_id_block {
    uint8_t ld[SHA384_BYTES];
    uint8_t family_id[16];
    uint8_t image_id[16];
    uint32_t version;
    uint32_t guest_svn;
    uint64_t policy;
};

/* Little-endian components; the rest zero (SNP firmware ABI, chapter 10). */
struct __attribute__((packed)) snp_signature {
    uint8_t r[SNP_KEY_COMPONENT], s[SNP_KEY_COMPONENT];
    uint8_t reserved[512 - 2 * SNP_KEY_COMPONENT];
};

struct __attribute__((packed)) snp_public_key {
    uint32_t curve;
    uint8_t qx[SNP_KEY_COMPONENT], qy[SNP_KEY_COMPONENT];
    uint8_t reserved[1028 - 4 - 2 * SNP_KEY_COMPONENT];
};

/* SNP firmware ABI, 8.18.2 (ID_AUTH). */
struct __attribute__((packed)) snp_id_auth {
    uint32_t id_key_algorithm;
    uint32_t author_key_algorithm;
    uint8_t reserved1[56];
    struct snp_signature id_block_signature;
    struct snp_public_key id_key;
    uint8_t reserved2[60];
    struct snp_signature id_key_signature; /* by the author key, over id_key */
    struct snp_public_key author_key;
    uint8_t reserved3[892];
};

_Static_assert(sizeof(struct snp_id_block) == 96, "SNP firmware ABI");
_Static_assert(sizeof(struct snp_id_auth) == 4096, "SNP firmware ABI");

/** snp_id_sign() - fill @auth: sign @block with @id_key, and @id_key with @author_key (NULL for none). 0 or -EIO. */
int snp_id_sign(struct snp_id_auth *auth, const struct snp_id_block *block,
                const struct crypto_key *id_key, const struct crypto_key *author_key,
                struct error *err);

/** snp_key_digest() - SHA-384 of a public key as the attestation report shows it. 0 or -EIO. */
int snp_key_digest(const struct snp_public_key *key, uint8_t digest[SHA384_BYTES]);

/** snp_id_parse() - a family or image id: up to 16 bytes in hexadecimal digits. 0 or -EINVAL. */
int snp_id_parse(const char *text, uint8_t id[16], struct error *err);

#endif
