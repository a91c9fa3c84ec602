#include "crypto.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/* A key file is a few hundred bytes. */
#define KEY_FILE_MAX 65536
#define FILE_CHUNK ((size_t)256 * 1024)

#define FUNCTIONS(X)                   \
    X(EVP_MD_fetch)                    \
    X(EVP_MD_CTX_new)                  \
    X(EVP_MD_CTX_free)                 \
    X(EVP_DigestInit_ex2)              \
    X(EVP_DigestUpdate)                \
    X(EVP_DigestFinal_ex)              \
    X(EVP_DigestSignInit)              \
    X(EVP_DigestSign)                  \
    X(EVP_PKEY_CTX_set_params)         \
    X(EVP_PKEY_free)                   \
    X(EVP_PKEY_get_group_name)         \
    X(EVP_PKEY_get_octet_string_param) \
    X(EVP_PKEY_get0_type_name)         \
    X(BIO_new_mem_buf)                 \
    X(BIO_free)                        \
    X(ERR_clear_error)                 \
    X(PEM_read_bio_PrivateKey)

#include <openssl/err.h>

/* Each function of libcrypto by its own name and type. */
static struct {
#define MEMBER(f) __typeof__(&(f)) f; /* NOLINT: a member's name takes no parentheses */
    FUNCTIONS(MEMBER)
#undef MEMBER
    EVP_MD *md[2];
} lib;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool loaded;
static char why_not[256];

static void load(void)
{
    void *handle = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *reason = dlerror();
        strncpy(why_not, reason ? reason : "unknown reason", sizeof(why_not) - 1);
        return;
    }
    bool all = true;
#define RESOLVE(f)                              \
    *(void **)(&lib.f) = dlsym(handle, #f);     \
    if (!lib.f) {                               \
        strncpy(why_not, #f " is missing", 64); \
        all = false;                            \
    }
    FUNCTIONS(RESOLVE)
#undef RESOLVE
    if (!all)
        return;
    lib.md[CRYPTO_SHA256] = lib.EVP_MD_fetch(NULL, "SHA256", NULL);
    lib.md[CRYPTO_SHA384] = lib.EVP_MD_fetch(NULL, "SHA384", NULL);
    if (lib.md[CRYPTO_SHA256] && lib.md[CRYPTO_SHA384])
        loaded = true;
    else
        strncpy(why_not, "it has no SHA-256 or SHA-384", sizeof(why_not) - 1);
}

int crypto_load(struct error *err)
{
    pthread_once(&once, load);
    if (loaded)
        return 0;
    error_set(err, -ENOENT, "could not load libcrypto.so.3: %s", why_not);
    return error_hint(err, "install OpenSSL 3's library (Debian: libssl3)");
}

struct crypto_hash {
    EVP_MD_CTX *ctx;
    EVP_MD *md;
};

struct crypto_hash *crypto_hash_new(enum crypto_algorithm algorithm)
{
    if (!loaded)
        return NULL;
    struct crypto_hash *hash = calloc(1, sizeof(*hash));
    if (!hash)
        return NULL;
    hash->md = lib.md[algorithm];
    hash->ctx = lib.EVP_MD_CTX_new();
    if (!hash->ctx) {
        free(hash);
        return NULL;
    }
    return hash;
}

void crypto_hash_free(struct crypto_hash *hash)
{
    if (!hash)
        return;
    lib.EVP_MD_CTX_free(hash->ctx);
    free(hash);
}

int crypto_hash_start(struct crypto_hash *hash)
{
    return lib.EVP_DigestInit_ex2(hash->ctx, hash->md, NULL) == 1 ? 0 : -EIO;
}

int crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len)
{
    return lib.EVP_DigestUpdate(hash->ctx, data, len) == 1 ? 0 : -EIO;
}

int crypto_hash_end(struct crypto_hash *hash, uint8_t *digest)
{
    return lib.EVP_DigestFinal_ex(hash->ctx, digest, NULL) == 1 ? 0 : -EIO;
}

int crypto_digest(struct crypto_hash *hash, const void *data, size_t len, uint8_t *digest)
{
    if (crypto_hash_start(hash) < 0 || crypto_hash_add(hash, data, len) < 0)
        return -EIO;
    return crypto_hash_end(hash, digest);
}

static void cleanup_hash(struct crypto_hash **hash)
{
    crypto_hash_free(*hash);
}

int crypto_file_digest(enum crypto_algorithm algorithm, const char *path, uint8_t *digest,
                       struct error *err)
{
    int r = crypto_load(err);
    if (r < 0)
        return r;
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    _cleanup_free_ uint8_t *chunk = malloc(FILE_CHUNK);
    _cleanup_(cleanup_hash) struct crypto_hash *hash = crypto_hash_new(algorithm);
    if (!chunk || !hash || crypto_hash_start(hash) < 0)
        return error_set(err, -ENOMEM, "out of memory while hashing %s", path);
    for (uint64_t at = 0; at < size;) {
        size_t n = (size_t)MIN(size - at, FILE_CHUNK);
        r = fd_pread_full(fd, chunk, n, at);
        if (r == -ENODATA)
            return error_set(err, -EIO, "%s became shorter while it was read", path);
        if (r < 0)
            return error_set_errno(err, r, "could not read %s", path);
        if (crypto_hash_add(hash, chunk, n) < 0)
            return error_set(err, -EIO, "libcrypto could not hash %s", path);
        at += n;
    }
    return crypto_hash_end(hash, digest) < 0 ? error_set(err, -EIO, "libcrypto failed on %s", path)
                                             : 0;
}

struct crypto_key {
    EVP_PKEY *pkey;
};

/** no_password() - a key that asks for a password is refused, not prompted for. */
static int no_password(char *buf, int size, int writing, void *asked)
{
    (void)buf;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static int check_curve(const EVP_PKEY *pkey, const char *path, struct error *err)
{
    const char *type = lib.EVP_PKEY_get0_type_name(pkey);
    char group[64] = "";
    if (!type || strcmp(type, "EC") != 0)
        error_set(err, -EINVAL,
                  "%s: the key is %s, but the secure processor takes ECDSA P-384 only", path,
                  type ? type : "of an unknown type");
    else if (lib.EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1 ||
             strcmp(group, "secp384r1") != 0)
        error_set(err, -EINVAL,
                  "%s: the key is on curve %s, but the secure processor takes P-384 only", path,
                  group[0] ? group : "unknown");
    else
        return 0;
    return error_hint(
        err, "make a key with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`");
}

struct crypto_key *crypto_key_read(const char *path, struct error *err)
{
    if (crypto_load(err) < 0)
        return NULL;
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return NULL;
    if (size > KEY_FILE_MAX) {
        error_set(err, -EINVAL, "%s is too long to be a key: %llu bytes", path,
                  (unsigned long long)size);
        return NULL;
    }
    char text[KEY_FILE_MAX];
    int r = fd_pread_full(fd, text, (size_t)size, 0);
    if (r < 0) {
        error_set_errno(err, r, "could not read %s", path);
        return NULL;
    }
    bool asked = false;
    BIO *bio = lib.BIO_new_mem_buf(text, (int)size);
    EVP_PKEY *pkey = bio ? lib.PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked) : NULL;
    if (bio)
        lib.BIO_free(bio);
    explicit_bzero(text, sizeof(text));
    if (!pkey) {
        lib.ERR_clear_error();
        if (asked) {
            error_set(err, -EINVAL, "%s: the key is encrypted", path);
            error_hint(err, "decrypt it first, for example with `openssl pkey -in %s`", path);
        } else {
            error_set(err, -EINVAL, "%s has no private key in PEM form", path);
        }
        return NULL;
    }
    struct crypto_key *key = check_curve(pkey, path, err) == 0 ? calloc(1, sizeof(*key)) : NULL;
    if (!key) {
        lib.EVP_PKEY_free(pkey);
        return NULL;
    }
    key->pkey = pkey;
    return key;
}

void crypto_key_free(struct crypto_key *key)
{
    if (!key)
        return;
    lib.EVP_PKEY_free(key->pkey);
    free(key);
}

int crypto_key_public(const struct crypto_key *key, uint8_t x[P384_BYTES], uint8_t y[P384_BYTES],
                      struct error *err)
{
    /* SEC 1, 2.3.3: 4, X, Y for an uncompressed point. */
    uint8_t point[1 + 2 * P384_BYTES];
    size_t len = 0;
    if (lib.EVP_PKEY_get_octet_string_param(key->pkey, "encoded-pub-key", point, sizeof(point),
                                            &len) != 1 ||
        len != sizeof(point) || point[0] != 4)
        return error_set(err, -EIO, "libcrypto did not give the key's public point");
    memcpy(x, point + 1, P384_BYTES);
    memcpy(y, point + 1 + P384_BYTES, P384_BYTES);
    return 0;
}

/** der_integer() - the next INTEGER at *p, as 48 big-endian bytes. Lengths below 128 need no long form on P-384. */
static bool der_integer(const uint8_t **p, const uint8_t *end, uint8_t out[P384_BYTES])
{
    if (end - *p < 2 || (*p)[0] != 2 || (*p)[1] == 0 || (*p)[1] > end - *p - 2)
        return false;
    size_t len = (*p)[1];
    const uint8_t *digits = *p + 2;
    *p = digits + len;
    while (len > P384_BYTES && *digits == 0) {
        digits++;
        len--;
    }
    if (len > P384_BYTES)
        return false;
    memset(out, 0, P384_BYTES);
    memcpy(out + P384_BYTES - len, digits, len);
    return true;
}

int crypto_sign(const struct crypto_key *key, const void *data, size_t len, uint8_t r[P384_BYTES],
                uint8_t s[P384_BYTES], struct error *err)
{
    uint8_t der[128];
    size_t der_len = sizeof(der);
    EVP_MD_CTX *ctx = lib.EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL; /* owned by ctx */
    /* The nonce from key and message (RFC 6979), so that the same is signed alike: OpenSSL 3.2, ignored before. */
    unsigned deterministic = 1;
    const OSSL_PARAM nonce[] = {{.key = "nonce-type",
                                 .data_type = OSSL_PARAM_UNSIGNED_INTEGER,
                                 .data = &deterministic,
                                 .data_size = sizeof(deterministic)},
                                {0}};
    bool done = ctx &&
                lib.EVP_DigestSignInit(ctx, &pctx, lib.md[CRYPTO_SHA384], NULL, key->pkey) == 1 &&
                lib.EVP_PKEY_CTX_set_params(pctx, nonce) == 1 &&
                lib.EVP_DigestSign(ctx, der, &der_len, data, len) == 1;
    lib.EVP_MD_CTX_free(ctx);
    const uint8_t *p = der + 2, *end = der + der_len;
    if (!done || der_len < 2 || der[0] != 0x30 || der[1] != der_len - 2 ||
        !der_integer(&p, end, r) || !der_integer(&p, end, s) || p != end)
        return error_set(err, -EIO, "libcrypto could not sign with the key");
    return 0;
}
