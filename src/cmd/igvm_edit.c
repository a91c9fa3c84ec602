/* husk igvm extract, set-policy, sign: one thing of an existing file, whoever built it. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/igvm_cmd.h"
#include "cmd/launch_words.h"
#include "cmd/words.h"
#include "launch/igvm_build.h"
#include "snp/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* A file that is being changed. */
struct edit {
    struct igvm_source source;
    struct igvm_builder *builder;
    uint32_t snp; /* mask of its SEV-SNP platform */
};

static void edit_release(struct edit *e)
{
    igvm_builder_free(e->builder);
    igvm_source_release(&e->source);
}

static int edit_open(struct edit *e, const char *path, struct error *err)
{
    int r = igvm_source_open(&e->source, path, NULL, NULL, err);
    if (r == 0)
        r = igvm_source_read_all(&e->source, path, err);
    if (r < 0)
        return r;
    e->snp = igvm_file_platform_mask(e->source.file, IGVM_PLATFORM_TYPE_SEV_SNP);
    if (!e->snp)
        return error_set(err, -EINVAL, "%s has no SEV_SNP platform", path);
    e->builder = igvm_builder_from(e->source.file);
    return e->builder ? 0 : error_set(err, -ENOMEM, "out of memory for %s", path);
}

static int edit_write(const struct edit *e, const char *path, struct error *err)
{
    uint8_t *data;
    size_t size;
    if (igvm_builder_write(e->builder, &data, &size) != IGVMAPI_OK)
        return error_set(err, -EFBIG, "%s would be too large", path);
    int r = write_file(path, data, size, err);
    free(data);
    return r;
}

/** find_header() - the first of @type for SEV-SNP; 0 if there is none. */
static uint32_t find_header(const struct edit *e, uint32_t type)
{
    struct igvm_header h = {0};
    while (igvm_next(e->source.file, e->snp, &h))
        if (h.type == type)
            return h.number;
    return 0;
}

static int set_policy(const char *in, const char *out, uint64_t policy, bool drop,
                      struct error *err)
{
    _cleanup_(edit_release) struct edit e = {.source = IGVM_SOURCE_INIT};
    int r = edit_open(&e, in, err);
    if (r < 0)
        return r;
    uint32_t id_block = find_header(&e, IGVM_VHT_SNP_ID_BLOCK);
    uint32_t number = find_header(&e, IGVM_VHT_GUEST_POLICY);
    if (id_block && !drop) {
        error_set(err, -EEXIST,
                  "%s has an ID block (header %" PRIu32
                  "), whose signature covers the policy it has now",
                  in, id_block);
        return error_hint(err, "drop it with --drop-id-block, and sign anew with `husk igvm sign`");
    }
    if (id_block) /* it stands behind the policy, whose number does not change */
        igvm_builder_remove(e.builder, id_block);
    IGVM_VHS_GUEST_POLICY header = {.policy = policy, .compatibility_mask = e.snp};
    if (number) {
        uint8_t *payload = igvm_builder_payload(e.builder, number);
        if (load_le32(payload + 8) != e.snp)
            return error_set(err, -EINVAL,
                             "header %" PRIu32 " is the policy of other platforms too", number);
        store_le64(payload, policy);
    } else if (igvm_builder_add(e.builder, IGVM_VHT_GUEST_POLICY, &header, sizeof(header), NULL,
                                0) < 0) {
        return error_set(err, -ENOMEM, "out of memory for %s", in);
    }
    return edit_write(&e, out, err);
}

int igvm_cmd_set_policy(int argc, char **argv, struct error *err)
{
    const char *out = NULL;
    bool drop = false, help = false;
    const struct word_option options[] = {
        {"output", "<file>", "write here [the file itself]; also -o", .letter = 'o', .text = &out},
        {"drop-id-block", NULL, "drop an ID block, whose signature would be wrong", .flag = &drop},
        {"help", NULL, "this text", .flag = &help},
    };
    int r = words_take(options, ARRAY_SIZE(options), &argc, argv, true, err);
    if (r < 0)
        return r;
    if (help) {
        puts("Usage: husk igvm set-policy <file> <policy> [options]\n");
        words_print(options, ARRAY_SIZE(options));
        return 0;
    }
    if (argc != 2)
        return error_set(err, -EINVAL, "`husk igvm set-policy` takes a file and a policy");
    uint64_t policy;
    r = words_number("policy", argv[1], UINT64_MAX, &policy, err);
    if (r == 0)
        r = snp_policy_check(policy, err);
    return r < 0 ? r : set_policy(argv[0], out ? out : argv[0], policy, drop, err);
}

struct sign_words {
    const char *out, *cpus;
    struct signing_words signing;
    bool replace, help;
};

static int sign(const struct sign_words *w, const char *path, struct error *err)
{
    uint64_t vcpus = 0, policy = 0;
    int r = w->cpus ? words_number("cpus", w->cpus, 4096, &vcpus, err) : 0;
    if (r < 0)
        return r;
    _cleanup_(edit_release) struct edit e = {.source = IGVM_SOURCE_INIT};
    r = edit_open(&e, path, err);
    if (r < 0)
        return r;
    uint32_t old = find_header(&e, IGVM_VHT_SNP_ID_BLOCK);
    if (old && !w->replace) {
        error_set(err, -EEXIST, "%s has an ID block already (header %" PRIu32 ")", path, old);
        return error_hint(err, "replace it with --replace");
    }
    if (old)
        igvm_builder_remove(e.builder, old);
    uint8_t digest[SHA384_BYTES];
    struct snp_id_block block;
    _cleanup_free_ struct snp_id_auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return error_set(err, -ENOMEM, "out of memory for the ID block");
    r = igvm_digest_of_bytes(e.source.bytes, e.source.size, (uint32_t)vcpus, digest, &policy, err);
    if (r == 0)
        r = signing_make(&w->signing, digest, policy, &block, auth, err);
    if (r == 0)
        r = igvm_add_id_block(e.builder, e.snp, &block, auth, err);
    return r < 0 ? r : edit_write(&e, w->out ? w->out : path, err);
}

int igvm_cmd_sign(int argc, char **argv, struct error *err)
{
    struct sign_words w = {0};
    const struct word_option options[] = {
        {"id-key", "<pem>", "P-384 key that signs the ID block", .text = &w.signing.id_key},
        {"author-key", "<pem>", "P-384 key that signs the ID key", .text = &w.signing.author_key},
        {"family-id", "<hex>", "of the ID block", .text = &w.signing.family_id},
        {"image-id", "<hex>", "of the ID block", .text = &w.signing.image_id},
        {"guest-svn", "<number>", "of the ID block", .text = &w.signing.guest_svn},
        {"cpus", "<number>", "processors of the guest [as many as contexts]", .text = &w.cpus},
        {"output", "<file>", "write here [the file itself]; also -o", .letter = 'o',
         .text = &w.out},
        {"replace", NULL, "replace the ID block that the file has", .flag = &w.replace},
        {"help", NULL, "this text", .flag = &w.help},
    };
    int r = words_take(options, ARRAY_SIZE(options), &argc, argv, true, err);
    if (r < 0)
        return r;
    if (w.help) {
        puts("Usage: husk igvm sign <file> --id-key <pem> [options]\n");
        words_print(options, ARRAY_SIZE(options));
        return 0;
    }
    if (argc != 1)
        return error_set(err, -EINVAL, "`husk igvm sign` takes one file");
    return sign(&w, argv[0], err);
}

static int extract(const char *path, const char *out, const char *number_text, struct error *err)
{
    _cleanup_(igvm_source_release) struct igvm_source source = IGVM_SOURCE_INIT;
    int r = igvm_source_open(&source, path, NULL, NULL, err);
    if (r == 0)
        r = igvm_source_read_all(&source, path, err);
    if (r < 0)
        return r;
    uint64_t start = load_le32(source.bytes + 8) + (uint64_t)load_le32(source.bytes + 12);
    if (!number_text)
        return write_file(out, source.bytes + start, source.size - start, err);
    uint64_t number, len;
    struct igvm_header h;
    r = words_number("header", number_text, UINT32_MAX, &number, err);
    if (r < 0)
        return r;
    if (!igvm_file_header(source.file, (uint32_t)number, &h))
        return error_set(err, -EINVAL, "%s has %" PRIu32 " headers, no header %" PRIu64, path,
                         igvm_file_count(source.file), number);
    const uint8_t *data = igvm_file_data(source.file, &h, &len);
    if (!data)
        return error_set(err, -ENODATA, "header %" PRIu64 " (%s) has no file data", number,
                         igvm_type_name(h.type));
    return write_file(out, data, len, err);
}

int igvm_cmd_extract(int argc, char **argv, struct error *err)
{
    const char *out = NULL, *header = NULL;
    bool help = false;
    const struct word_option options[] = {
        {"output", "<file>", "write here; also -o", .letter = 'o', .text = &out},
        {"header", "<number>", "what this header points to [the whole file data]", .text = &header},
        {"help", NULL, "this text", .flag = &help},
    };
    int r = words_take(options, ARRAY_SIZE(options), &argc, argv, true, err);
    if (r < 0)
        return r;
    if (help) {
        puts("Usage: husk igvm extract <file> -o <file> [--header <number>]\n");
        words_print(options, ARRAY_SIZE(options));
        return 0;
    }
    if (argc != 1 || !out)
        return error_set(err, -EINVAL, "`husk igvm extract` takes one file, and --output");
    return extract(argv[0], out, header, err);
}
