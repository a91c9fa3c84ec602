#include "cmd/launch_words.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void cleanup_key(struct crypto_key **key)
{
    crypto_key_free(*key);
}

int signing_make(const struct signing_words *words, const uint8_t ld[SHA384_BYTES], uint64_t policy,
                 struct snp_id_block *block, struct snp_id_auth *auth, struct error *err)
{
    *block = (struct snp_id_block){.version = htole32(1), .policy = htole64(policy)};
    memcpy(block->ld, ld, SHA384_BYTES);
    uint64_t svn = 0;
    int r = 0;
    if (words->family_id)
        r = snp_id_parse(words->family_id, block->family_id, err);
    if (r == 0 && words->image_id)
        r = snp_id_parse(words->image_id, block->image_id, err);
    if (r == 0 && words->guest_svn)
        r = words_number("guest-svn", words->guest_svn, UINT32_MAX, &svn, err);
    if (r < 0)
        return r;
    block->guest_svn = htole32((uint32_t)svn);
    if (!words->id_key)
        return error_set(err, -EINVAL, "an ID block has to be signed: --id-key is missing");
    _cleanup_(cleanup_key) struct crypto_key *id = crypto_key_read(words->id_key, err);
    _cleanup_(cleanup_key) struct crypto_key *author = NULL;
    if (id && words->author_key)
        author = crypto_key_read(words->author_key, err);
    if (!id || (words->author_key && !author))
        return err->code;
    return snp_id_sign(auth, block, id, author, err);
}

int vmm_parse(const char *text, enum launch_vmm *vmm, struct error *err)
{
    for (enum launch_vmm v = LAUNCH_HUSK; v <= LAUNCH_FILE; v++)
        if (strcmp(text, launch_vmm_name(v)) == 0) {
            *vmm = v;
            return 0;
        }
    return error_set(err, -EINVAL,
                     "--vmm: '%s' is none of husk, qemu, cloud-hypervisor, ec2, gce, file", text);
}

static const char *const platform_words[] = {[PLAN_NATIVE] = "native",
                                             [PLAN_SEV] = "sev",
                                             [PLAN_SEV_ES] = "sev-es",
                                             [PLAN_SEV_SNP] = "sev-snp"};

int platform_parse(const char *text, enum plan_platform *platform, struct error *err)
{
    for (enum plan_platform p = PLAN_NATIVE; p <= PLAN_SEV_SNP; p++)
        if (strcmp(text, platform_words[p]) == 0) {
            *platform = p;
            return 0;
        }
    return error_set(err, -EINVAL, "'%s' is none of the platforms sev-snp, sev-es, sev, native",
                     text);
}

const char *platform_word(enum plan_platform platform)
{
    return platform_words[platform];
}

int write_file(const char *path, const void *data, size_t len, struct error *err)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    char temporary[4096];
    int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    /* Devices and pipes are written where they are. */
    bool replace = (!exists || S_ISREG(st.st_mode)) && n > 0 && (size_t)n < sizeof(temporary);
    _cleanup_close_ int fd =
        replace ? mkostemp(temporary, O_CLOEXEC) : open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not create %s", path);
    mode_t mask = umask(0);
    umask(mask);
    int r = fd_write_full(fd, data, len);
    if (r == 0 && replace && (fchmod(fd, 0666 & ~mask) < 0 || rename(temporary, path) < 0))
        r = -errno;
    if (r < 0 && replace)
        unlink(temporary);
    return r < 0 ? error_set_errno(err, r, "could not write %s", path) : 0;
}

void append_base64(struct buf *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16;
        v |= i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0;
        v |= i + 2 < len ? data[i + 2] : 0;
        char quad[4] = {digits[v >> 18], digits[v >> 12 & 63], '=', '='};
        if (i + 1 < len)
            quad[2] = digits[v >> 6 & 63];
        if (i + 2 < len)
            quad[3] = digits[v & 63];
        buf_append(out, quad, sizeof(quad));
    }
}

void print_warning(const char *text, void *opaque)
{
    (void)opaque;
    fprintf(stderr, "husk: warning: %s\n", text);
}
