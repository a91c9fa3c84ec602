/* What measuring, building and signing have in common. */
#ifndef HUSK_CMD_LAUNCH_WORDS_H
#define HUSK_CMD_LAUNCH_WORDS_H

#include "base/buf.h"
#include "base/error.h"
#include "base/hex.h"
#include "launch/digest_sink.h"
#include "launch/producers.h"
#include "snp/id_block.h"

#include <stddef.h>
#include <stdint.h>

/* How an ID block is asked for. All are words of the command line, NULL if not given. */
struct signing_words {
    const char *id_key, *author_key; /* paths of PEM files */
    const char *family_id, *image_id, *guest_svn;
};

/** signing_make() - an ID block for a digest and a policy, and its signatures. 0 or -errno. */
int signing_make(const struct signing_words *words, const uint8_t ld[SHA384_BYTES], uint64_t policy,
                 struct snp_id_block *block, struct snp_id_auth *auth, struct error *err);

/** vmm_parse() - "qemu" and so on. 0 or -EINVAL naming those that are known. */
int vmm_parse(const char *text, enum launch_vmm *vmm, struct error *err);

/** platform_parse() - "sev-snp", "sev-es", "sev" or "native". 0 or -EINVAL. */
int platform_parse(const char *text, enum plan_platform *platform, struct error *err);
const char *platform_word(enum plan_platform platform);

#define HEX_384_TEXT (2 * SHA384_BYTES + 1)

/** write_file() - @path with these contents, replaced as a whole or not at all. 0 or -errno. */
int write_file(const char *path, const void *data, size_t len, struct error *err);

/** append_base64() - @len bytes, padded, without line breaks. */
void append_base64(struct buf *out, const uint8_t *data, size_t len);

/** print_warning() - a launch_warn_fn: one line on standard error. */
void print_warning(const char *text, void *opaque);

#endif
