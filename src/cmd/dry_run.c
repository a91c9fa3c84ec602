#include "cmd/dry_run.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cmd/launch_words.h"
#include "igvm/igvm.h"
#include "launch/digest_sink.h"
#include "vmm/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static const char *const page_types[] = {
    [PLAN_PAGE_NORMAL] = "NORMAL",         [PLAN_PAGE_ZERO] = "ZERO",
    [PLAN_PAGE_UNMEASURED] = "UNMEASURED", [PLAN_PAGE_SECRETS] = "SECRETS",
    [PLAN_PAGE_CPUID] = "CPUID",
};

/* clang-format off */
#define REGISTERS(X)                                                                               \
    X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rsp) X(rbp) X(r8) X(r9) X(r10) X(r11) X(r12)       \
    X(r13) X(r14) X(r15) X(rip) X(rflags) X(cr0) X(cr3) X(cr4) X(efer) X(xcr0) X(pat) X(dr6)       \
    X(dr7) X(mxcsr) X(fcw)
#define SEGMENTS(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(gdtr) X(idtr) X(ldtr) X(tr)
/* clang-format on */

struct headers {
    uint32_t first, last; /* 0: no header asked for it */
};

static struct headers headers_of(const struct plan_run *run)
{
    return (struct headers){plan_run_directive(run, 0), plan_run_directive(run, run->len - 1)};
}

static void print_runs(const struct plan *plan)
{
    puts("page runs, in the order in which they are loaded:");
    for (size_t i = 0; i < plan->n_runs; i++) {
        const struct plan_run *run = &plan->runs[i];
        struct headers headers = headers_of(run);
        printf("  0x%012" PRIx64 "-0x%012" PRIx64 "  %-10s  %s", run->gpa, run->gpa + run->len - 1,
               run->shared ? "shared" : page_types[run->type], run->origin);
        if (headers.first == headers.last && headers.first)
            printf(", header %" PRIu32, headers.first);
        else if (headers.first)
            printf(", headers %" PRIu32 "-%" PRIu32, headers.first, headers.last);
        if (run->source == PLAN_SOURCE_FILE)
            printf(", from byte 0x%" PRIx64 " of %s", run->range.offset,
                   plan->files[run->range.file].path);
        putchar('\n');
    }
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *range = &plan->ranges[i];
        printf("  0x%012" PRIx64 "-0x%012" PRIx64 "  %-10s  header %" PRIu32 " (%s)\n", range->gpa,
               range->gpa + MAX(range->len, 1u) - 1, "memory", range->directive,
               igvm_type_name(range->directive_type));
    }
}

static void print_vcpu(const struct plan_vcpu *vcpu)
{
    if (vcpu->waits_for_sipi) {
        printf("vCPU %" PRIu32 ": waits for a start-up interrupt\n", vcpu->index);
        return;
    }
    printf("vCPU %" PRIu32 ":", vcpu->index);
    unsigned column = 0;
#define PRINT(name) \
    printf("%s%-6s 0x%016" PRIx64, column++ % 3 ? "  " : "\n  ", #name, (uint64_t)vcpu->name);
    REGISTERS(PRINT)
#undef PRINT
#define PRINT(name)                                                                            \
    printf("\n  %-4s selector 0x%04x attributes 0x%03x limit 0x%08" PRIx32 " base 0x%" PRIx64, \
           #name, vcpu->name.selector, vcpu->name.attributes, vcpu->name.limit, vcpu->name.base);
    SEGMENTS(PRINT)
#undef PRINT
    putchar('\n');
}

static int print_text(const struct plan *plan, bool sw_protected, const char *digest)
{
    printf("platform: %s\n", platform_word(plan->platform));
    if (sw_protected)
        puts("memory: software-protected; the pages below are shared at start, all others private");
    if (plan->platform == PLAN_SEV_SNP)
        printf("policy: 0x%" PRIx64 "\nVMSA features: 0x%" PRIx64 "\n", plan->policy,
               plan->vmsa_features);
    print_runs(plan);
    for (size_t i = 0; i < plan->n_vcpus; i++)
        print_vcpu(&plan->vcpus[i]);
    if (digest)
        printf("launch digest: %s\n", digest);
    return 0;
}

static json_t *run_json(const struct plan *plan, const struct plan_run *run)
{
    struct headers headers = headers_of(run);
    json_t *object = json_pack("{s:I, s:I, s:s, s:b, s:s}", "gpa", (json_int_t)run->gpa, "bytes",
                               (json_int_t)run->len, "type", page_types[run->type], "shared",
                               run->shared, "origin", run->origin);
    if (headers.first)
        json_object_set_new(
            object, "headers",
            json_pack("[I, I]", (json_int_t)headers.first, (json_int_t)headers.last));
    if (run->source == PLAN_SOURCE_FILE)
        json_object_set_new(object, "file",
                            json_pack("{s:s, s:I}", "path", plan->files[run->range.file].path,
                                      "offset", (json_int_t)run->range.offset));
    return object;
}

static json_t *range_json(const struct plan_range *range)
{
    return json_pack("{s:I, s:I, s:s, s:I}", "gpa", (json_int_t)range->gpa, "bytes",
                     (json_int_t)range->len, "type", igvm_type_name(range->directive_type),
                     "header", (json_int_t)range->directive);
}

/** number_json() - as text: JSON's readers differ in what they make of 64 bits. */
static json_t *number_json(uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "0x%" PRIx64, value);
    return json_string(text);
}

static json_t *segment_json(const struct plan_segment *segment)
{
    return json_pack("{s:i, s:i, s:I, s:o}", "selector", (int)segment->selector, "attributes",
                     (int)segment->attributes, "limit", (json_int_t)segment->limit, "base",
                     number_json(segment->base));
}

static json_t *vcpu_json(const struct plan_vcpu *vcpu)
{
    json_t *object = json_pack("{s:I, s:b}", "index", (json_int_t)vcpu->index, "waits_for_sipi",
                               vcpu->waits_for_sipi);
    if (vcpu->waits_for_sipi)
        return object;
#define SET(name) json_object_set_new(object, #name, number_json(vcpu->name));
    REGISTERS(SET)
#undef SET
#define SET(name) json_object_set_new(object, #name, segment_json(&vcpu->name));
    SEGMENTS(SET)
#undef SET
    return object;
}

static int print_json(const struct plan *plan, bool sw_protected, const char *digest,
                      struct error *err)
{
    json_t *root = json_pack("{s:s}", "platform", platform_word(plan->platform));
    if (sw_protected)
        json_object_set_new(root, "sw_protected", json_true());
    if (plan->platform == PLAN_SEV_SNP) {
        json_object_set_new(root, "policy", json_integer((json_int_t)plan->policy));
        json_object_set_new(root, "vmsa_features", json_integer((json_int_t)plan->vmsa_features));
    }
    json_t *runs = json_array(), *ranges = json_array(), *vcpus = json_array();
    json_object_set_new(root, "runs", runs);
    json_object_set_new(root, "ranges", ranges);
    json_object_set_new(root, "vcpus", vcpus);
    for (size_t i = 0; i < plan->n_runs; i++)
        json_array_append_new(runs, run_json(plan, &plan->runs[i]));
    for (size_t i = 0; i < plan->n_ranges; i++)
        json_array_append_new(ranges, range_json(&plan->ranges[i]));
    for (size_t i = 0; i < plan->n_vcpus; i++)
        json_array_append_new(vcpus, vcpu_json(&plan->vcpus[i]));
    if (digest)
        json_object_set_new(root, "launch_digest", json_string(digest));
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (!text)
        return error_set(err, -ENOMEM, "out of memory while writing the plan");
    puts(text);
    free(text);
    return 0;
}

int dry_run(const struct vm_config *config, bool json, struct error *err)
{
    _cleanup_(plan_release) struct plan plan = PLAN_INIT;
    uint8_t digest[SHA384_BYTES];
    char hex[HEX_384_TEXT];
    int ret = machine_plan(&plan, config, err);
    bool measured = plan.platform == PLAN_SEV_SNP;
    if (ret == 0 && measured) {
        struct digest_options options = {.vmm = LAUNCH_HUSK};
        ret = plan_launch_digest(&plan, &options, digest, err);
    }
    if (ret < 0)
        return ret;
    const char *text = measured ? hex_text(digest, (size_t)ret, hex) : NULL;
    bool sw_protected = config->platform.sw_protected;
    ret = json ? print_json(&plan, sw_protected, text, err) : print_text(&plan, sw_protected, text);
    if (ret == 0 && (fflush(stdout) || ferror(stdout)))
        return error_set(err, -EIO, "could not write the plan");
    return ret;
}
