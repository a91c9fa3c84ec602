/*
 * What husk uses of libcrypto. The library is loaded when it is first needed, so that commands that hash nothing start
 * without it.
 */
#ifndef HUSK_SNP_CRYPTO_H
#define HUSK_SNP_CRYPTO_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA384_BYTES 48
#define P384_BYTES 48

enum crypto_algorithm { CRYPTO_SHA256, CRYPTO_SHA384 };

/** crypto_load() - make the rest usable. From any thread. Returns 0, or -ENOENT if there is no libcrypto.so.3. */
int crypto_load(struct error *err);

struct crypto_hash; /* one at a time in one thread */

/** crypto_hash_new() - NULL if out of memory or before crypto_load(). */
struct crypto_hash *crypto_hash_new(enum crypto_algorithm algorithm);
void crypto_hash_free(struct crypto_hash *hash);

/** crypto_hash_start() - forget what was added. These return 0 or -EIO. */
int crypto_hash_start(struct crypto_hash *hash);
int crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len);
int crypto_hash_end(struct crypto_hash *hash, uint8_t *digest);

/** crypto_digest() - all in one, with a hash that is used again and again. */
int crypto_digest(struct crypto_hash *hash, const void *data, size_t len, uint8_t *digest);

/** crypto_file_digest() - SHA-256 or SHA-384 of a whole file. */
int crypto_file_digest(enum crypto_algorithm algorithm, const char *path, uint8_t *digest,
                       struct error *err);

struct crypto_key;

/** crypto_key_read() - the private key of a PEM file, which must be on P-384 and not encrypted.
 *
 * Return: NULL with @err filled.
 */
struct crypto_key *crypto_key_read(const char *path, struct error *err);
void crypto_key_free(struct crypto_key *key);

/** crypto_key_public() - the public point, each coordinate big-endian. Returns 0 or -EIO. */
int crypto_key_public(const struct crypto_key *key, uint8_t x[P384_BYTES], uint8_t y[P384_BYTES],
                      struct error *err);

/** crypto_sign() - ECDSA over SHA-384 of @data; r and s big-endian. Returns 0 or -EIO. */
int crypto_sign(const struct crypto_key *key, const void *data, size_t len, uint8_t r[P384_BYTES],
                uint8_t s[P384_BYTES], struct error *err);

#endif
