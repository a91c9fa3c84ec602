/* The plan of an IGVM file: one pass over the headers of one platform. */
#include "launch/igvm_hashes.h"
#include "launch/igvm_honour.h"
#include "launch/igvm_source.h"
#include "launch/producers.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "snp/id_block.h"
#include "snp/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* Bounds on what one file can ask for; each page costs a hash. */
#define PARAMETERS_MAX GIB(1)
#define MEMORY_MAX GIB(4)
/* File data may serve several pages, but not so often that a small file takes minutes to hash. */
#define REPEATED_MAX MIB(128)

/* A parameter area, and the run it became. */
struct area {
    uint32_t index, header;
    uint64_t bytes;
    size_t run; /* SIZE_MAX until it is inserted */
};

struct reader {
    struct plan *plan;
    const struct launch_options *options;
    const struct igvm_source *source;
    int file; /* of the plan */
    uint32_t mask;
    struct area *areas; /* by index */
    size_t n_areas;
    uint64_t memory, parameters, data; /* bytes so far: of guest memory, of areas, of file data */
    struct igvm_header last_page;      /* that the last run ends with */
    /*
     * For QEMU, which imports a region of pages when it meets the first page that does not belong to it, and areas at
     * once (backends/igvm.c, qigvm_process_mem_page): the region's runs until then.
     */
    struct plan region;
    struct plan_vcpu *vcpus; /* options->vcpus of them */
    bool *has_context;
};

static void warn(const struct launch_options *options, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void warn(const struct launch_options *options, const char *fmt, ...)
{
    if (!options->warn)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    options->warn(text, options->opaque);
}

static const struct {
    IgvmPlatformType type;
    enum plan_platform platform;
} platforms[] = {
    /* The strongest first, as QEMU chooses. */
    {IGVM_PLATFORM_TYPE_SEV_SNP, PLAN_SEV_SNP},
    {IGVM_PLATFORM_TYPE_SEV_ES, PLAN_SEV_ES},
    {IGVM_PLATFORM_TYPE_SEV, PLAN_SEV},
    {IGVM_PLATFORM_TYPE_NATIVE, PLAN_NATIVE},
};

static int header_error(const struct igvm_header *h, struct error *err)
{
    return error_context(err, "header %" PRIu32 " (%s)", h->number, igvm_type_name(h->type));
}

/** check_platform() - whether the platform is one that a guest can be given; its header is no directive. */
static int check_platform(const struct reader *r, struct error *err)
{
    struct igvm_header h;
    for (uint32_t i = 1; r->options->to_run && igvm_file_header(r->source->file, i, &h); i++)
        if (h.type == IGVM_VHT_SUPPORTED_PLATFORM && igvm_header_mask(&h) & r->mask &&
            igvm_honour(&h, r->plan->platform, r->options, err) < 0)
            return header_error(&h, err);
    return 0;
}

static int choose_platform(struct reader *r, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(platforms); i++) {
        if (!r->options->any_platform && r->options->platform != platforms[i].platform &&
            !(r->options->ordinary && platforms[i].platform == PLAN_NATIVE))
            continue;
        r->mask = igvm_file_platform_mask(r->source->file, platforms[i].type);
        if (r->mask) {
            r->plan->platform = platforms[i].platform;
            return check_platform(r, err);
        }
    }
    char has[128] = "";
    for (unsigned type = 0; type <= IGVM_PLATFORM_TYPE_CCA; type++)
        if (igvm_file_platform_mask(r->source->file, (IgvmPlatformType)type))
            snprintf(has + strlen(has), sizeof(has) - strlen(has), "%s%s", has[0] ? ", " : "",
                     igvm_platform_name((IgvmPlatformType)type));
    error_set(err, -EINVAL, "the file is for %s, not for %s", has,
              r->options->any_platform               ? "SEV_SNP, SEV_ES, SEV or NATIVE"
              : r->options->platform == PLAN_SEV_SNP ? "SEV_SNP"
              : r->options->platform == PLAN_SEV_ES  ? "SEV_ES"
              : r->options->platform == PLAN_SEV     ? "SEV"
                                                     : "NATIVE");
    if (r->options->to_run && r->options->platform == PLAN_NATIVE &&
        igvm_file_platform_mask(r->source->file, IGVM_PLATFORM_TYPE_SEV_SNP))
        error_hint(err,
                   "--platform sev_snp=off starts what it has for SEV-SNP as an ordinary guest");
    return -EINVAL;
}

/** account() - @bytes more of guest memory, @from_file or empty. */
static int account(struct reader *r, const struct igvm_header *h, uint64_t bytes, bool from_file,
                   struct error *err)
{
    r->memory += bytes;
    r->data += from_file ? bytes : 0;
    if (r->memory > MEMORY_MAX)
        error_set(err, -E2BIG, "the file fills more than 4 GiB of guest memory");
    else if (r->data > r->source->size + REPEATED_MAX)
        error_set(err, -E2BIG, "pages use the file's data again, more than 128 MiB in all");
    else
        return 0;
    return header_error(h, err);
}

static enum plan_page_type page_type(uint32_t flags, uint16_t data_type, bool has_data)
{
    if (data_type == IGVM_PAGE_DATA_TYPE_SECRETS)
        return PLAN_PAGE_SECRETS;
    if (data_type == IGVM_PAGE_DATA_TYPE_CPUID_DATA || data_type == IGVM_PAGE_DATA_TYPE_CPUID_XF)
        return PLAN_PAGE_CPUID;
    if (flags & 6) /* unmeasured, or shared and so not imported at all */
        return PLAN_PAGE_UNMEASURED;
    return has_data ? PLAN_PAGE_NORMAL : PLAN_PAGE_ZERO;
}

/** page_bytes() - how much of the guest's memory PAGE_DATA @h is for. */
static uint32_t page_bytes(const struct igvm_header *h)
{
    return load_le32(h->payload + 16) & 1 ? (uint32_t)IGVM_X64_LARGE_PAGE_SIZE : PAGE_BYTES;
}

/** same_region() - whether QEMU imports page @h together with the page before it. */
static bool same_region(const struct reader *r, const struct igvm_header *h)
{
    const struct igvm_header *last = &r->last_page;
    if (r->region.n_runs == 0 || last->number + 1 != h->number)
        return false;
    const uint8_t *a = last->payload, *b = h->payload;
    return load_le64(a) + page_bytes(last) == load_le64(b) &&
           load_le32(a + 8) == load_le32(b + 8) && load_le32(a + 16) == load_le32(b + 16) &&
           load_le16(a + 20) == load_le16(b + 20) && !load_le32(a + 12) == !load_le32(b + 12);
}

/** run_before() - the last run of @plan if page @h can be the next of it, else NULL. */
static struct plan_run *run_before(const struct reader *r, const struct plan *plan,
                                   const struct igvm_header *h, bool shared,
                                   enum plan_page_type type, uint32_t file_offset)
{
    if (!plan->runs || plan->n_runs == 0 || r->last_page.number + 1 != h->number ||
        (plan->n_vmsas && plan->vmsas[plan->n_vmsas - 1].position == plan->n_runs))
        return NULL;
    struct plan_run *last = &plan->runs[plan->n_runs - 1];
    if (last->type != type || last->shared != shared || last->header_bytes != page_bytes(h) ||
        last->gpa + last->len != load_le64(h->payload))
        return NULL;
    bool follows = last->source == PLAN_SOURCE_FILE
                       ? file_offset && last->range.offset + last->len == file_offset
                       : file_offset == 0;
    return follows ? last : NULL;
}

static int add_page(struct reader *r, const struct igvm_header *h, struct error *err)
{
    const uint8_t *p = h->payload;
    uint32_t file_offset = load_le32(p + 12), flags = load_le32(p + 16), bytes = page_bytes(h);
    enum plan_page_type type = page_type(flags, load_le16(p + 20), file_offset != 0);
    bool shared = flags & 4;

    if ((type == PLAN_PAGE_SECRETS || type == PLAN_PAGE_CPUID) &&
        r->plan->platform != PLAN_SEV_SNP && r->plan->platform != PLAN_NATIVE) {
        error_set(err, -ENOTSUP, "a secrets or CPUID page exists on SEV-SNP only");
        return header_error(h, err);
    }
    /* The sink fills these; what the file has there is not read. */
    if (type == PLAN_PAGE_SECRETS || type == PLAN_PAGE_CPUID)
        file_offset = 0;
    int result = account(r, h, bytes, file_offset, err);
    bool qemu = r->options->vmm == LAUNCH_QEMU;
    if (result == 0 && qemu && !same_region(r, h))
        result = plan_take_runs(r->plan, &r->region, err);
    if (result < 0)
        return result;
    struct plan *plan = qemu ? &r->region : r->plan;
    struct plan_run *run = run_before(r, plan, h, shared, type, file_offset);
    if (run) {
        run->len += bytes;
    } else {
        run = plan_add_pages(plan, load_le64(p), bytes, type, "IGVM page data", err);
        if (!run)
            return header_error(h, err);
        run->shared = shared;
        run->directive = h->number;
        run->directive_type = h->type;
        run->header_bytes = bytes;
        if (file_offset) {
            run->source = PLAN_SOURCE_FILE;
            run->range.file = (unsigned)r->file;
            run->range.offset = file_offset;
        }
    }
    r->last_page = *h;
    return 0;
}

static int compare_areas(const void *a, const void *b)
{
    const struct area *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int collect_areas(struct reader *r, struct error *err)
{
    struct igvm_header h = {0};
    size_t n = 0;
    while (igvm_next(r->source->file, r->mask, &h))
        n += h.type == IGVM_VHT_PARAMETER_AREA;
    r->areas = calloc(n + 1, sizeof(*r->areas));
    if (!r->areas)
        return error_set(err, -ENOMEM, "out of memory while reading parameter areas");
    h = (struct igvm_header){0};
    while (igvm_next(r->source->file, r->mask, &h))
        if (h.type == IGVM_VHT_PARAMETER_AREA)
            r->areas[r->n_areas++] = (struct area){.index = load_le32(h.payload + 8),
                                                   .header = h.number,
                                                   .bytes = load_le64(h.payload),
                                                   .run = SIZE_MAX};
    qsort(r->areas, r->n_areas, sizeof(*r->areas), compare_areas);
    return 0;
}

static struct area *find_area(const struct reader *r, uint32_t index)
{
    const struct area key = {.index = index};
    return bsearch(&key, r->areas, r->n_areas, sizeof(key), compare_areas);
}

static int insert_area(struct reader *r, const struct igvm_header *h, struct error *err)
{
    struct area *area = find_area(r, load_le32(h->payload + 12));
    struct igvm_header declared;
    if (!area || !igvm_file_header(r->source->file, area->header, &declared))
        return error_set(err, -EINVAL, "header %" PRIu32 " inserts an unknown area", h->number);
    uint32_t file_offset = load_le32(declared.payload + 12);
    r->parameters += area->bytes;
    if (r->parameters > PARAMETERS_MAX) {
        error_set(err, -E2BIG, "the file's parameter areas have more than 1 GiB");
        return header_error(h, err);
    }
    int result = account(r, h, area->bytes, file_offset, err);
    if (result < 0)
        return result;
    struct plan_run *run = plan_add_pages(r->plan, load_le64(h->payload), area->bytes,
                                          PLAN_PAGE_UNMEASURED, "IGVM parameter area", err);
    if (!run)
        return header_error(h, err);
    run->directive = h->number;
    run->directive_type = h->type;
    if (file_offset) {
        run->source = PLAN_SOURCE_FILE;
        run->range.file = (unsigned)r->file;
        run->range.offset = file_offset;
    }
    area->run = r->plan->n_runs - 1;
    return 0;
}

/** keep_features() - SEV_FEATURES are one value for the whole guest. */
static void keep_features(struct reader *r, const struct igvm_header *h, uint64_t features)
{
    if (r->options->ordinary)
        return;
    if (r->plan->platform == PLAN_SEV_SNP && !(features & SEV_FEATURE_SNP_ACTIVE))
        warn(r->options,
             "header %" PRIu32 ": SEV_FEATURES 0x%" PRIx64 " lack SNP_ACTIVE, which KVM adds",
             h->number, features);
    if (r->plan->platform == PLAN_SEV_SNP)
        features |= SEV_FEATURE_SNP_ACTIVE;
    if (r->plan->n_vmsas > 1 && r->plan->vmsa_features != features)
        warn(r->options,
             "header %" PRIu32 ": SEV_FEATURES 0x%" PRIx64 " differ from 0x%" PRIx64
             " of the first context, which all processors get",
             h->number, features, r->plan->vmsa_features);
    else
        r->plan->vmsa_features = features;
}

static int add_vmsa(struct reader *r, const struct igvm_header *h, const uint8_t *data,
                    struct error *err)
{
    struct vmsa vmsa;
    memcpy(&vmsa, data, sizeof(vmsa));
    uint32_t index = load_le16(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, vp_index));
    struct plan_vmsa added = {.vcpu = index,
                              .directive = h->number,
                              .gpa = load_le64(h->payload),
                              .file = (unsigned)r->file,
                              .offset = (uint64_t)(data - r->source->bytes)};
    int result = plan_add_vmsa(r->plan, &added, err);
    if (result < 0)
        return result;
    keep_features(r, h, le64toh(vmsa.sev_features));
    if (index >= r->options->vcpus)
        return 0;
    vcpu_from_vmsa(&r->vcpus[index], index, &vmsa);
    r->has_context[index] = true;
    if (r->options->vmm == LAUNCH_FILE || r->options->ordinary)
        return 0;
    struct vmsa built;
    vcpu_to_vmsa(&built, &r->vcpus[index], r->plan->vmsa_features, r->options->vmm);
    const char *field = vmsa_difference(&built, &vmsa);
    if (field)
        warn(r->options,
             "header %" PRIu32 ": KVM will measure another VMSA for vCPU %" PRIu32
             " than the file has (%s differs); the digest is the one KVM will produce",
             h->number, index, field);
    if (r->plan->platform == PLAN_SEV_SNP && added.gpa != VMSA_GPA)
        warn(r->options,
             "header %" PRIu32 ": KVM measures VMSAs at 0x%llx, the file has 0x%" PRIx64
             "; the digest is the one KVM will produce",
             h->number, VMSA_GPA, added.gpa);
    return 0;
}

static int add_context(struct reader *r, const struct igvm_header *h, struct error *err)
{
    uint64_t len;
    const uint8_t *data = igvm_file_data(r->source->file, h, &len);
    if (!data || len != PAGE_BYTES) {
        error_set(err, -EINVAL, "its context is not a page");
        return header_error(h, err);
    }
    if (r->plan->platform == PLAN_SEV_SNP || r->plan->platform == PLAN_SEV_ES)
        return add_vmsa(r, h, data, err);
    uint32_t index = load_le16(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, vp_index));
    IgvmNativeVpContextX64 context;
    memcpy(&context, data, sizeof(context));
    if (index < r->options->vcpus) {
        vcpu_from_native(&r->vcpus[index], index, &context);
        r->has_context[index] = true;
    }
    return 0;
}

static int add_id_block(struct reader *r, const struct igvm_header *h, struct error *err)
{
    IGVM_VHS_SNP_ID_BLOCK in;
    memcpy(&in, h->payload, sizeof(in));
    struct snp_id_block block = {.version = htole32(1), .guest_svn = in.guest_svn};
    memcpy(block.ld, in.ld, sizeof(block.ld));
    memcpy(block.family_id, in.family_id, sizeof(block.family_id));
    memcpy(block.image_id, in.image_id, sizeof(block.image_id));
    block.policy = htole64(r->plan->policy);
    _cleanup_free_ struct snp_id_auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return error_set(err, -ENOMEM, "out of memory while reading the ID block");
    auth->id_key_algorithm = in.id_key_algorithm;
    auth->author_key_algorithm = in.author_key_algorithm;
    memcpy(&auth->id_block_signature, &in.id_key_signature, sizeof(in.id_key_signature));
    memcpy(&auth->id_key_signature, &in.author_key_signature, sizeof(in.author_key_signature));
    /* The file's key has four reserved bytes behind the curve, the firmware's has not. */
    auth->id_key.curve = in.id_public_key.curve;
    memcpy(auth->id_key.qx, in.id_public_key.qx, SNP_KEY_COMPONENT);
    memcpy(auth->id_key.qy, in.id_public_key.qy, SNP_KEY_COMPONENT);
    if (in.author_key_enabled) {
        auth->author_key.curve = in.author_public_key.curve;
        memcpy(auth->author_key.qx, in.author_public_key.qx, SNP_KEY_COMPONENT);
        memcpy(auth->author_key.qy, in.author_public_key.qy, SNP_KEY_COMPONENT);
    }
    return plan_set_id_block(r->plan, &block, auth, in.author_key_enabled, err);
}

static int add_header(struct reader *r, const struct igvm_header *h, struct error *err)
{
    const uint8_t *p = h->payload;
    if (r->options->to_run && igvm_honour(h, r->plan->platform, r->options, err) < 0)
        return header_error(h, err);
    switch (h->type) {
    case IGVM_VHT_GUEST_POLICY: {
        struct error bad = ERROR_INIT;
        r->plan->policy = load_le64(p);
        if (r->plan->platform == PLAN_SEV_SNP && snp_policy_check(r->plan->policy, &bad) < 0)
            warn(r->options, "header %" PRIu32 ": %s", h->number, bad.message);
        return 0;
    }
    case IGVM_VHT_PAGE_DATA:
        return add_page(r, h, err);
    case IGVM_VHT_PARAMETER_INSERT:
        return insert_area(r, h, err);
    case IGVM_VHT_VP_CONTEXT:
        return add_context(r, h, err);
    case IGVM_VHT_REQUIRED_MEMORY:
    case IGVM_VHT_ERROR_RANGE: {
        struct plan_range range = {.gpa = load_le64(p),
                                   .len = load_le32(p + 12),
                                   .shared = h->type == IGVM_VHT_ERROR_RANGE,
                                   .directive = h->number,
                                   .directive_type = h->type};
        return plan_add_range(r->plan, &range, err);
    }
    case IGVM_VHT_SNP_ID_BLOCK:
        return r->plan->platform == PLAN_SEV_SNP ? add_id_block(r, h, err) : 0;
    default:
        return 0; /* parameters come when their areas have become runs; the rest asks nothing of us */
    }
}

/** add_parameters() - what is to be written into the areas that were inserted. */
static int add_parameters(struct reader *r, struct error *err)
{
    struct igvm_header h = {0};
    while (igvm_next(r->source->file, r->mask, &h)) {
        if (igvm_type_size(h.type) != sizeof(IGVM_VHS_PARAMETER))
            continue;
        const struct area *area = find_area(r, load_le32(h.payload));
        if (!area || area->run == SIZE_MAX)
            continue;
        struct plan_parameter parameter = {.run = area->run,
                                           .type = h.type,
                                           .offset = load_le32(h.payload + 4),
                                           .directive = h.number};
        int result = plan_add_parameter(r->plan, &parameter, err);
        if (result < 0)
            return result;
    }
    return 0;
}

/** add_vcpus() - in the order of their numbers; those without a context keep KVM's reset state. */
static int add_vcpus(struct reader *r, struct error *err)
{
    const struct launch_options *o = r->options;
    uint32_t without = 0;
    for (uint32_t i = 0; i < o->vcpus; i++) {
        if (!r->has_context[i]) {
            without++;
            vcpu_firmware_reset(&r->vcpus[i], i, 0xfffffff0,
                                o->has_signature ? o->cpu_signature : 0x600, o->vmm);
            r->vcpus[i].waits_for_sipi = i > 0;
        }
        int result = plan_add_vcpu(r->plan, &r->vcpus[i], err);
        if (result < 0)
            return result;
    }
    if (without && o->vmm != LAUNCH_FILE && r->plan->platform != PLAN_SEV)
        warn(o,
             "%" PRIu32 " of %" PRIu32 " vCPUs have no context in the file: they keep the reset "
             "state",
             without, o->vcpus);
    for (size_t i = 0; o->vmm != LAUNCH_FILE && i < r->plan->n_vmsas; i++)
        if (r->plan->vmsas[i].vcpu >= o->vcpus) {
            warn(o,
                 "the file has contexts for vCPUs that are not there: header %" PRIu32
                 " is for vCPU %" PRIu32 ", the guest has %" PRIu32,
                 r->plan->vmsas[i].directive, r->plan->vmsas[i].vcpu, o->vcpus);
            break;
        }
    return 0;
}

/** place_hashes() - as husk does it; other VMMs leave the file's pages as they are. */
static int place_hashes(const struct reader *r, struct error *err)
{
    const struct launch_options *o = r->options;
    uint64_t gpa = o->hashes_gpa;
    int place = HASHES_NO_PLACE;
    if (!o->hashes)
        return 0;
    if (o->vmm == LAUNCH_HUSK)
        place = plan_place_hashes(r->plan, o->hashes, &gpa, o->hashes_replace, err);
    if (place == HASHES_NO_PLACE && !o->ordinary && o->to_run) {
        error_set(err, -EINVAL,
                  "it has no firmware that names a place for hashes of the kernel, which would not "
                  "be measured");
        return error_hint(
            err,
            "say where it looks for them, --platform kernel_hashes=<address>, or that nobody does, "
            "kernel_hashes=off");
    }
    if (place == HASHES_NO_PLACE && !o->ordinary)
        warn(o, "--kernel does not enter the digest: %s",
             o->vmm == LAUNCH_HUSK ? "the file has no firmware that names a place for its hashes"
                                   : "this VMM leaves the file's pages as they are");
    /* Such firmware stops without a word. */
    if (place == HASHES_OTHER)
        warn(o,
             "the kernel hashes at 0x%" PRIx64
             " are not those of --kernel, --initramfs and --cmdline: the firmware will refuse "
             "what it is handed",
             gpa);
    return place < 0 ? place : 0;
}

static int read_plan(struct reader *r, struct error *err)
{
    if (r->plan->platform == PLAN_SEV_SNP) { /* if the file says nothing */
        r->plan->policy = SNP_POLICY_DEFAULT;
        r->plan->vmsa_features = SEV_FEATURE_SNP_ACTIVE;
    }
    r->vcpus = calloc(r->options->vcpus + 1, sizeof(*r->vcpus));
    r->has_context = calloc(r->options->vcpus + 1, sizeof(*r->has_context));
    if (!r->vcpus || !r->has_context)
        return error_set(err, -ENOMEM, "out of memory for %" PRIu32 " vCPUs", r->options->vcpus);
    int result = collect_areas(r, err);
    struct igvm_header h = {0};
    while (result == 0 && igvm_next(r->source->file, r->mask, &h))
        result = add_header(r, &h, err);
    if (result == 0)
        result = plan_take_runs(r->plan, &r->region, err);
    if (result == 0)
        result = add_parameters(r, err);
    if (result == 0)
        result = place_hashes(r, err);
    if (result == 0)
        result = add_vcpus(r, err);
    if (r->plan->id_block) /* the policy may follow from a header behind it */
        store_le64(r->plan->id_block + offsetof(struct snp_id_block, policy), r->plan->policy);
    return result;
}

int plan_from_igvm(struct plan *plan, const char *path, const struct launch_options *options,
                   struct error *err)
{
    _cleanup_(igvm_source_release) struct igvm_source source = IGVM_SOURCE_INIT;
    if (options->vmm == LAUNCH_EC2 || options->vmm == LAUNCH_GCE)
        return error_set(err, -EINVAL, "--vmm %s starts guests from firmware, not from IGVM files",
                         launch_vmm_name(options->vmm));
    int result = igvm_source_open(&source, path, NULL, NULL, err);
    if (result < 0)
        return result;
    struct reader r = {.plan = plan, .options = options, .source = &source};
    result = choose_platform(&r, err);
    if (result == 0) {
        r.file = plan_add_file(plan, take_fd(&source.fd), source.size, path, err);
        result = r.file < 0 ? r.file : read_plan(&r, err);
    }
    plan_release(&r.region);
    free(r.areas);
    free(r.vcpus);
    free(r.has_context);
    return result < 0 ? error_context(err, "%s", path) : 0;
}
