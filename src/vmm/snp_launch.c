/* The launch: the plan in memory, imported run by run and measured by the secure processor. */
#include "vmm/snp.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/hex.h"
#include "base/log.h"
#include "igvm/igvm.h"
#include "kvm/snp.h"
#include "launch/digest_sink.h"
#include "launch/loaded_plan.h"
#include "snp/cpuid_page.h"
#include "snp/id_block.h"
#include "snp/status.h"
#include "vmm/snp_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* So often in a row an import may do nothing and ask to be tried again. */
#define TRIES_MAX 1000

struct launch {
    const struct snp_launch_in *in;
    struct kvm_snp snp;
    struct plan loaded;
    uint64_t imported; /* bytes */
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void *place(void *opaque, uint64_t gpa, uint64_t *len)
{
    return memory_load_ptr(opaque, gpa, len);
}

/** predict() - the digest that the firmware will have, from what lies in memory. */
static int predict(struct snp_host *host, const struct launch *launch, struct error *err)
{
    const struct digest_options options = {.vmm = LAUNCH_HUSK};
    const struct plan *plan = launch->in->plan;
    uint8_t digest[SHA384_BYTES];
    char text[2 * SHA384_BYTES + 1], other[2 * SHA384_BYTES + 1];
    int ret = plan_launch_digest(&launch->loaded, &options, digest, err);
    if (ret < 0)
        return ret;
    if (host->launched && memcmp(host->digest, digest, sizeof(digest)) != 0)
        return error_set(err, -EIO,
                         "the guest would not be the one that was launched before: its files have "
                         "changed, and with them the launch digest from %s to %s",
                         hex_text(host->digest, sizeof(digest), other),
                         hex_text(digest, sizeof(digest), text));
    memcpy(host->digest, digest, sizeof(digest));
    host->launched = true;
    if (!plan->id_block)
        return 0;
    const struct snp_id_block *block = (const struct snp_id_block *)plan->id_block;
    if (memcmp(block->ld, digest, sizeof(digest)) == 0)
        return 0;
    error_set(err, -EINVAL, "the ID block is for launch digest %s, and this launch has %s",
              hex_text(block->ld, sizeof(digest), other), hex_text(digest, sizeof(digest), text));
    bool hashes = false;
    for (size_t i = 0; i < plan->n_runs; i++)
        hashes |= strcmp(plan->runs[i].origin, "kernel hashes") == 0;
    return error_hint(
        err, hashes ? "the page with the kernel's hashes is part of it: kernel, initramfs and "
                      "cmdline must be those that it was made with; `husk measure --compare` "
                      "finds the page"
                    : "`husk measure --compare` finds the page in which two launches differ");
}

/** place_cpuid() - fill the CPUID pages of the plan, where they are loaded from. */
static void place_cpuid(const struct launch *launch)
{
    for (size_t i = 0; i < launch->loaded.n_runs; i++) {
        const struct plan_run *run = &launch->loaded.runs[i];
        for (uint64_t at = 0; run->type == PLAN_PAGE_CPUID && at < run->len; at += PAGE_BYTES) {
            unsigned left_out =
                snp_cpuid_fill((struct snp_cpuid_page *)(run->bytes + at), launch->in->cpuid);
            if (left_out)
                log_warn(
                    "the guest's CPUID page has no room for %u functions, which nothing needs to "
                    "start",
                    left_out);
        }
    }
}

static enum snp_page_type firmware_type(enum plan_page_type type)
{
    static const enum snp_page_type types[] = {
        [PLAN_PAGE_NORMAL] = SNP_PAGE_NORMAL,         [PLAN_PAGE_ZERO] = SNP_PAGE_ZERO,
        [PLAN_PAGE_UNMEASURED] = SNP_PAGE_UNMEASURED, [PLAN_PAGE_SECRETS] = SNP_PAGE_SECRETS,
        [PLAN_PAGE_CPUID] = SNP_PAGE_CPUID,
    };
    return types[type];
}

/** describe_page() - "the NORMAL page at 0x1000 (firmware, header 7)" */
static void describe_page(const struct launch *launch, const struct kvm_snp_pages *at, char *text,
                          size_t len)
{
    const struct plan *plan = launch->in->plan;
    size_t used = (size_t)snprintf(text, len, "the %s page at 0x%" PRIx64,
                                   snp_page_type_name((enum snp_page_type)at->type), at->gpa);
    for (size_t i = 0; i < plan->n_runs && used < len; i++) {
        const struct plan_run *run = &plan->runs[i];
        if (run->shared || at->gpa < run->gpa || at->gpa - run->gpa >= run->len)
            continue;
        uint32_t header = plan_run_directive(run, at->gpa - run->gpa);
        if (header)
            snprintf(text + used, len - used, " (%s, IGVM header %" PRIu32 ", %s)", run->origin,
                     header, igvm_type_name(run->directive_type));
        else
            snprintf(text + used, len - used, " (%s)", run->origin);
        return;
    }
}

static void tell_difference(const struct snp_cpuid_entry *entry, const char *reg, uint32_t given,
                            uint32_t wanted, void *opaque)
{
    (void)opaque;
    log_warn("CPUID 0x%" PRIx32 " index %" PRIu32 " %s: 0x%" PRIx32
             " is not what the secure processor allows, which is 0x%" PRIx32,
             entry->eax_in, entry->ecx_in, reg, given, wanted);
}

/** correct_cpuid() - the firmware has put what it allows in place of what it refused. Returns whether to try that. */
static bool correct_cpuid(const struct snp_cpuid_page *given,
                          const struct snp_cpuid_page *corrected)
{
    int n = snp_cpuid_compare(given, corrected, tell_difference, NULL);
    return n > 0;
}

/** import_failed() - say which page it was. */
static int import_failed(const struct launch *launch, const struct kvm_snp_pages *left, int code,
                         struct error *err)
{
    char page[192];
    describe_page(launch, left, page, sizeof(page));
    snp_failed(err, code, launch->snp.status, "SNP_LAUNCH_UPDATE of %s", page);
    if (code == -EIO && launch->snp.status == KVM_SNP_NO_STATUS)
        return error_hint(
            err, "KVM says no more: the page may have been imported before, or the host have no "
                 "memory left for it");
    return code;
}

/** import() - all of @left, in as many calls as KVM wants. */
static int import(struct launch *launch, struct kvm_snp_pages left, struct error *err)
{
    struct snp_cpuid_page given;
    bool cpuid = left.type == SNP_PAGE_CPUID, corrected = false;
    unsigned idle = 0;
    while (left.len) {
        const uint64_t before = left.len;
        if (cpuid)
            memcpy(&given, left.source, sizeof(given));
        int ret = kvm_snp_update(&launch->snp, &left);
        launch->imported += before - left.len;
        idle = left.len < before ? 0 : idle + 1;
        if (idle)
            sched_yield();
        if (ret == 0 || ret == -EAGAIN || ret == -EINTR) {
            if (idle < TRIES_MAX)
                continue;
            ret = ret ? ret : -EPROTO;
        }
        /* An error in the middle shows as success in part; it comes again, at its page. */
        if (left.len < before)
            continue;
        if (cpuid && !corrected && launch->snp.status == SNP_STATUS_INVALID_PARAM &&
            correct_cpuid(&given, left.source)) {
            corrected = true;
            continue;
        }
        /* Without an answer of the firmware it may have been a signal that came. */
        if (ret == -EIO && launch->snp.status == KVM_SNP_NO_STATUS && idle == 1)
            continue;
        return import_failed(launch, &left, ret, err);
    }
    return 0;
}

static int import_all(struct launch *launch, struct error *err)
{
    for (size_t i = 0; i < launch->loaded.n_runs; i++) {
        const struct plan_run *run = &launch->loaded.runs[i];
        struct kvm_snp_pages pages = {
            .gpa = run->gpa,
            .source = run->bytes,
            .len = run->len,
            .type = (uint8_t)firmware_type(run->type),
        };
        int ret = import(launch, pages, err);
        if (ret < 0)
            return ret;
        memory_drop_shared(launch->in->private, run->gpa, run->len);
    }
    return 0;
}

static int finish(struct launch *launch, struct error *err)
{
    const struct plan *plan = launch->in->plan;
    const struct platform_config *platform = &launch->in->config->platform;
    struct kvm_snp_finish told = {
        .id_block = plan->id_block,
        .id_auth = plan->id_auth,
        .author_key = plan->author_key,
        .vcek_disabled = platform->vcek_disabled,
    };
    if (launch->in->config->payload.host_data)
        hex_parse(launch->in->config->payload.host_data, told.host_data, sizeof(told.host_data));
    int ret = kvm_snp_finish(&launch->snp, &told);
    return ret < 0 ? snp_failed(err, ret, launch->snp.status, "SNP_LAUNCH_FINISH") : 0;
}

static int start(struct launch *launch, struct error *err)
{
    const struct platform_config *platform = &launch->in->config->platform;
    uint8_t gosvw[16] = {0};
    if (platform->gosvw)
        hex_parse(platform->gosvw, gosvw, sizeof(gosvw));
    uint64_t policy = launch->in->plan->policy;
    int ret = kvm_snp_start(&launch->snp, policy, gosvw);
    if (ret == 0)
        return 0;
    snp_failed(err, ret, launch->snp.status, "SNP_LAUNCH_START with policy 0x%" PRIx64, policy);
    if (ret == -EINVAL)
        error_hint(
            err,
            "kernels before Linux 6.18 take no policy that forbids SMT (bit 16 clear), asks for a "
            "single socket (bit 20) or has bits above it");
    return ret;
}

static void tell(const struct launch *launch, const struct snp_host *host, const uint64_t at[4])
{
    char policy[24], features[24], pages[24], calls[24], ms[3][24];
    char digest[2 * SHA384_BYTES + 1];
    const struct plan *plan = launch->in->plan;
    const char *host_data = launch->in->config->payload.host_data;
    snprintf(policy, sizeof(policy), "0x%" PRIx64, plan->policy);
    snprintf(features, sizeof(features), "0x%" PRIx64, plan->vmsa_features);
    snprintf(pages, sizeof(pages), "%" PRIu64, launch->imported / PAGE_BYTES);
    snprintf(calls, sizeof(calls), "%zu", launch->loaded.n_runs);
    for (unsigned i = 0; i < 3; i++)
        snprintf(ms[i], sizeof(ms[i]), "%" PRIu64 ".%03" PRIu64, (at[i + 1] - at[i]) / 1000,
                 (at[i + 1] - at[i]) % 1000);
    hex_text(host->digest, sizeof(host->digest), digest);
    event_emit(launch->in->events, "vm", "snp-launched", "digest", digest, "policy", policy,
               "vmsa_features", features, "host_data", host_data ? host_data : "", "pages", pages,
               "runs", calls, "measure_ms", ms[0], "import_ms", ms[1], "finish_ms", ms[2], NULL);
    log_info("SEV-SNP: %s pages in %s runs imported in %s ms; launch digest %s, policy %s", pages,
             calls, ms[1], digest, policy);
}

int snp_launch(struct snp_host *host, const struct snp_launch_in *in, struct error *err)
{
    struct launch launch = {.in = in, .snp = {.vm_fd = in->vm_fd, .sev_fd = host->sev_fd}};
    uint64_t at[4] = {now_us()};
    sigset_t all, before;
    int ret = plan_loaded(&launch.loaded, in->plan, place, (void *)in->memory, err);
    if (ret < 0)
        return ret;
    place_cpuid(&launch);
    ret = predict(host, &launch, err);
    at[1] = now_us();
    /* A signal would end an import half-way, with an error that says nothing. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (ret == 0)
        ret = start(&launch, err);
    if (ret == 0)
        ret = import_all(&launch, err);
    at[2] = now_us();
    if (ret == 0)
        ret = finish(&launch, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    at[3] = now_us();
    if (ret == 0)
        tell(&launch, host, at);
    plan_loaded_release(&launch.loaded);
    return ret < 0 ? error_context(err, "the launch of the SEV-SNP guest") : 0;
}
