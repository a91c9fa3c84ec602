/* The header types: names, sizes, and where in them mask and file offset stand. */
#include "igvm_internal.h"

#define TYPE(t, s, mask, data)                  \
    {                                           \
        IGVM_VHT_##t, sizeof(s), mask, data, #t \
    }
#define MASK(s) (int)offsetof(s, compatibility_mask)
#define DATA(s) (int)offsetof(s, file_offset)
#define PARAMETER(t) TYPE(t, IGVM_VHS_PARAMETER, -1, -1)

_Static_assert(sizeof(IGVM_FIXED_HEADER) == 24, "published size");
_Static_assert(sizeof(IGVM_FIXED_HEADER_V2) == 32, "published size");
_Static_assert(sizeof(IGVM_VHS_SUPPORTED_PLATFORM) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_GUEST_POLICY) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_RELOCATABLE_REGION) == 48, "published size");
_Static_assert(sizeof(IGVM_VHS_PAGE_TABLE_RELOCATION) == 32, "published size");
_Static_assert(sizeof(IGVM_VHS_CORIM_DATA) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_CCA_POLICY) == 32, "published size");
_Static_assert(sizeof(IGVM_VHS_PARAMETER_AREA) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_PAGE_DATA) == 24, "published size");
_Static_assert(sizeof(IGVM_VHS_PARAMETER_INSERT) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_VP_CONTEXT) == 24, "published size");
_Static_assert(sizeof(IGVM_VHS_REQUIRED_MEMORY) == 24, "published size");
_Static_assert(sizeof(IGVM_VHS_PARAMETER) == 8, "published size");
_Static_assert(sizeof(IGVM_VHS_ERROR_RANGE) == 16, "published size");
_Static_assert(sizeof(IGVM_VHS_SNP_ID_BLOCK) == 696, "published size");
_Static_assert(sizeof(IGVM_VHS_VBS_MEASUREMENT) == 864, "published size");
_Static_assert(sizeof(IGVM_VHS_MEMORY_MAP_ENTRY) == 24, "published size");
_Static_assert(sizeof(IgvmNativeVpContextX64) == 232, "published size");
_Static_assert(sizeof(IgvmVbsVpContextRegister) == 32, "published size");

static const struct igvm_type_info platform_types[] = {
    TYPE(SUPPORTED_PLATFORM, IGVM_VHS_SUPPORTED_PLATFORM, MASK(IGVM_VHS_SUPPORTED_PLATFORM), -1),
};

static const struct igvm_type_info initialization_types[] = {
    TYPE(GUEST_POLICY, IGVM_VHS_GUEST_POLICY, MASK(IGVM_VHS_GUEST_POLICY), -1),
    TYPE(RELOCATABLE_REGION, IGVM_VHS_RELOCATABLE_REGION, MASK(IGVM_VHS_RELOCATABLE_REGION), -1),
    TYPE(PAGE_TABLE_RELOCATION_REGION, IGVM_VHS_PAGE_TABLE_RELOCATION,
         MASK(IGVM_VHS_PAGE_TABLE_RELOCATION), -1),
    TYPE(CORIM_DOCUMENT, IGVM_VHS_CORIM_DATA, MASK(IGVM_VHS_CORIM_DATA), DATA(IGVM_VHS_CORIM_DATA)),
    TYPE(CORIM_SIGNATURE, IGVM_VHS_CORIM_DATA, MASK(IGVM_VHS_CORIM_DATA),
         DATA(IGVM_VHS_CORIM_DATA)),
    TYPE(CCA_POLICY, IGVM_VHS_CCA_POLICY, MASK(IGVM_VHS_CCA_POLICY), -1),
};

/* Indexed by type - 0x301; type 0x306 is reserved. */
static const struct igvm_type_info directive_types[] = {
    TYPE(PARAMETER_AREA, IGVM_VHS_PARAMETER_AREA, -1, DATA(IGVM_VHS_PARAMETER_AREA)),
    TYPE(PAGE_DATA, IGVM_VHS_PAGE_DATA, MASK(IGVM_VHS_PAGE_DATA), DATA(IGVM_VHS_PAGE_DATA)),
    TYPE(PARAMETER_INSERT, IGVM_VHS_PARAMETER_INSERT, MASK(IGVM_VHS_PARAMETER_INSERT), -1),
    {IGVM_VHT_VP_CONTEXT, IGVM_VHS_VP_CONTEXT_LENGTH, MASK(IGVM_VHS_VP_CONTEXT),
     DATA(IGVM_VHS_VP_CONTEXT), "VP_CONTEXT"},
    TYPE(REQUIRED_MEMORY, IGVM_VHS_REQUIRED_MEMORY, MASK(IGVM_VHS_REQUIRED_MEMORY), -1),
    {0},
    PARAMETER(VP_COUNT_PARAMETER),
    PARAMETER(SRAT),
    PARAMETER(MADT),
    PARAMETER(MMIO_RANGES),
    TYPE(SNP_ID_BLOCK, IGVM_VHS_SNP_ID_BLOCK, MASK(IGVM_VHS_SNP_ID_BLOCK), -1),
    PARAMETER(MEMORY_MAP),
    TYPE(ERROR_RANGE, IGVM_VHS_ERROR_RANGE, MASK(IGVM_VHS_ERROR_RANGE), -1),
    PARAMETER(COMMAND_LINE),
    PARAMETER(SLIT),
    PARAMETER(PPTT),
    TYPE(VBS_MEASUREMENT, IGVM_VHS_VBS_MEASUREMENT, MASK(IGVM_VHS_VBS_MEASUREMENT), -1),
    PARAMETER(DEVICE_TREE),
    PARAMETER(ENVIRONMENT_INFO_PARAMETER),
};

const struct igvm_type_info *igvm_type_info(uint32_t type)
{
    const struct igvm_type_info *info = NULL;
    if (type - IGVM_VHT_SUPPORTED_PLATFORM < ARRAY_SIZE(platform_types))
        info = &platform_types[type - IGVM_VHT_SUPPORTED_PLATFORM];
    else if (type - IGVM_VHT_GUEST_POLICY < ARRAY_SIZE(initialization_types))
        info = &initialization_types[type - IGVM_VHT_GUEST_POLICY];
    else if (type - IGVM_VHT_PARAMETER_AREA < ARRAY_SIZE(directive_types))
        info = &directive_types[type - IGVM_VHT_PARAMETER_AREA];
    return info && info->name ? info : NULL;
}

int igvm_type_section(uint32_t type)
{
    if (type >= IGVM_VHT_RANGE_PLATFORM_START && type <= IGVM_VHT_RANGE_PLATFORM_END)
        return IGVM_HEADER_SECTION_PLATFORM;
    if (type >= IGVM_VHT_RANGE_INIT_START && type <= IGVM_VHT_RANGE_INIT_END)
        return IGVM_HEADER_SECTION_INITIALIZATION;
    if (type >= IGVM_VHT_RANGE_DIRECTIVE_START && type <= IGVM_VHT_RANGE_DIRECTIVE_END)
        return IGVM_HEADER_SECTION_DIRECTIVE;
    return -1;
}

IGVM_EXPORT const char *igvm_type_name(uint32_t type)
{
    const struct igvm_type_info *info = igvm_type_info(type);
    return info ? info->name : "unknown";
}

IGVM_EXPORT uint32_t igvm_type_size(uint32_t type)
{
    const struct igvm_type_info *info = igvm_type_info(type);
    return info ? info->size : 0;
}

IGVM_EXPORT int igvm_type_offset_field(uint32_t type)
{
    const struct igvm_type_info *info = igvm_type_info(type);
    return info ? info->data_at : -1;
}

IGVM_EXPORT const char *igvm_platform_name(IgvmPlatformType platform)
{
    static const char *const names[IGVM_PLATFORMS] = {"NATIVE", "VSM_ISOLATION", "SEV_SNP", "TDX",
                                                      "SEV",    "SEV_ES",        "CCA"};
    return platform < IGVM_PLATFORMS ? names[platform] : "unknown";
}
