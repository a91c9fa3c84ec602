/* What can be said of one header alone: its length, padding, mask, reserved fields, alignment and file offset. */
#include "igvm_internal.h"

#include <inttypes.h>

/* Guest-physical addresses have at most 52 bits (AMD APM volume 2, 5.1). */
#define GPA_LIMIT BIT64(52)
/* No loader has more to say in one parameter area; without a bound, 16 bytes of file ask for any amount of memory. */
#define PARAMETER_AREA_LIMIT GIB(1)
#define ECDSA_P384_SHA384 1
#define CURVE_P384 2

/** section_code() - the published error code for a bad header of @type. */
static IgvmResult section_code(uint32_t type)
{
    switch (igvm_type_section(type)) {
    case IGVM_HEADER_SECTION_PLATFORM:
        return IGVMAPI_INVALID_BINARY_PLATFORM_HEADER;
    case IGVM_HEADER_SECTION_INITIALIZATION:
        return IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER;
    case IGVM_HEADER_SECTION_DIRECTIVE:
        return IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER;
    default:
        return IGVMAPI_INVALID_BINARY_VARIABLE_HEADER_SECTION;
    }
}

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

#define WRONG(...) igvm_report(reporter, h, section_code(h->type), __VA_ARGS__)

static void check_zero(const struct igvm_header *h, size_t at, size_t len, const char *field,
                       struct igvm_reporter *reporter)
{
    if (!all_zero(h->payload + at, len))
        WRONG("%s is not zero", field);
}

/** check_range() - @gpa page-aligned, @bytes page-sized, both in the address space. */
static void check_range(const struct igvm_header *h, uint64_t gpa, uint64_t bytes,
                        const char *gpa_name, const char *bytes_name,
                        struct igvm_reporter *reporter)
{
    if (!is_aligned(gpa, IGVM_PAGE_SIZE_4K))
        WRONG("%s 0x%" PRIx64 " is not a multiple of 4096", gpa_name, gpa);
    if (!is_aligned(bytes, IGVM_PAGE_SIZE_4K))
        WRONG("%s 0x%" PRIx64 " is not a multiple of 4096", bytes_name, bytes);
    if (!range_within(gpa, bytes, GPA_LIMIT))
        WRONG("%s 0x%" PRIx64 ", length 0x%" PRIx64 ", lies beyond 52 bits of address", gpa_name,
              gpa, bytes);
}

static void check_platform(const struct igvm_file *file, const struct igvm_header *h,
                           struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint32_t mask = load_le32(p);
    uint8_t vtl = p[4], platform = p[5];
    uint16_t version = load_le16(p + 6);
    uint64_t boundary = load_le64(p + 8);

    if (__builtin_popcount(mask) != 1)
        WRONG("compatibility_mask 0x%" PRIx32 " must have exactly one bit", mask);
    if (platform >= IGVM_PLATFORMS) {
        WRONG("platform_type %u is not defined", platform);
        return;
    }
    bool x64 = file->architecture == IGVM_ARCHITECTURE_X64;
    if (platform == IGVM_PLATFORM_TYPE_CCA ? x64
                                           : !x64 && platform != IGVM_PLATFORM_TYPE_VSM_ISOLATION)
        igvm_report(reporter, h, IGVMAPI_PLATFORM_ARCH_UNSUPPORTED,
                    "platform %s does not exist on architecture %s", igvm_platform_name(platform),
                    x64 ? "x64" : "AArch64");
    if (vtl != 0 && vtl != 2)
        WRONG("highest_vtl is %u, must be 0 or 2", vtl);
    else if (vtl != 0 &&
             (platform == IGVM_PLATFORM_TYPE_NATIVE || platform == IGVM_PLATFORM_TYPE_SEV ||
              platform == IGVM_PLATFORM_TYPE_SEV_ES || platform == IGVM_PLATFORM_TYPE_CCA))
        WRONG("highest_vtl is %u, but platform %s has no VTLs", vtl, igvm_platform_name(platform));
    if (version != 1)
        WRONG("platform_version %u is not known for %s, only 1", version,
              igvm_platform_name(platform));
    if (boundary != 0 &&
        (platform == IGVM_PLATFORM_TYPE_NATIVE || platform == IGVM_PLATFORM_TYPE_VSM_ISOLATION))
        WRONG("shared_gpa_boundary 0x%" PRIx64 " must be 0 for %s", boundary,
              igvm_platform_name(platform));
    else if (boundary != 0 && (boundary & (boundary - 1)) != 0)
        WRONG("shared_gpa_boundary 0x%" PRIx64 " is not a power of two", boundary);
}

static void check_relocatable(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint64_t alignment = load_le64(p + 8), gpa = load_le64(p + 16), size = load_le64(p + 24);
    uint64_t lowest = load_le64(p + 32), highest = load_le64(p + 40);

    if (p[6] > 2)
        WRONG("vtl is %u, at most 2", p[6]);
    if (p[7] & ~7)
        WRONG("flags 0x%x have bits that are not defined", p[7]);
    check_range(h, gpa, size, "relocation_region_gpa", "relocation_region_size", reporter);
    if (size == 0)
        WRONG("relocation_region_size is 0");
    if (alignment == 0 || !is_aligned(alignment, IGVM_PAGE_SIZE_4K)) {
        WRONG("relocation_alignment 0x%" PRIx64 " is not a multiple of 4096", alignment);
        return;
    }
    if (gpa % alignment)
        WRONG("relocation_region_gpa 0x%" PRIx64 " is not aligned to 0x%" PRIx64, gpa, alignment);
    if (lowest % alignment)
        WRONG("minimum_relocation_gpa 0x%" PRIx64 " is not aligned to 0x%" PRIx64, lowest,
              alignment);
    if (highest % alignment)
        WRONG("maximum_relocation_gpa 0x%" PRIx64 " is not aligned to 0x%" PRIx64, highest,
              alignment);
    if (lowest > highest)
        WRONG("minimum_relocation_gpa 0x%" PRIx64 " is above maximum_relocation_gpa 0x%" PRIx64,
              lowest, highest);
}

static void check_page_table(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint64_t size = load_le64(p + 16), used = load_le64(p + 24);
    if (p[6] > 2)
        WRONG("vtl is %u, at most 2", p[6]);
    check_zero(h, 7, 1, "reserved", reporter);
    check_range(h, load_le64(p + 8), size, "gpa", "size", reporter);
    if (size == 0)
        WRONG("size is 0");
    if (!is_aligned(used, IGVM_PAGE_SIZE_4K))
        WRONG("used_size 0x%" PRIx64 " is not a multiple of 4096", used);
    if (used > size)
        WRONG("used_size 0x%" PRIx64 " is more than size 0x%" PRIx64, used, size);
}

static void check_cca_policy(const struct igvm_file *file, const struct igvm_header *h,
                             struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint64_t zeroes = load_le64(p + 8), ones = load_le64(p + 16);
    if (file->architecture != IGVM_ARCHITECTURE_AARCH64)
        igvm_report(reporter, h, IGVMAPI_INVALID_HEADER_ARCH, "exists on AArch64 only");
    else if (load_le32(p) & ~file->masks[IGVM_PLATFORM_TYPE_CCA])
        igvm_report(reporter, h, IGVMAPI_INVALID_CCA_POLICY_COMPATIBILITY_MASK,
                    "compatibility_mask 0x%" PRIx32 " names a platform that is not CCA",
                    load_le32(p));
    check_zero(h, 4, 4, "reserved", reporter);
    check_zero(h, 26, 6, "reserved2", reporter);
    if (zeroes & ones)
        WRONG("attribute bits 0x%" PRIx64 " are required to be both zero and one", zeroes & ones);
}

static void check_page_data(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint64_t gpa = load_le64(p);
    uint32_t flags = load_le32(p + 16);
    uint16_t type = load_le16(p + 20);
    uint64_t bytes = flags & 1 ? IGVM_X64_LARGE_PAGE_SIZE : IGVM_PAGE_SIZE_4K;
    if (flags & ~7u)
        WRONG("flags 0x%" PRIx32 " have bits that are not defined", flags);
    if (type > IGVM_PAGE_DATA_TYPE_CPUID_XF)
        WRONG("data_type %u is not defined", type);
    check_zero(h, 22, 2, "reserved", reporter);
    if (!is_aligned(gpa, bytes))
        WRONG("gpa 0x%" PRIx64 " is not aligned to its page of 0x%" PRIx64 " bytes", gpa, bytes);
    if (!range_within(gpa, bytes, GPA_LIMIT))
        WRONG("gpa 0x%" PRIx64 " lies beyond 52 bits of address", gpa);
}

static void check_parameter_area(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    uint64_t bytes = load_le64(h->payload);
    if (!is_aligned(bytes, IGVM_PAGE_SIZE_4K) || bytes == 0)
        WRONG("number_of_bytes 0x%" PRIx64 " is not a positive multiple of 4096", bytes);
    if (bytes > PARAMETER_AREA_LIMIT)
        WRONG("number_of_bytes 0x%" PRIx64 " is more than the 1 GiB a parameter area may have",
              bytes);
}

static void check_required_memory(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    check_range(h, load_le64(p), load_le32(p + 12), "gpa", "number_of_bytes", reporter);
    if (load_le32(p + 16) & ~1u)
        WRONG("flags 0x%" PRIx32 " have bits that are not defined", load_le32(p + 16));
    check_zero(h, 20, 4, "reserved", reporter);
}

static void check_public_key(const struct igvm_header *h, size_t at, const char *name,
                             struct igvm_reporter *reporter)
{
    const uint8_t *key = h->payload + at;
    if (load_le32(key) != CURVE_P384)
        WRONG("%s has curve %" PRIu32 ", must be 2 (P-384)", name, load_le32(key));
    if (!all_zero(key + 4, 4))
        WRONG("reserved bytes of %s are not zero", name);
}

static void check_id_block(const struct igvm_header *h, struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    uint8_t author = p[4];
    if (author > 1)
        WRONG("author_key_enabled is %u, must be 0 or 1", author);
    check_zero(h, 5, 3, "reserved", reporter);
    if (load_le32(p + 96) != ECDSA_P384_SHA384)
        WRONG("id_key_algorithm is %" PRIu32 ", must be 1 (ECDSA P-384 with SHA-384)",
              load_le32(p + 96));
    check_public_key(h, offsetof(IGVM_VHS_SNP_ID_BLOCK, id_public_key), "id_public_key", reporter);
    if (author == 1) {
        if (load_le32(p + 100) != ECDSA_P384_SHA384)
            WRONG("author_key_algorithm is %" PRIu32 ", must be 1 (ECDSA P-384 with SHA-384)",
                  load_le32(p + 100));
        check_public_key(h, offsetof(IGVM_VHS_SNP_ID_BLOCK, author_public_key), "author_public_key",
                         reporter);
    } else {
        size_t keys = offsetof(IGVM_VHS_SNP_ID_BLOCK, author_key_signature);
        check_zero(h, keys, sizeof(IGVM_VHS_SNP_ID_BLOCK) - keys,
                   "the author key without author_key_enabled", reporter);
    }
}

/** check_mask() - a header must be meant for somebody. */
static void check_mask(const struct igvm_file *file, const struct igvm_header *h,
                       struct igvm_reporter *reporter)
{
    uint32_t mask = igvm_header_mask(h);
    if (mask == 0)
        WRONG("compatibility_mask is 0: no platform would load it");
    else if (mask & ~file->declared)
        igvm_report_tolerated(reporter, h, section_code(h->type),
                              "compatibility_mask 0x%" PRIx32 " names bits 0x%" PRIx32
                              " that no platform header has",
                              mask, mask & ~file->declared);
}

/** check_data() - that what the header points to is behind the headers and in the file. */
static void check_data(const struct igvm_file *file, const struct igvm_header *h, int data_at,
                       struct igvm_reporter *reporter)
{
    uint32_t at = load_le32(h->payload + data_at);
    bool needed = h->type == IGVM_VHT_VP_CONTEXT || h->type == IGVM_VHT_CORIM_DOCUMENT ||
                  h->type == IGVM_VHT_CORIM_SIGNATURE;
    if (at == 0) {
        if (needed)
            WRONG("file_offset is 0, but it needs file data");
        return;
    }
    uint64_t bytes = igvm_data_length(file, h);
    if (at < file->var_end)
        WRONG("file_offset 0x%" PRIx32 " lies in the headers, which end at 0x%" PRIx32, at,
              file->var_end);
    else if (!range_within(at, bytes, file->size))
        WRONG("file_offset 0x%" PRIx32 ", length 0x%" PRIx64
              ", reaches beyond the file's %zu bytes",
              at, bytes, file->size);
    else if (bytes == 0)
        WRONG("size_bytes is 0");
}

static void check_value(const struct igvm_file *file, const struct igvm_header *h,
                        struct igvm_reporter *reporter)
{
    const uint8_t *p = h->payload;
    switch (h->type) {
    case IGVM_VHT_SUPPORTED_PLATFORM:
        check_platform(file, h, reporter);
        break;
    case IGVM_VHT_GUEST_POLICY:
        check_zero(h, 12, 4, "reserved", reporter);
        break;
    case IGVM_VHT_RELOCATABLE_REGION:
        check_relocatable(h, reporter);
        break;
    case IGVM_VHT_PAGE_TABLE_RELOCATION_REGION:
        check_page_table(h, reporter);
        break;
    case IGVM_VHT_CORIM_DOCUMENT:
    case IGVM_VHT_CORIM_SIGNATURE:
        check_zero(h, 12, 4, "reserved", reporter);
        break;
    case IGVM_VHT_CCA_POLICY:
        check_cca_policy(file, h, reporter);
        break;
    case IGVM_VHT_PARAMETER_AREA:
        check_parameter_area(h, reporter);
        break;
    case IGVM_VHT_PAGE_DATA:
        check_page_data(h, reporter);
        break;
    case IGVM_VHT_PARAMETER_INSERT:
        check_range(h, load_le64(p), 0, "gpa", "length", reporter);
        break;
    case IGVM_VHT_VP_CONTEXT:
        check_range(h, load_le64(p), 0, "gpa", "length", reporter);
        check_zero(h, 18, 2, "reserved", reporter);
        break;
    case IGVM_VHT_REQUIRED_MEMORY:
        check_required_memory(h, reporter);
        break;
    case IGVM_VHT_ERROR_RANGE:
        check_range(h, load_le64(p), load_le32(p + 12), "gpa", "size_bytes", reporter);
        if (load_le32(p + 12) == 0)
            WRONG("size_bytes is 0");
        break;
    case IGVM_VHT_SNP_ID_BLOCK:
        check_id_block(h, reporter);
        break;
    default:
        break; /* parameters: their areas are looked at with the whole file in view */
    }
}

void igvm_check_header(const struct igvm_file *file, const struct igvm_header *h,
                       struct igvm_reporter *reporter)
{
    uint32_t padding = (uint32_t)(align_up(h->length, 8) - h->length);
    if (!all_zero(h->payload + h->length, padding))
        WRONG("the %" PRIu32 " bytes of padding behind it are not zero", padding);
    if (h->type & IGVM_VHT_OPTIONAL)
        return;
    const struct igvm_type_info *info = igvm_type_info(h->type);
    if (!info) {
        WRONG("this type is not defined, and its bit 31 does not allow to ignore it");
        return;
    }
    if (h->length != info->size) {
        WRONG("length is %" PRIu32 ", must be %" PRIu32, h->length, info->size);
        return;
    }
    check_value(file, h, reporter);
    if (info->mask_at >= 0 && h->type != IGVM_VHT_SUPPORTED_PLATFORM)
        check_mask(file, h, reporter);
    if (info->data_at >= 0)
        check_data(file, h, info->data_at, reporter);
}
