/* VP contexts: their file data has a form of its own for each kind of platform. */
#include "igvm_internal.h"

#include <inttypes.h>

/* Hyper-V's partition has fewer registers than this in an initial context. */
#define VBS_REGISTERS_MAX 512

/* The forms. Platforms of one form may share a context. */
enum context_form {
    FORM_NONE,
    FORM_VMSA,   /* SEV-SNP, SEV-ES: a VMSA page */
    FORM_NATIVE, /* native, SEV: IgvmNativeVpContextX64 */
    FORM_VBS,    /* IgvmVbsVpContextHeader and registers */
    FORM_PAGE,   /* TDX, CCA: a page that is taken as it is */
};

static const enum context_form platform_forms[IGVM_PLATFORMS] = {
    [IGVM_PLATFORM_TYPE_NATIVE] = FORM_NATIVE, [IGVM_PLATFORM_TYPE_VSM_ISOLATION] = FORM_VBS,
    [IGVM_PLATFORM_TYPE_SEV_SNP] = FORM_VMSA,  [IGVM_PLATFORM_TYPE_TDX] = FORM_PAGE,
    [IGVM_PLATFORM_TYPE_SEV] = FORM_NATIVE,    [IGVM_PLATFORM_TYPE_SEV_ES] = FORM_VMSA,
    [IGVM_PLATFORM_TYPE_CCA] = FORM_PAGE,
};

#define WRONG(...) igvm_report(reporter, h, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER, __VA_ARGS__)

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

static void check_native(const struct igvm_header *h, const uint8_t *data,
                         struct igvm_reporter *reporter)
{
    if (!all_zero(data + offsetof(IgvmNativeVpContextX64, reserved), 4))
        WRONG("reserved fields of the native context are not zero");
    if (load_le16(data + offsetof(IgvmNativeVpContextX64, code_attributes)) & 0xf00 ||
        load_le16(data + offsetof(IgvmNativeVpContextX64, data_attributes)) & 0xf00)
        WRONG("bits 11:8 of the native context's segment attributes are not zero");
    if (!all_zero(data + sizeof(IgvmNativeVpContextX64),
                  IGVM_PAGE_SIZE_4K - sizeof(IgvmNativeVpContextX64)))
        WRONG("the page behind the native context is not zero");
}

static void check_vbs(const struct igvm_header *h, const uint8_t *data,
                      struct igvm_reporter *reporter)
{
    uint32_t count = load_le32(data);
    if (count == 0)
        WRONG("the VBS context has no registers");
    if (count > VBS_REGISTERS_MAX) {
        WRONG("the VBS context claims %" PRIu32 " registers, at most %d are taken", count,
              VBS_REGISTERS_MAX);
        return;
    }
    const uint8_t *reg = data + sizeof(IgvmVbsVpContextHeader);
    for (uint32_t i = 0; i < count; i++, reg += sizeof(IgvmVbsVpContextRegister)) {
        if (reg[0] > 2) {
            WRONG("register %" PRIu32 " of the VBS context has VTL %u, at most 2", i, reg[0]);
            return;
        }
        if (reg[0] != data[sizeof(IgvmVbsVpContextHeader)]) {
            WRONG("register %" PRIu32 " of the VBS context has another VTL than the first", i);
            return;
        }
        if (!all_zero(reg + offsetof(IgvmVbsVpContextRegister, mbz), 11)) {
            WRONG("reserved bytes of register %" PRIu32 " of the VBS context are not zero", i);
            return;
        }
    }
}

void igvm_check_vp_context(const struct igvm_file *file, const struct igvm_header *h,
                           struct igvm_reporter *reporter)
{
    uint32_t mask = load_le32(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, compatibility_mask));
    uint64_t gpa = load_le64(h->payload);
    enum context_form form = FORM_NONE;
    for (unsigned platform = 0; platform < IGVM_PLATFORMS; platform++) {
        if (!(file->masks[platform] & mask))
            continue;
        if (form != FORM_NONE && form != platform_forms[platform]) {
            WRONG("compatibility_mask 0x%" PRIx32 " joins platforms whose contexts differ in form",
                  mask);
            return;
        }
        form = platform_forms[platform];
    }
    const uint8_t *data =
        file->data + load_le32(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, file_offset));
    if (form == FORM_NATIVE)
        check_native(h, data, reporter);
    else if (form == FORM_VBS)
        check_vbs(h, data, reporter);
    if (gpa != 0 && (form == FORM_NATIVE || form == FORM_VBS))
        WRONG("gpa 0x%" PRIx64 " must be 0: the context has no place in guest memory", gpa);
}
