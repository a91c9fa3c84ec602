/*
 * Page digests do not depend on each other, only the chain over them does. So pages go in batches to threads that
 * read and hash them, while this thread takes the batches back in order and extends the chain.
 */
#include "launch/digest_sink.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>

#define BATCH_PAGES 128u
#define BATCH_BYTES ((size_t)BATCH_PAGES * PAGE_BYTES)
#define THREADS_MAX 16u
#define BATCHES_MAX (2 * THREADS_MAX)
/* Plans with fewer pages than this are hashed sooner than threads have started, shorter runs sooner than handed over. */
#define PARALLEL_PAGES 512u
#define PARALLEL_RUN_PAGES 8u

/* Consecutive pages of one run. */
struct batch {
    const struct plan_run *run;
    uint64_t offset; /* in the run */
    uint32_t pages;
    bool queued, done;
    int result;
    uint8_t digests[BATCH_PAGES][SHA384_BYTES];
};

struct sink {
    const struct plan *plan;
    const struct digest_options *options;
    struct crypto_hash *hash; /* of the chain */
    uint8_t *digest;
    uint8_t zero_page[SHA384_BYTES];
    struct error *err;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *ring;
    unsigned n_ring;
    uint64_t next_to_hash, next_to_queue, next_to_chain; /* batches, counted through */
    bool stop;
};

/** run_bytes() - @len bytes of @run from @offset on, into @out; what the run does not have is zero. */
static int run_bytes(const struct plan *plan, const struct plan_run *run, uint64_t offset,
                     uint8_t *out, size_t len)
{
    size_t has = offset < run->len ? (size_t)MIN(run->len - offset, len) : 0;
    memset(out + has, 0, len - has);
    switch (run->source) {
    case PLAN_SOURCE_BYTES:
        memcpy(out, run->bytes + offset, has);
        return 0;
    case PLAN_SOURCE_FILE:
        return fd_pread_full(plan->files[run->range.file].fd, out, has, run->range.offset + offset);
    default:
        memset(out, 0, has);
        return 0;
    }
}

static void hash_batch(const struct plan *plan, struct crypto_hash *hash, uint8_t *buffer,
                       struct batch *batch)
{
    batch->result =
        run_bytes(plan, batch->run, batch->offset, buffer, (size_t)batch->pages * PAGE_BYTES);
    for (uint32_t i = 0; i < batch->pages && batch->result == 0; i++)
        batch->result =
            crypto_digest(hash, buffer + (size_t)i * PAGE_BYTES, PAGE_BYTES, batch->digests[i]);
}

static void *worker(void *opaque)
{
    struct sink *s = opaque;
    struct crypto_hash *hash = crypto_hash_new(CRYPTO_SHA384);
    uint8_t *buffer = malloc(BATCH_BYTES);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        struct batch *batch = &s->ring[s->next_to_hash % s->n_ring];
        if (s->next_to_hash == s->next_to_queue || !batch->queued) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        s->next_to_hash++;
        pthread_mutex_unlock(&s->lock);
        batch->result = -ENOMEM;
        if (hash && buffer)
            hash_batch(s->plan, hash, buffer, batch);
        pthread_mutex_lock(&s->lock);
        batch->done = true;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    crypto_hash_free(hash);
    free(buffer);
    return NULL;
}

/** extend() - one page more in the chain. */
static int extend(struct sink *s, const struct digest_step *step)
{
    int r = snp_digest_extend(s->hash, s->digest, step->type, step->gpa, step->contents);
    if (r < 0)
        return error_set(s->err, -EIO, "libcrypto could not hash");
    if (s->options->step) {
        struct digest_step told = *step;
        told.digest = s->digest;
        s->options->step(&told, s->options->opaque);
    }
    return 0;
}

static int chain_batch(struct sink *s, const struct batch *batch)
{
    const struct plan_run *run = batch->run;
    if (batch->result < 0)
        return error_set_errno(s->err, batch->result == -ENODATA ? -EIO : batch->result,
                               "could not read %s for 0x%" PRIx64, run->origin,
                               run->gpa + batch->offset);
    for (uint32_t i = 0; i < batch->pages; i++) {
        struct digest_step step = {
            .type = SNP_PAGE_NORMAL,
            .gpa = run->gpa + batch->offset + (uint64_t)i * PAGE_BYTES,
            .contents = batch->digests[i],
            .origin = run->origin,
            .directive = plan_run_directive(run, batch->offset + (uint64_t)i * PAGE_BYTES)};
        int r = extend(s, &step);
        if (r < 0)
            return r;
    }
    return 0;
}

/** chain_oldest() - wait for the batch queued first, and chain it. Call with the lock held; it is, after. */
static int chain_oldest(struct sink *s)
{
    struct batch *batch = &s->ring[s->next_to_chain % s->n_ring];
    while (!batch->done)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    int r = chain_batch(s, batch);
    pthread_mutex_lock(&s->lock);
    batch->queued = batch->done = false;
    s->next_to_chain++;
    return r;
}

static int drain(struct sink *s)
{
    if (s->n_ring == 0)
        return 0;
    int r = 0;
    pthread_mutex_lock(&s->lock);
    while (r == 0 && s->next_to_chain != s->next_to_queue)
        r = chain_oldest(s);
    pthread_mutex_unlock(&s->lock);
    return r;
}

static int queue_batch(struct sink *s, const struct plan_run *run, uint64_t offset, uint32_t pages)
{
    int r = 0;
    pthread_mutex_lock(&s->lock);
    if (s->next_to_queue - s->next_to_chain == s->n_ring)
        r = chain_oldest(s);
    struct batch *batch = &s->ring[s->next_to_queue % s->n_ring];
    batch->run = run;
    batch->offset = offset;
    batch->pages = pages;
    batch->queued = true;
    s->next_to_queue++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return r;
}

static uint64_t run_pages(const struct plan_run *run)
{
    return (run->len + PAGE_BYTES - 1) / PAGE_BYTES;
}

static int add_normal_run(struct sink *s, const struct plan_run *run, struct batch *own,
                          uint8_t *buffer)
{
    uint64_t n = run_pages(run);
    for (uint64_t page = 0; page < n;) {
        uint32_t pages = (uint32_t)MIN(n - page, BATCH_PAGES);
        int r;
        if (s->n_ring) {
            r = queue_batch(s, run, page * PAGE_BYTES, pages);
        } else {
            *own = (struct batch){.run = run, .offset = page * PAGE_BYTES, .pages = pages};
            hash_batch(s->plan, s->hash, buffer, own);
            r = chain_batch(s, own);
        }
        if (r < 0)
            return r;
        page += pages;
    }
    return 0;
}

static enum snp_page_type snp_type(enum plan_page_type type)
{
    switch (type) {
    case PLAN_PAGE_NORMAL:
        return SNP_PAGE_NORMAL;
    case PLAN_PAGE_ZERO:
        return SNP_PAGE_ZERO;
    case PLAN_PAGE_UNMEASURED:
        return SNP_PAGE_UNMEASURED;
    case PLAN_PAGE_SECRETS:
        return SNP_PAGE_SECRETS;
    case PLAN_PAGE_CPUID:
        return SNP_PAGE_CPUID;
    }
    return SNP_PAGE_NORMAL;
}

static int add_run(struct sink *s, const struct plan_run *run, struct batch *own, uint8_t *buffer)
{
    if (run->shared)
        return 0;
    if (run->type == PLAN_PAGE_NORMAL)
        return add_normal_run(s, run, own, buffer);
    int r = drain(s);
    struct digest_step step = {.type = snp_type(run->type), .origin = run->origin};
    if (run->type == PLAN_PAGE_ZERO && s->options->zero_as_normal) {
        step.type = SNP_PAGE_NORMAL;
        step.contents = s->zero_page;
    }
    uint64_t n = run_pages(run);
    for (uint64_t page = 0; page < n && r == 0; page++) {
        step.gpa = run->gpa + page * PAGE_BYTES;
        step.directive = plan_run_directive(run, page * PAGE_BYTES);
        r = extend(s, &step);
    }
    return r;
}

static int read_vmsa(const struct plan *plan, const struct plan_vmsa *from, struct vmsa *vmsa,
                     struct error *err)
{
    int r = fd_pread_full(plan->files[from->file].fd, vmsa, sizeof(*vmsa), from->offset);
    return r < 0 ? error_set_errno(err, r == -ENODATA ? -EIO : r,
                                   "could not read the context of vCPU %" PRIu32, from->vcpu)
                 : 0;
}

static int add_vmsa(struct sink *s, const struct vmsa *vmsa, uint64_t gpa, uint32_t vcpu,
                    uint32_t directive)
{
    int r = drain(s);
    uint8_t contents[SHA384_BYTES];
    if (r == 0 && crypto_digest(s->hash, vmsa, sizeof(*vmsa), contents) < 0)
        return error_set(s->err, -EIO, "libcrypto could not hash a VMSA");
    struct digest_step step = {.type = SNP_PAGE_VMSA,
                               .gpa = gpa,
                               .contents = contents,
                               .origin = "VMSA",
                               .directive = directive,
                               .vmsa = true,
                               .vcpu = vcpu};
    return r < 0 ? r : extend(s, &step);
}

/** measure_snp() - all runs, and VMSAs either where a file has them or at the end, as KVM does. */
static int measure_snp(struct sink *s, struct batch *own, uint8_t *buffer)
{
    const struct plan *plan = s->plan;
    bool as_written = s->options->vmm == LAUNCH_FILE;
    size_t v = 0;
    for (size_t i = 0; i <= plan->n_runs; i++) {
        for (; as_written && v < plan->n_vmsas && plan->vmsas[v].position == i; v++) {
            const struct plan_vmsa *vmsa = &plan->vmsas[v];
            struct vmsa page;
            int r = read_vmsa(plan, vmsa, &page, s->err);
            if (r == 0)
                r = add_vmsa(s, &page, vmsa->gpa, vmsa->vcpu, vmsa->directive);
            if (r < 0)
                return r;
        }
        int r = i < plan->n_runs ? add_run(s, &plan->runs[i], own, buffer) : drain(s);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; !as_written && i < plan->n_vcpus; i++) {
        struct vmsa vmsa;
        vcpu_to_vmsa(&vmsa, &plan->vcpus[i], plan->vmsa_features, s->options->vmm);
        int r = add_vmsa(s, &vmsa, VMSA_GPA, plan->vcpus[i].index, 0);
        if (r < 0)
            return r;
    }
    return 0;
}

static unsigned count_threads(const struct plan *plan, const struct digest_options *options)
{
    uint64_t pages = 0, runs = 0;
    for (size_t i = 0; i < plan->n_runs; i++) {
        if (plan->runs[i].type != PLAN_PAGE_NORMAL)
            continue;
        pages += run_pages(&plan->runs[i]);
        runs++;
    }
    unsigned threads = options->threads;
    if (threads == 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    }
    if (pages < PARALLEL_PAGES || pages < runs * PARALLEL_RUN_PAGES || threads < 2)
        return 0;
    return MIN(threads, THREADS_MAX);
}

static int measure_snp_threaded(struct sink *s)
{
    _cleanup_free_ struct batch *own = calloc(1, sizeof(*own));
    _cleanup_free_ uint8_t *buffer = malloc(BATCH_BYTES);
    unsigned wanted = count_threads(s->plan, s->options), started = 0;
    _cleanup_free_ struct batch *ring = wanted ? calloc(wanted, 2 * sizeof(*ring)) : NULL;
    if (!own || !buffer)
        return error_set(s->err, -ENOMEM, "out of memory while measuring");
    pthread_t threads[THREADS_MAX];
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->ring = ring;
    s->n_ring = ring ? 2 * wanted : 0;
    while (ring && started < wanted && pthread_create(&threads[started], NULL, worker, s) == 0)
        started++;
    if (started == 0)
        s->n_ring = 0;
    int r = measure_snp(s, own, buffer);
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    return r;
}

/** add_sev_run() - what LAUNCH_UPDATE_DATA encrypts: pages with contents, and empty ones. */
static int add_sev_run(struct sink *s, const struct plan_run *run, uint8_t *buffer)
{
    if (run->shared || (run->type != PLAN_PAGE_NORMAL && run->type != PLAN_PAGE_ZERO))
        return 0;
    int r = 0;
    for (uint64_t at = 0; at < run->len && r == 0; at += BATCH_BYTES) {
        size_t len = (size_t)MIN(run->len - at, BATCH_BYTES);
        r = run_bytes(s->plan, run, at, buffer, len);
        if (r < 0)
            return error_set_errno(s->err, r == -ENODATA ? -EIO : r, "could not read %s",
                                   run->origin);
        r = crypto_hash_add(s->hash, buffer, len);
    }
    return r;
}

/** measure_sev() - SHA-256 over all that is encrypted, VMSAs as in measure_snp() (SEV API, 6.2 and 6.3). */
static int measure_sev(struct sink *s)
{
    const struct plan *plan = s->plan;
    bool as_written = s->options->vmm == LAUNCH_FILE;
    _cleanup_free_ uint8_t *buffer = malloc(BATCH_BYTES);
    if (!buffer || crypto_hash_start(s->hash) < 0)
        return error_set(s->err, -ENOMEM, "out of memory while measuring");
    int r = 0;
    size_t v = 0;
    for (size_t i = 0; i <= plan->n_runs && r == 0; i++) {
        for (; as_written && v < plan->n_vmsas && plan->vmsas[v].position == i && r == 0; v++) {
            r = read_vmsa(plan, &plan->vmsas[v], (struct vmsa *)buffer, s->err);
            if (r == 0)
                r = crypto_hash_add(s->hash, buffer, PAGE_BYTES);
        }
        if (r == 0 && i < plan->n_runs)
            r = add_sev_run(s, &plan->runs[i], buffer);
    }
    bool es = plan->platform == PLAN_SEV_ES && !as_written;
    for (size_t i = 0; es && i < plan->n_vcpus && r == 0; i++) {
        struct vmsa vmsa;
        vcpu_to_vmsa(&vmsa, &plan->vcpus[i], plan->vmsa_features, s->options->vmm);
        r = crypto_hash_add(s->hash, &vmsa, sizeof(vmsa));
    }
    return r < 0 ? r : crypto_hash_end(s->hash, s->digest);
}

int plan_launch_digest(const struct plan *plan, const struct digest_options *options,
                       uint8_t digest[SHA384_BYTES], struct error *err)
{
    int r = crypto_load(err);
    if (r < 0)
        return r;
    if (plan->platform == PLAN_NATIVE)
        return error_set(err, -EINVAL, "a guest without isolation is not measured");
    bool snp = plan->platform == PLAN_SEV_SNP;
    struct sink s = {.plan = plan, .options = options, .digest = digest, .err = err};
    s.hash = crypto_hash_new(snp ? CRYPTO_SHA384 : CRYPTO_SHA256);
    if (!s.hash)
        return error_set(err, -ENOMEM, "out of memory while measuring");
    memset(digest, 0, SHA384_BYTES);
    if (snp) {
        static const uint8_t zeros[PAGE_BYTES];
        r = crypto_digest(s.hash, zeros, sizeof(zeros), s.zero_page);
        if (r == 0)
            r = measure_snp_threaded(&s);
    } else {
        r = measure_sev(&s);
    }
    crypto_hash_free(s.hash);
    if (r == -EIO && err && !err->message[0])
        error_set(err, r, "libcrypto could not hash");
    if (r < 0)
        return r;
    return snp ? SHA384_BYTES : SHA256_BYTES;
}
