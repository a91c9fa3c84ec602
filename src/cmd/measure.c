/* husk measure: the launch digest of what "husk run" would start with the same options. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/launch_words.h"
#include "cmd/measure_steps.h"
#include "cmd/words.h"
#include "config/options.h"
#include "snp/cpu_model.h"
#include "snp/policy.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct measure_words {
    const char *igvm, *firmware, *platform, *vmm, *cpu_signature, *cpu_model, *empty_pages;
    const char *vmsa_features, *policy, *compare, *id_block, *id_auth, *threads;
    struct signing_words signing;
    bool json;
};

/* What is to be measured, once the words are understood. */
struct measure_input {
    struct launch_options launch;
    struct digest_options digest;
    const char *igvm, *firmware;
    uint64_t policy;
    bool has_policy;
    uint8_t hashes[KERNEL_HASHES_BYTES];
};

static int read_cpu(const struct measure_words *w, struct launch_options *o, struct error *err)
{
    if (w->cpu_signature && w->cpu_model)
        return error_set(err, -EINVAL, "give --cpu-signature or --cpu-model, not both");
    o->has_signature = w->cpu_signature || w->cpu_model;
    if (w->cpu_signature)
        return cpu_signature_parse(w->cpu_signature, &o->cpu_signature, err);
    return w->cpu_model ? cpu_model_signature(w->cpu_model, &o->cpu_signature, err) : 0;
}

static int read_numbers(const struct measure_words *w, struct measure_input *in, struct error *err)
{
    uint64_t threads = 0;
    int r = 0;
    if (w->vmsa_features)
        r = words_number("vmsa-features", w->vmsa_features, UINT64_MAX, &in->launch.vmsa_features,
                         err);
    if (r == 0 && w->policy)
        r = words_number("policy", w->policy, UINT64_MAX, &in->policy, err);
    if (r == 0 && w->threads)
        r = words_number("threads", w->threads, 16, &threads, err);
    if (r == 0 && w->policy)
        r = snp_policy_check(in->policy, err);
    in->has_policy = w->policy;
    in->digest.threads = (unsigned)threads;
    if (r == 0 && w->empty_pages) {
        in->digest.zero_as_normal = strcmp(w->empty_pages, "normal") == 0;
        if (!in->digest.zero_as_normal && strcmp(w->empty_pages, "zero") != 0)
            r = error_set(err, -EINVAL, "--empty-pages: '%s' is neither zero nor normal",
                          w->empty_pages);
    }
    return r;
}

/** read_platform() - what --platform says of the launch, unless the subcommand's own option does. */
static int read_platform(const struct measure_words *w, const struct platform_config *platform,
                         struct measure_input *in, struct error *err)
{
    int r = 0;
    if (platform->vmsa_features && !w->vmsa_features)
        r = words_number("platform vmsa_features", platform->vmsa_features, UINT64_MAX,
                         &in->launch.vmsa_features, err);
    if (r == 0 && platform->policy && !w->policy) {
        r = words_number("platform policy", platform->policy, UINT64_MAX, &in->policy, err);
        in->has_policy = r == 0;
    }
    return r;
}

static int read_words(const struct measure_words *w, const struct vm_config *config,
                      struct measure_input *in, struct error *err)
{
    in->igvm = w->igvm;
    in->firmware = w->firmware;
    in->launch.vcpus = config->cpus.boot;
    in->launch.any_platform = !w->platform;
    in->launch.warn = print_warning;
    if (!w->igvm == !w->firmware) {
        error_set(err, -EINVAL,
                  w->igvm ? "give --igvm or --firmware, not both"
                          : "nothing to measure: --igvm or --firmware is missing");
        return error_hint(err, "a kernel is measured through firmware that checks its hashes: "
                               "--firmware OVMF.amdsev.fd --kernel ...");
    }
    int r = w->vmm ? vmm_parse(w->vmm, &in->launch.vmm, err) : 0;
    if (r == 0 && w->platform)
        r = platform_parse(w->platform, &in->launch.platform, err);
    if (r == 0)
        r = read_cpu(w, &in->launch, err);
    if (r == 0)
        r = read_numbers(w, in, err);
    in->digest.vmm = in->launch.vmm;
    const struct payload_config *p = &config->payload;
    if (r < 0)
        return r;
    if (w->igvm && w->vmsa_features)
        return error_set(err, -EINVAL,
                         "--vmsa-features is for firmware: an IGVM file's contexts have their own");
    if (r == 0)
        r = read_platform(w, &config->platform, in, err);
    if (r < 0)
        return r;
    if (w->firmware && !p->kernel && (p->initramfs || p->cmdline))
        print_warning("--initramfs and --cmdline do not enter the digest without --kernel", NULL);
    enum switch_state hashed = config_kernel_hashes(&config->platform, &in->launch.hashes_gpa);
    in->launch.hashes_replace = hashed == SWITCH_ON;
    if (!p->kernel || hashed == SWITCH_OFF)
        return 0;
    in->launch.hashes = in->hashes;
    return kernel_hashes_build(in->hashes, p->kernel, p->initramfs, p->cmdline, err);
}

/** measure() - the plan of @in, and its digest. Returns the digest's length, or -errno. */
static int measure(const struct measure_input *in, struct plan *plan, struct steps *steps,
                   uint8_t digest[SHA384_BYTES], struct error *err)
{
    int r = in->igvm ? plan_from_igvm(plan, in->igvm, &in->launch, err)
                     : plan_from_firmware(plan, in->firmware, &in->launch, err);
    if (r < 0)
        return r;
    if (in->has_policy)
        plan->policy = in->policy;
    struct digest_options options = in->digest;
    options.step = steps ? steps_add : NULL;
    options.opaque = steps;
    r = plan_launch_digest(plan, &options, digest, err);
    return r >= 0 && steps && buf_failed(&steps->records)
               ? error_set(err, -ENOMEM, "out of memory for the steps")
               : r;
}

/** check_id_block() - what the file demands against what it will have. */
static void check_id_block(const struct plan *plan, const uint8_t digest[SHA384_BYTES])
{
    if (plan->id_block && memcmp(plan->id_block, digest, SHA384_BYTES) != 0) {
        char text[HEX_384_TEXT], line[256];
        snprintf(line, sizeof(line),
                 "the file's ID block demands another digest, %s: the launch "
                 "would end with BAD_MEASUREMENT",
                 hex_text(plan->id_block, SHA384_BYTES, text));
        print_warning(line, NULL);
    }
}

static int write_id_block(const struct measure_words *w, const struct plan *plan,
                          const uint8_t digest[SHA384_BYTES], struct error *err)
{
    if (plan->platform != PLAN_SEV_SNP)
        return error_set(err, -EINVAL, "ID blocks exist on SEV-SNP only");
    struct snp_id_block block;
    _cleanup_free_ struct snp_id_auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return error_set(err, -ENOMEM, "out of memory for the ID block");
    int r = signing_make(&w->signing, digest, plan->policy, &block, auth, err);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf block_text = BUF_INIT, auth_text = BUF_INIT, auth_path = BUF_INIT;
    append_base64(&block_text, (const uint8_t *)&block, sizeof(block));
    append_base64(&auth_text, (const uint8_t *)auth, sizeof(*auth));
    buf_printf(&auth_path, "%s.auth", w->id_block);
    if (buf_failed(&block_text) || buf_failed(&auth_text) || buf_failed(&auth_path))
        return error_set(err, -ENOMEM, "out of memory for the ID block");
    r = write_file(w->id_block, block_text.data, block_text.len, err);
    if (r == 0)
        r = write_file(w->id_auth ? w->id_auth : (const char *)auth_path.data, auth_text.data,
                       auth_text.len, err);
    return r;
}

/** compare() - with a digest, or with what another file, or another measure, comes to. Returns the exit status. */
static int compare(const struct measure_words *w, const struct measure_input *in,
                   const struct steps *steps, const uint8_t *digest, int len, struct error *err)
{
    uint8_t other[SHA384_BYTES];
    _cleanup_(steps_release) struct steps other_steps = STEPS_INIT;
    int other_len = len;
    if (!hex_parse(w->compare, other, (size_t)len)) {
        struct measure_input changed = *in;
        enum compared_kind kind;
        int r = steps_read(&other_steps, w->compare, other, &other_len, &kind, err);
        if (r < 0)
            return r;
        if (kind == COMPARED_IGVM || kind == COMPARED_FIRMWARE) {
            changed.igvm = kind == COMPARED_IGVM ? w->compare : NULL;
            changed.firmware = kind == COMPARED_FIRMWARE ? w->compare : NULL;
            _cleanup_(plan_release) struct plan plan = PLAN_INIT;
            other_len = measure(&changed, &plan, &other_steps, other, err);
            if (other_len < 0)
                return other_len;
        }
    }
    if (other_len == len && memcmp(digest, other, (size_t)len) == 0)
        return 0;
    char text[HEX_384_TEXT];
    fprintf(stderr, "husk: the digests differ: the other is %s\n",
            hex_text(other, (size_t)other_len, text));
    steps_print_difference(steps, &other_steps, stderr);
    return 1;
}

static int print_result(const struct measure_words *w, const struct measure_input *in,
                        const struct plan *plan, const struct steps *steps, const uint8_t *digest,
                        int len, struct error *err)
{
    char text[HEX_384_TEXT];
    hex_text(digest, (size_t)len, text);
    if (!w->json) {
        puts(text);
    } else {
        printf("{\n  \"launch_digest\": \"%s\",\n  \"platform\": \"%s\",\n"
               "  \"vmm\": \"%s\",\n  \"vcpus\": %" PRIu32 ",\n  \"policy\": %" PRIu64 ",\n"
               "  \"vmsa_features\": %" PRIu64 ",\n",
               text, platform_word(plan->platform), launch_vmm_name(in->launch.vmm),
               in->launch.vcpus, plan->policy, plan->vmsa_features);
        if (steps_to_json(steps, stdout) < 0)
            return error_set(err, -ENOMEM, "out of memory for the steps");
    }
    return fflush(stdout) || ferror(stdout) ? error_set(err, -EIO, "could not write the digest")
                                            : 0;
}

static int run(const struct measure_words *w, const struct vm_config *config, struct error *err)
{
    struct measure_input in = {0};
    int r = read_words(w, config, &in, err);
    if (r < 0)
        return r;
    _cleanup_(plan_release) struct plan plan = PLAN_INIT;
    _cleanup_(steps_release) struct steps steps = STEPS_INIT;
    uint8_t digest[SHA384_BYTES];
    int len = measure(&in, &plan, w->json || w->compare ? &steps : NULL, digest, err);
    if (len < 0)
        return len;
    if (plan.platform == PLAN_SEV_SNP)
        check_id_block(&plan, digest);
    r = print_result(w, &in, &plan, &steps, digest, len, err);
    if (r == 0 && w->id_block)
        r = write_id_block(w, &plan, digest, err);
    if (r == 0 && w->compare)
        r = compare(w, &in, &steps, digest, len, err);
    return r;
}

static void print_help(const struct word_option *options, size_t n)
{
    puts("Usage: husk measure --igvm <file> | --firmware <file> [options]\n"
         "\n"
         "Prints the launch digest that the secure processor will report for the guest that\n"
         "`husk run` starts with the same options. Takes every option of `husk run`, and:\n");
    words_print(options, n);
    puts("\nExit status: 0; 1 if --compare finds a difference, or on failure; 2 for a wrong "
         "option.");
}

int cmd_measure(int argc, char **argv)
{
    struct measure_words w = {0};
    const struct word_option options[] = {
        {"igvm", "<file>", "IGVM file to measure", .text = &w.igvm},
        {"firmware", "<file>", "firmware image with SEV metadata", .text = &w.firmware},
        {"platform-type", "<platform>", "sev-snp, sev-es or sev; default: the file's strongest",
         .text = &w.platform},
        {"vmm", "<vmm>", "whose launch: husk, qemu, cloud-hypervisor, ec2, gce, file",
         .text = &w.vmm},
        {"cpu-signature", "<family,model,stepping>", "RDX at reset, as QEMU sets it",
         .text = &w.cpu_signature},
        {"cpu-model", "<model>", "the same by QEMU's name: EPYC-v4, EPYC-Milan, ...",
         .text = &w.cpu_model},
        {"empty-pages", "zero|normal", "how pages without data are imported [zero]",
         .text = &w.empty_pages},
        {"vmsa-features", "<bits>", "SEV_FEATURES for firmware [0x1]", .text = &w.vmsa_features},
        {"policy", "<bits>", "guest policy of the ID block; not measured", .text = &w.policy},
        {"json", NULL, "a JSON object with the digest and every page", .flag = &w.json},
        {"compare", "<digest>|<file>", "exit 1 unless it is this digest, or this file's",
         .text = &w.compare},
        {"id-block", "<file>", "write a signed ID block for it, as QEMU takes it",
         .text = &w.id_block},
        {"id-auth", "<file>", "its signatures [<id-block file>.auth]", .text = &w.id_auth},
        {"id-key", "<pem>", "P-384 key that signs the ID block", .text = &w.signing.id_key},
        {"author-key", "<pem>", "P-384 key that signs the ID key", .text = &w.signing.author_key},
        {"family-id", "<hex>", "of the ID block", .text = &w.signing.family_id},
        {"image-id", "<hex>", "of the ID block", .text = &w.signing.image_id},
        {"guest-svn", "<number>", "of the ID block", .text = &w.signing.guest_svn},
        {"threads", "<number>", "that hash pages [as many as processors]", .text = &w.threads},
    };
    struct error err = ERROR_INIT;
    _cleanup_(config_release) struct vm_config config;
    _cleanup_(config_request_release) struct config_request request = CONFIG_REQUEST_INIT;
    config_init_defaults(&config);
    int ret = words_take(options, ARRAY_SIZE(options), &argc, argv, false, &err);
    bool usage = true;
    if (ret == 0)
        ret = config_parse_args(&config, argc, argv, &request, &err);
    if (ret == 0 && request.help) {
        print_help(options, ARRAY_SIZE(options));
        return VMM_EXIT_POWER_OFF;
    }
    if (ret == 0 && request.version)
        return cmd_version(0, NULL);
    if (ret == 0) {
        usage = false;
        ret = run(&w, &config, &err);
    }
    if (ret >= 0)
        return ret;
    cmd_print_error(&err);
    return usage ? VMM_EXIT_USAGE : VMM_EXIT_ERROR;
}
