/* husk igvm build. */
#include "launch/igvm_build.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/igvm_cmd.h"
#include "cmd/launch_words.h"
#include "cmd/words.h"
#include "snp/firmware.h"
#include "snp/policy.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

struct build_words {
    struct string_list platforms;
    const char *firmware, *cpus, *out, *layout, *policy, *features, *rdx;
    const char *kernel, *initramfs, *cmdline;
    const char *json, *data;
    struct signing_words signing;
    bool host_map, help;
};

static int read_numbers(const struct build_words *w, struct igvm_build *b, struct error *err)
{
    uint64_t vcpus = 1;
    int r = 0;
    b->policy = SNP_POLICY_DEFAULT;
    if (w->cpus)
        r = words_number("cpus", w->cpus, 4096, &vcpus, err);
    if (r == 0 && vcpus == 0)
        r = error_set(err, -EINVAL, "--cpus: at least one context is needed");
    if (r == 0 && w->policy)
        r = words_number("policy", w->policy, UINT64_MAX, &b->policy, err);
    if (r == 0)
        r = snp_policy_check(b->policy, err);
    if (r == 0 && w->features)
        r = words_number("vmsa-features", w->features, UINT64_MAX, &b->features, err);
    if (r == 0 && w->rdx)
        r = words_number("rdx", w->rdx, UINT32_MAX, &b->rdx, err);
    b->vcpus = (uint32_t)vcpus;
    return r;
}

static int read_platforms(const struct build_words *w, struct igvm_build *b, struct error *err)
{
    for (size_t i = 0; i < w->platforms.n; i++) {
        enum plan_platform platform;
        int r = platform_parse(w->platforms.items[i], &platform, err);
        if (r < 0)
            return error_context(err, "--platform");
        for (size_t k = 0; k < b->n_platforms; k++)
            if (b->platforms[k] == platform)
                return error_set(err, -EINVAL, "--platform %s is given twice",
                                 w->platforms.items[i]);
        b->platforms[b->n_platforms++] = platform;
    }
    if (b->n_platforms == 0)
        b->platforms[b->n_platforms++] = PLAN_SEV_SNP;
    if (w->layout && strcmp(w->layout, "buildigvm") != 0 && strcmp(w->layout, "metadata") != 0)
        return error_set(err, -EINVAL, "--layout: '%s' is neither metadata nor buildigvm",
                         w->layout);
    b->buildigvm = w->layout && strcmp(w->layout, "buildigvm") == 0;
    b->host_map = w->host_map;
    return 0;
}

int igvm_digest_of_bytes(const uint8_t *data, size_t size, uint32_t vcpus, uint8_t digest[48],
                         uint64_t *policy, struct error *err)
{
    _cleanup_close_ int fd = memfd_create("igvm", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : fd_write_full(fd, data, size);
    if (r < 0)
        return error_set_errno(err, r, "no memory to measure the file in");
    if (vcpus == 0) {
        struct igvm_file *file = NULL;
        struct igvm_header h = {0};
        if (igvm_file_open(data, size, NULL, NULL, &file) == IGVMAPI_OK)
            while (igvm_next(file, igvm_file_platform_mask(file, IGVM_PLATFORM_TYPE_SEV_SNP), &h))
                vcpus += h.type == IGVM_VHT_VP_CONTEXT;
        igvm_file_close(file);
        vcpus = MAX(vcpus, 1u);
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    _cleanup_(plan_release) struct plan plan = PLAN_INIT;
    struct launch_options launch = {
        .platform = PLAN_SEV_SNP, .vcpus = vcpus, .warn = print_warning};
    r = plan_from_igvm(&plan, path, &launch, err);
    if (r < 0)
        return r;
    *policy = plan.policy;
    struct digest_options options = {.vmm = LAUNCH_HUSK};
    r = plan_launch_digest(&plan, &options, digest, err);
    return r < 0 ? r : 0;
}

/** add_signature() - an ID block over the digest of *@data, which is replaced by the file with it. */
static int add_signature(const struct build_words *w, const struct igvm_build *b, uint8_t **data,
                         size_t *size, struct error *err)
{
    uint8_t digest[SHA384_BYTES];
    uint64_t policy = 0;
    struct snp_id_block block;
    _cleanup_free_ struct snp_id_auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return error_set(err, -ENOMEM, "out of memory for the ID block");
    int r = igvm_digest_of_bytes(*data, *size, b->vcpus, digest, &policy, err);
    if (r == 0)
        r = signing_make(&w->signing, digest, policy, &block, auth, err);
    if (r < 0)
        return r;
    struct igvm_file *file = NULL;
    igvm_file_open(*data, *size, NULL, NULL, &file);
    struct igvm_builder *builder = file ? igvm_builder_from(file) : NULL;
    uint8_t *signed_data = NULL;
    size_t signed_size = 0;
    if (!builder)
        r = error_set(err, -ENOMEM, "out of memory for the ID block");
    else
        r = igvm_add_id_block(builder, igvm_file_platform_mask(file, IGVM_PLATFORM_TYPE_SEV_SNP),
                              &block, auth, err);
    if (r == 0 && igvm_builder_write(builder, &signed_data, &signed_size) != IGVMAPI_OK)
        r = error_set(err, -EFBIG, "the file would be too large with its ID block");
    igvm_builder_free(builder);
    igvm_file_close(file);
    if (r < 0)
        return r;
    free(*data);
    *data = signed_data;
    *size = signed_size;
    return 0;
}

static int build_from_firmware(const struct build_words *w, uint8_t **data, size_t *size,
                               struct error *err)
{
    struct igvm_build b = {0};
    uint8_t hashes[KERNEL_HASHES_BYTES];
    int r = read_platforms(w, &b, err);
    if (r == 0)
        r = read_numbers(w, &b, err);
    if (r < 0)
        return r;
    if (!w->kernel && (w->initramfs || w->cmdline))
        return error_set(err, -EINVAL, "--initramfs and --cmdline are hashed beside a --kernel");
    if (w->kernel) {
        r = kernel_hashes_build(hashes, w->kernel, w->initramfs, w->cmdline, err);
        b.hashes = hashes;
    }
    uint64_t len = 0;
    _cleanup_close_ int fd = r == 0 ? fd_open_file(w->firmware, &len, err) : -1;
    if (fd < 0)
        return r < 0 ? r : fd;
    _cleanup_free_ uint8_t *image = malloc(len && len <= FIRMWARE_BYTES_MAX ? len : 1);
    if (!image)
        return error_set(err, -ENOMEM, "out of memory for %s", w->firmware);
    r = len <= FIRMWARE_BYTES_MAX ? fd_pread_full(fd, image, len, 0) : 0;
    if (r < 0)
        return error_set_errno(err, r, "could not read %s", w->firmware);
    b.firmware = image;
    b.firmware_len = len;
    r = igvm_build_firmware(&b, data, size, err);
    if (r < 0)
        return error_context(err, "%s", w->firmware);
    if (!w->signing.id_key)
        return 0;
    for (size_t i = 0; i < b.n_platforms; i++)
        if (b.platforms[i] == PLAN_SEV_SNP)
            return add_signature(w, &b, data, size, err);
    return error_set(err, -EINVAL, "--id-key signs for SEV-SNP, which is not among the platforms");
}

static int build(const struct build_words *w, int argc, struct error *err)
{
    if (argc > 0)
        return error_set(err, -EINVAL, "`husk igvm build` takes options only");
    if (!w->out)
        return error_set(err, -EINVAL, "where to? --output is missing");
    if (!w->firmware == !w->json)
        return error_set(err, -EINVAL, "from what? Give --firmware, or --json with --data");
    _cleanup_free_ uint8_t *data = NULL;
    size_t size = 0;
    int r = w->json ? igvm_rebuild(w->json, w->data, &data, &size, err)
                    : build_from_firmware(w, &data, &size, err);
    return r < 0 ? r : write_file(w->out, data, size, err);
}

int igvm_cmd_build(int argc, char **argv, struct error *err)
{
    struct build_words w = {0};
    const struct word_option options[] = {
        {"platform", "<platform>", "sev-snp, sev-es, sev, native; repeatable [sev-snp]",
         .list = &w.platforms},
        {"firmware", "<file>", "OVMF or stage0 image; for native any that ends at 4 GiB",
         .text = &w.firmware},
        {"output", "<file>", "the file to write; also -o", .letter = 'o', .text = &w.out},
        {"cpus", "<number>", "processors that get a context [1]", .text = &w.cpus},
        {"layout", "metadata|buildigvm", "order of the pages [metadata]", .text = &w.layout},
        {"policy", "<bits>", "guest policy of SEV-SNP [0x30000]", .text = &w.policy},
        {"vmsa-features", "<bits>", "SEV_FEATURES; SNP_ACTIVE is added [0x1]", .text = &w.features},
        {"rdx", "<number>", "RDX at reset, the CPU signature for some [0]", .text = &w.rdx},
        {"kernel", "<file>", "put its hash into the hash page", .text = &w.kernel},
        {"initramfs", "<file>", "and this one's", .text = &w.initramfs},
        {"cmdline", "<text>", "and the command line's", .text = &w.cmdline},
        {"host-map", NULL, "areas for memory map and processor count", .flag = &w.host_map},
        {"id-key", "<pem>", "sign an ID block over the file's digest", .text = &w.signing.id_key},
        {"author-key", "<pem>", "P-384 key that signs the ID key", .text = &w.signing.author_key},
        {"family-id", "<hex>", "of the ID block", .text = &w.signing.family_id},
        {"image-id", "<hex>", "of the ID block", .text = &w.signing.image_id},
        {"guest-svn", "<number>", "of the ID block", .text = &w.signing.guest_svn},
        {"json", "<file>", "rebuild from what `husk igvm show --json` wrote", .text = &w.json},
        {"data", "<file>", "and what `husk igvm extract` wrote", .text = &w.data},
        {"help", NULL, "this text", .flag = &w.help},
    };
    int r = words_take(options, ARRAY_SIZE(options), &argc, argv, true, err);
    if (r == 0 && w.help) {
        puts("Usage: husk igvm build --firmware <file> -o <file> [options]\n");
        words_print(options, ARRAY_SIZE(options));
    } else if (r == 0) {
        r = build(&w, argc, err);
    }
    words_free_list(&w.platforms);
    return r;
}
