#include "snp/id_block.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

/** reverse() - 48 big-endian bytes as 72 little-endian ones. */
static void reverse(uint8_t out[SNP_KEY_COMPONENT], const uint8_t in[P384_BYTES])
{
    memset(out, 0, SNP_KEY_COMPONENT);
    for (size_t i = 0; i < P384_BYTES; i++)
        out[i] = in[P384_BYTES - 1 - i];
}

static int fill_key(struct snp_public_key *out, const struct crypto_key *key, struct error *err)
{
    uint8_t x[P384_BYTES], y[P384_BYTES];
    int r = crypto_key_public(key, x, y, err);
    if (r < 0)
        return r;
    *out = (struct snp_public_key){.curve = htole32(SNP_CURVE_P384)};
    reverse(out->qx, x);
    reverse(out->qy, y);
    return 0;
}

static int fill_signature(struct snp_signature *out, const struct crypto_key *key, const void *data,
                          size_t len, struct error *err)
{
    uint8_t r[P384_BYTES], s[P384_BYTES];
    int result = crypto_sign(key, data, len, r, s, err);
    if (result < 0)
        return result;
    *out = (struct snp_signature){0};
    reverse(out->r, r);
    reverse(out->s, s);
    return 0;
}

int snp_id_sign(struct snp_id_auth *auth, const struct snp_id_block *block,
                const struct crypto_key *id_key, const struct crypto_key *author_key,
                struct error *err)
{
    *auth = (struct snp_id_auth){.id_key_algorithm = htole32(SNP_ECDSA_P384_SHA384)};
    int r = fill_key(&auth->id_key, id_key, err);
    if (r == 0)
        r = fill_signature(&auth->id_block_signature, id_key, block, sizeof(*block), err);
    if (r < 0 || !author_key)
        return r;
    auth->author_key_algorithm = htole32(SNP_ECDSA_P384_SHA384);
    r = fill_key(&auth->author_key, author_key, err);
    if (r == 0)
        r = fill_signature(&auth->id_key_signature, author_key, &auth->id_key, sizeof(auth->id_key),
                           err);
    return r;
}

int snp_key_digest(const struct snp_public_key *key, uint8_t digest[SHA384_BYTES])
{
    struct crypto_hash *hash = crypto_hash_new(CRYPTO_SHA384);
    int r = hash ? crypto_digest(hash, key, sizeof(*key), digest) : -EIO;
    crypto_hash_free(hash);
    return r;
}

int snp_id_parse(const char *text, uint8_t id[16], struct error *err)
{
    size_t len = strlen(text);
    if (len == 0 || len > 32 || len % 2 || strspn(text, "0123456789abcdefABCDEF") != len)
        return error_set(err, -EINVAL,
                         "'%s' is not an id: 2 to 32 hexadecimal digits, an even number", text);
    memset(id, 0, 16);
    for (size_t i = 0; i < len / 2; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};
        id[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return 0;
}
