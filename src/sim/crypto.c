/*
 * SHA-384 and ECDSA P-384 through libcrypto, which is loaded when the simulator starts: what else the husk binary does
 * starts without it.
 */
#include "sim/crypto.h"

#include "base/bytes.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

/* Each function of libcrypto by its own name and type. */
#define FUNCTIONS(F)                     \
    F(BN_free)                           \
    F(BN_lebin2bn)                       \
    F(CRYPTO_free)                       \
    F(ECDSA_SIG_free)                    \
    F(ECDSA_SIG_new)                     \
    F(ECDSA_SIG_set0)                    \
    F(EVP_DigestFinal_ex)                \
    F(EVP_DigestInit_ex)                 \
    F(EVP_DigestUpdate)                  \
    F(EVP_DigestVerify)                  \
    F(EVP_DigestVerifyInit_ex)           \
    F(EVP_MD_CTX_free)                   \
    F(EVP_MD_CTX_new)                    \
    F(EVP_MD_fetch)                      \
    F(EVP_PKEY_CTX_free)                 \
    F(EVP_PKEY_CTX_new_from_name)        \
    F(EVP_PKEY_free)                     \
    F(EVP_PKEY_fromdata)                 \
    F(EVP_PKEY_fromdata_init)            \
    F(OSSL_PARAM_construct_end)          \
    F(OSSL_PARAM_construct_octet_string) \
    F(OSSL_PARAM_construct_utf8_string)  \
    F(i2d_ECDSA_SIG)

#define MEMBER(f) __typeof__ (&(f))(f);
static struct {
    bool loaded;
    FUNCTIONS(MEMBER)
} lib;

#define COORDINATE 72 /* bytes of a number in the firmware's key and signature formats */
#define P384_BYTES 48
#define CURVE_P384 2 /* SNP ABI, table of curves */

int sim_crypto_load(void)
{
    if (lib.loaded)
        return 0;
    void *handle = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return -ENOENT;
    bool all = true;
#define LOAD(f)                             \
    *(void **)(&lib.f) = dlsym(handle, #f); \
    all = all && lib.f;
    FUNCTIONS(LOAD)
    lib.loaded = all;
    if (!all)
        dlclose(handle);
    return all ? 0 : -ENOENT;
}

/** hasher() - the one digest context of this single-threaded process; fetched once, since fetching takes longer than a page. */
static EVP_MD_CTX *hasher(EVP_MD **md)
{
    static EVP_MD *sha384;
    static EVP_MD_CTX *ctx;
    if (sim_crypto_load())
        return NULL;
    if (!sha384)
        sha384 = lib.EVP_MD_fetch(NULL, "SHA384", NULL);
    if (!ctx)
        ctx = lib.EVP_MD_CTX_new();
    *md = sha384;
    return sha384 ? ctx : NULL;
}

int sim_crypto_sha384(const void *data, size_t len, uint8_t digest[CRYPTO_DIGEST])
{
    EVP_MD *md;
    EVP_MD_CTX *ctx = hasher(&md);
    if (!ctx || lib.EVP_DigestInit_ex(ctx, md, NULL) != 1 ||
        lib.EVP_DigestUpdate(ctx, data, len) != 1 || lib.EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
        return -ENOMEM;
    return 0;
}

int sim_crypto_launch_extend(uint8_t digest[CRYPTO_DIGEST], const uint8_t *contents, uint8_t type,
                             uint64_t gpa)
{
    struct page_info {
        uint8_t current[CRYPTO_DIGEST];
        uint8_t contents[CRYPTO_DIGEST];
        uint8_t length[2];
        uint8_t page_type;
        uint8_t imi_page;
        uint8_t vmpl_permissions[3];
        uint8_t reserved;
        uint8_t gpa[8];
    } info = {0};
    _Static_assert(sizeof(info) == 0x70, "SNP ABI 8.17.2, PAGE_INFO");

    memcpy(info.current, digest, CRYPTO_DIGEST);
    if (contents)
        memcpy(info.contents, contents, CRYPTO_DIGEST);
    info.length[0] = sizeof(info);
    info.page_type = type;
    store_le64(info.gpa, gpa);
    return sim_crypto_sha384(&info, sizeof(info), digest);
}

bool sim_crypto_key_is_p384(const uint8_t key[CRYPTO_KEY_BYTES])
{
    return load_le32(key) == CURVE_P384;
}

/** load_key() - a public key of the firmware's format as libcrypto's; NULL if it is none. */
static EVP_PKEY *load_key(const uint8_t key[CRYPTO_KEY_BYTES])
{
    uint8_t point[1 + 2 * P384_BYTES];
    point[0] = 4; /* uncompressed */
    for (size_t i = 0; i < P384_BYTES; i++) {
        point[P384_BYTES - i] = key[4 + i];
        point[2 * P384_BYTES - i] = key[4 + COORDINATE + i];
    }
    char curve[] = "P-384";
    OSSL_PARAM params[] = {
        lib.OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        lib.OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        lib.OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = lib.EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx && lib.EVP_PKEY_fromdata_init(ctx) == 1)
        (void)lib.EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params);
    lib.EVP_PKEY_CTX_free(ctx);
    return pkey;
}

/** load_signature() - the DER form of a signature, to be freed with CRYPTO_free(); -1 if it cannot be made. */
static int load_signature(const uint8_t signature[CRYPTO_SIGNATURE_BYTES], unsigned char **der)
{
    ECDSA_SIG *sig = lib.ECDSA_SIG_new();
    BIGNUM *r = lib.BN_lebin2bn(signature, COORDINATE, NULL);
    BIGNUM *s = lib.BN_lebin2bn(signature + COORDINATE, COORDINATE, NULL);
    int len = -1;
    if (sig && r && s && lib.ECDSA_SIG_set0(sig, r, s) == 1) {
        r = NULL; /* the signature's now */
        s = NULL;
        *der = NULL;
        len = lib.i2d_ECDSA_SIG(sig, der);
    }
    lib.BN_free(r);
    lib.BN_free(s);
    lib.ECDSA_SIG_free(sig);
    return len;
}

bool sim_crypto_verify(const uint8_t key[CRYPTO_KEY_BYTES],
                       const uint8_t signature[CRYPTO_SIGNATURE_BYTES], const void *data,
                       size_t len)
{
    bool good = false;
    unsigned char *der = NULL;
    if (sim_crypto_load())
        return false;
    EVP_PKEY *pkey = load_key(key);
    int der_len = load_signature(signature, &der);
    EVP_MD_CTX *ctx = lib.EVP_MD_CTX_new();
    if (pkey && der_len > 0 && ctx &&
        lib.EVP_DigestVerifyInit_ex(ctx, NULL, "SHA384", NULL, NULL, pkey, NULL) == 1)
        good = lib.EVP_DigestVerify(ctx, der, (size_t)der_len, data, len) == 1;
    lib.EVP_MD_CTX_free(ctx);
    lib.CRYPTO_free(der, __FILE__, __LINE__);
    lib.EVP_PKEY_free(pkey);
    return good;
}
