/* The hashes and signatures of the simulated secure processor, through libcrypto. Only the simulator process uses it. */
#ifndef HUSK_SIM_CRYPTO_H
#define HUSK_SIM_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_DIGEST 48 /* bytes of a SHA-384 digest */

/** sim_crypto_load() - load libcrypto; the others do it too, if it was not done. Returns 0, or -ENOENT without libcrypto.so.3. */
int sim_crypto_load(void);

/** sim_crypto_sha384() - @digest = SHA-384 of @len bytes. Returns 0, or -ENOMEM if libcrypto could not. */
int sim_crypto_sha384(const void *data, size_t len, uint8_t digest[CRYPTO_DIGEST]);

/**
 * sim_crypto_launch_extend() - one page into a launch digest (SNP ABI 8.17.2, PAGE_INFO).
 * @digest: the launch digest so far, replaced by the new one.
 * @contents: digest of the page's contents, NULL for the page types whose contents are not measured.
 * @type: page type.
 * @gpa: guest physical address of the page.
 *
 * Return: 0, or -ENOMEM if libcrypto could not.
 */
int sim_crypto_launch_extend(uint8_t digest[CRYPTO_DIGEST], const uint8_t *contents, uint8_t type,
                             uint64_t gpa);

#define CRYPTO_KEY_BYTES \
    1028 /* a public key in an ID authentication: u32 curve, qx[72], qy[72], zeros */
#define CRYPTO_SIGNATURE_BYTES 512 /* a signature there: r[72], s[72], zeros; little-endian */

/** sim_crypto_key_is_p384() - whether @key says that it is on curve P-384. */
bool sim_crypto_key_is_p384(const uint8_t key[CRYPTO_KEY_BYTES]);

/** sim_crypto_verify() - whether @signature is @key's ECDSA P-384 signature, with SHA-384, of @len bytes of @data. */
bool sim_crypto_verify(const uint8_t key[CRYPTO_KEY_BYTES],
                       const uint8_t signature[CRYPTO_SIGNATURE_BYTES], const void *data,
                       size_t len);

#endif
