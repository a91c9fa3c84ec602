/* One pass over the firmware and what its tables ask for; each page becomes a header. */
#include "launch/igvm_build.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "launch/vcpu_vmsa.h"
#include "snp/firmware.h"
#include "snp/kernel_hashes.h"

#include <errno.h>
#include <inttypes.h>

/* The index of the one parameter area. */
#define PARAMETER_AREA 0

struct writer {
    const struct igvm_build *build;
    struct igvm_builder *out;
    struct firmware fw;
    uint32_t snp, es, sev, native; /* masks, 0 for a platform that is not asked for */
    uint32_t all;
};

static const IgvmPlatformType platform_types[] = {
    [PLAN_NATIVE] = IGVM_PLATFORM_TYPE_NATIVE,
    [PLAN_SEV] = IGVM_PLATFORM_TYPE_SEV,
    [PLAN_SEV_ES] = IGVM_PLATFORM_TYPE_SEV_ES,
    [PLAN_SEV_SNP] = IGVM_PLATFORM_TYPE_SEV_SNP,
};

/** add() - one header. */
static int add(struct writer *w, uint32_t type, const void *payload, uint32_t len, const void *data,
               uint32_t data_len, struct error *err)
{
    int64_t r = igvm_builder_add(w->out, type, payload, len, data, data_len);
    if (r > 0)
        return 0;
    return error_set(err, -EFBIG, "the file would be too large (libigvm: %d)", (int)r);
}

static int add_platforms(struct writer *w, struct error *err)
{
    for (size_t i = 0; i < w->build->n_platforms; i++) {
        uint32_t mask = 1u << i;
        enum plan_platform platform = w->build->platforms[i];
        IGVM_VHS_SUPPORTED_PLATFORM header = {.compatibility_mask = mask,
                                              .platform_type = platform_types[platform],
                                              .platform_version = 1};
        int r = add(w, IGVM_VHT_SUPPORTED_PLATFORM, &header, sizeof(header), NULL, 0, err);
        if (r < 0)
            return r;
        w->all |= mask;
        *(platform == PLAN_SEV_SNP  ? &w->snp
          : platform == PLAN_SEV_ES ? &w->es
          : platform == PLAN_SEV    ? &w->sev
                                    : &w->native) |= mask;
    }
    if (!w->snp)
        return 0;
    IGVM_VHS_GUEST_POLICY policy = {0};
    policy.policy = w->build->policy;
    policy.compatibility_mask = w->snp;
    return add(w, IGVM_VHT_GUEST_POLICY, &policy, sizeof(policy), NULL, 0, err);
}

/** add_pages() - @len bytes at @gpa; @data NULL for empty pages. */
static int add_pages(struct writer *w, uint64_t gpa, uint64_t len, uint32_t mask,
                     IgvmPageDataType type, const uint8_t *data, struct error *err)
{
    for (uint64_t at = 0; at < len && mask; at += PAGE_BYTES) {
        IGVM_VHS_PAGE_DATA page = {.gpa = gpa + at, .compatibility_mask = mask, .data_type = type};
        int r = add(w, IGVM_VHT_PAGE_DATA, &page, sizeof(page), data ? data + at : NULL,
                    data ? PAGE_BYTES : 0, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/** add_parameters() - the area that the firmware reads memory map and processor count from. */
static int add_parameters(struct writer *w, struct error *err)
{
    const struct firmware *fw = &w->fw;
    IGVM_VHS_PARAMETER_AREA area = {.number_of_bytes = fw->parameter_len,
                                    .parameter_area_index = PARAMETER_AREA};
    IGVM_VHS_PARAMETER map = {PARAMETER_AREA, fw->memory_map_offset};
    IGVM_VHS_PARAMETER count = {PARAMETER_AREA, fw->vp_count_offset};
    IGVM_VHS_PARAMETER_INSERT insert = {.gpa = fw->parameter_gpa,
                                        .compatibility_mask = w->all,
                                        .parameter_area_index = PARAMETER_AREA};
    int r = add(w, IGVM_VHT_PARAMETER_AREA, &area, sizeof(area), NULL, 0, err);
    if (r == 0)
        r = add(w, IGVM_VHT_MEMORY_MAP, &map, sizeof(map), NULL, 0, err);
    if (r == 0)
        r = add(w, IGVM_VHT_VP_COUNT_PARAMETER, &count, sizeof(count), NULL, 0, err);
    if (r == 0)
        r = add(w, IGVM_VHT_PARAMETER_INSERT, &insert, sizeof(insert), NULL, 0, err);
    return r;
}

/** add_range() - empty pages, but where the parameter area lies. */
static int add_range(struct writer *w, uint64_t gpa, uint64_t len, struct error *err)
{
    uint64_t from = w->fw.parameter_gpa, to = from + w->fw.parameter_len, end = gpa + len;
    if (!w->build->host_map || from >= end || to <= gpa)
        return add_pages(w, gpa, len, w->snp, IGVM_PAGE_DATA_TYPE_NORMAL, NULL, err);
    int r = 0;
    if (from > gpa)
        r = add_pages(w, gpa, from - gpa, w->snp, IGVM_PAGE_DATA_TYPE_NORMAL, NULL, err);
    if (r == 0 && to < end)
        r = add_pages(w, to, end - to, w->snp, IGVM_PAGE_DATA_TYPE_NORMAL, NULL, err);
    return r;
}

/** add_hashes() - the kernel-hash page, or an empty one where SEV-SNP has a page for it. */
static int add_hashes(struct writer *w, uint64_t gpa, uint64_t len, struct error *err)
{
    const struct firmware *fw = &w->fw;
    if (!w->build->hashes)
        return add_pages(w, gpa, len, w->snp, IGVM_PAGE_DATA_TYPE_NORMAL, NULL, err);
    if (fw->hashes_gpa < gpa || !range_within(fw->hashes_gpa - gpa, KERNEL_HASHES_BYTES, len))
        return error_set(err, -EINVAL,
                         "the firmware's kernel-hash table at 0x%" PRIx32
                         " does not lie in its page at 0x%" PRIx64,
                         fw->hashes_gpa, gpa);
    _cleanup_free_ uint8_t *page = calloc(1, len);
    if (!page)
        return error_set(err, -ENOMEM, "out of memory for the kernel-hash page");
    memcpy(page + (fw->hashes_gpa - gpa), w->build->hashes, KERNEL_HASHES_BYTES);
    return add_pages(w, gpa, len, w->all, IGVM_PAGE_DATA_TYPE_NORMAL, page, err);
}

static int add_section(struct writer *w, const struct firmware_section *s, struct error *err)
{
    switch (s->type) {
    case FIRMWARE_SECRETS:
        return add_pages(w, s->gpa, s->len, w->snp, IGVM_PAGE_DATA_TYPE_SECRETS, NULL, err);
    case FIRMWARE_CPUID:
        return add_pages(w, s->gpa, s->len, w->snp, IGVM_PAGE_DATA_TYPE_CPUID_DATA, NULL, err);
    case FIRMWARE_KERNEL_HASHES:
        return add_hashes(w, s->gpa, s->len, err);
    default:
        return add_range(w, s->gpa, s->len, err);
    }
}

/** add_sections() - of @type, or of every type (0), in the firmware's order. */
static int add_sections(struct writer *w, uint32_t type, struct error *err)
{
    for (size_t i = 0; i < w->fw.n_sections; i++) {
        if (type && w->fw.sections[i].type != type)
            continue;
        int r = add_section(w, &w->fw.sections[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool has_section(const struct writer *w, uint32_t type)
{
    for (size_t i = 0; i < w->fw.n_sections; i++)
        if (w->fw.sections[i].type == type)
            return true;
    return false;
}

static int add_metadata(struct writer *w, struct error *err)
{
    if (!w->build->buildigvm)
        return add_sections(w, 0, err);
    /* buildigvm knows no kernel-hash page: it is added, behind the rest, only where there are hashes. */
    static const uint32_t order[] = {FIRMWARE_SECRETS, FIRMWARE_SVSM_CAA, FIRMWARE_CPUID,
                                     FIRMWARE_SEC_MEM, FIRMWARE_KERNEL_HASHES};
    size_t n = ARRAY_SIZE(order) - (w->build->hashes ? 0 : 1);
    for (size_t i = 0; i < n; i++) {
        int r = add_sections(w, order[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_vmsa(struct writer *w, const struct plan_vcpu *vcpu, uint32_t mask,
                    uint64_t features, struct error *err)
{
    struct vmsa vmsa;
    vcpu_to_vmsa(&vmsa, vcpu, features, LAUNCH_HUSK);
    IGVM_VHS_VP_CONTEXT header = {
        .gpa = VMSA_GPA, .compatibility_mask = mask, .vp_index = (uint16_t)vcpu->index};
    return mask ? add(w, IGVM_VHT_VP_CONTEXT, &header, IGVM_VHS_VP_CONTEXT_LENGTH, &vmsa,
                      sizeof(vmsa), err)
                : 0;
}

/** add_native() - the boot processor's registers; the others wait for it. */
static int add_native(struct writer *w, const struct plan_vcpu *vcpu, struct error *err)
{
    uint8_t page[PAGE_BYTES] = {0};
    const IgvmNativeVpContextX64 context = {
        .rdx = vcpu->rdx,
        .rip = vcpu->rip,
        .rflags = vcpu->rflags,
        .idtr_limit = (uint16_t)vcpu->idtr.limit,
        .gdtr_limit = (uint16_t)vcpu->gdtr.limit,
        .code_selector = vcpu->cs.selector,
        .code_attributes = vcpu->cs.attributes,
        .code_base = (uint32_t)vcpu->cs.base,
        .code_limit = vcpu->cs.limit,
        .data_attributes = vcpu->ds.attributes,
        .data_limit = vcpu->ds.limit,
        .cr0 = vcpu->cr0,
    };
    memcpy(page, &context, sizeof(context));
    IGVM_VHS_VP_CONTEXT header = {.compatibility_mask = w->sev | w->native};
    return add(w, IGVM_VHT_VP_CONTEXT, &header, IGVM_VHS_VP_CONTEXT_LENGTH, page, sizeof(page),
               err);
}

static int add_contexts(struct writer *w, struct error *err)
{
    const struct igvm_build *b = w->build;
    if (b->vcpus > 1 && (w->snp | w->es) && w->fw.ap_address == 0)
        return error_set(err, -EINVAL,
                         "the firmware does not say where its other processors start, "
                         "so the file can have one context only");
    for (uint32_t i = 0; i < b->vcpus; i++) {
        struct plan_vcpu vcpu;
        vcpu_firmware_reset(&vcpu, i, i ? w->fw.ap_address : FIRMWARE_RESET_VECTOR, b->rdx,
                            LAUNCH_HUSK);
        if (b->buildigvm) /* which leaves the tables without a limit */
            vcpu.gdtr.limit = vcpu.idtr.limit = 0;
        int r = add_vmsa(w, &vcpu, w->snp, b->features | SEV_FEATURE_SNP_ACTIVE, err);
        if (r == 0)
            r = add_vmsa(w, &vcpu, w->es, b->features & ~(uint64_t)SEV_FEATURE_SNP_ACTIVE, err);
        if (r == 0 && i == 0 && w->sev | w->native)
            r = add_native(w, &vcpu, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_firmware(const struct writer *w, struct error *err)
{
    if (w->snp && !w->fw.has_metadata) {
        error_set(err, -EINVAL, "the firmware has no SEV metadata, which SEV-SNP needs");
        return error_hint(err, "use a build for SEV-SNP, as OVMF.amdsev.fd or stage0, or build for "
                               "--platform native");
    }
    if (w->build->hashes && !has_section(w, FIRMWARE_KERNEL_HASHES))
        return error_set(err, -EINVAL, "the firmware has no page for kernel hashes");
    if (w->build->host_map && !w->fw.has_igvm)
        return error_set(err, -EINVAL, "the firmware has no table of IGVM parameters");
    return 0;
}

static int write_all(struct writer *w, struct error *err)
{
    int r = add_platforms(w, err);
    if (r == 0)
        r = check_firmware(w, err);
    /* In front of all pages: QEMU imports areas before the pages that stand right in front of them. */
    if (r == 0 && w->build->host_map)
        r = add_parameters(w, err);
    if (r == 0)
        r = add_pages(w, w->fw.gpa, w->fw.size, w->all, IGVM_PAGE_DATA_TYPE_NORMAL, w->fw.data,
                      err);
    if (r == 0)
        r = add_metadata(w, err);
    return r < 0 ? r : add_contexts(w, err);
}

/** check_result() - what was written must be valid, or nobody can load it. */
static void keep_finding(const struct igvm_finding *finding, void *opaque)
{
    struct error *err = opaque;
    if (!err->code)
        error_set(err, -EINVAL, "the file would not be valid: header %" PRIu32 " (%s): %s",
                  finding->header, igvm_type_name(finding->type), finding->message);
}

int igvm_build_firmware(const struct igvm_build *build, uint8_t **data, size_t *size,
                        struct error *err)
{
    struct writer w = {.build = build};
    int r = firmware_read(&w.fw, build->firmware, build->firmware_len, err);
    if (r < 0)
        return r;
    /* Native contexts need version 2 of the format. */
    uint32_t version = IGVM_FORMAT_VERSION_1;
    for (size_t i = 0; i < build->n_platforms; i++)
        if (build->platforms[i] == PLAN_NATIVE || build->platforms[i] == PLAN_SEV)
            version = IGVM_FORMAT_VERSION_2;
    w.out = igvm_builder_new(version, IGVM_ARCHITECTURE_X64);
    if (!w.out)
        return error_set(err, -ENOMEM, "out of memory while building the file");
    r = write_all(&w, err);
    if (r == 0 && igvm_builder_write(w.out, data, size) != IGVMAPI_OK)
        r = error_set(err, -ENOMEM, "out of memory while building the file");
    igvm_builder_free(w.out);
    if (r < 0)
        return r;
    struct igvm_file *file = NULL;
    struct error invalid = ERROR_INIT;
    igvm_file_open(*data, *size, keep_finding, &invalid, &file);
    igvm_file_close(file);
    if (!invalid.code)
        return 0;
    free(*data);
    *data = NULL;
    return error_set(err, -EINVAL, "%s", invalid.message);
}

int igvm_add_id_block(struct igvm_builder *builder, uint32_t mask, const struct snp_id_block *block,
                      const struct snp_id_auth *auth, struct error *err)
{
    IGVM_VHS_SNP_ID_BLOCK out = {.compatibility_mask = mask,
                                 .author_key_enabled = auth->author_key_algorithm != 0,
                                 .version = block->version,
                                 .guest_svn = block->guest_svn,
                                 .id_key_algorithm = auth->id_key_algorithm,
                                 .author_key_algorithm = auth->author_key_algorithm};
    memcpy(out.ld, block->ld, sizeof(out.ld));
    memcpy(out.family_id, block->family_id, sizeof(out.family_id));
    memcpy(out.image_id, block->image_id, sizeof(out.image_id));
    memcpy(&out.id_key_signature, &auth->id_block_signature, sizeof(out.id_key_signature));
    memcpy(&out.author_key_signature, &auth->id_key_signature, sizeof(out.author_key_signature));
    out.id_public_key.curve = auth->id_key.curve;
    memcpy(out.id_public_key.qx, auth->id_key.qx, SNP_KEY_COMPONENT);
    memcpy(out.id_public_key.qy, auth->id_key.qy, SNP_KEY_COMPONENT);
    out.author_public_key.curve = auth->author_key.curve;
    memcpy(out.author_public_key.qx, auth->author_key.qx, SNP_KEY_COMPONENT);
    memcpy(out.author_public_key.qy, auth->author_key.qy, SNP_KEY_COMPONENT);
    int64_t r = igvm_builder_add(builder, IGVM_VHT_SNP_ID_BLOCK, &out, sizeof(out), NULL, 0);
    return r > 0 ? 0 : error_set(err, -ENOMEM, "out of memory while adding the ID block");
}
