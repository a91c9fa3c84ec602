#include "cmd/igvm_fields.h"

#include "base/bytes.h"

#define F(s, field)                                            \
    {                                                          \
#field, offsetof(s, field), sizeof(((s *)NULL)->field) \
    }
#define FLAGS(s)                       \
    {                                  \
        "flags", offsetof(s, flags), 4 \
    }

static const struct igvm_field platform_fields[] = {
    F(IGVM_VHS_SUPPORTED_PLATFORM, compatibility_mask),
    F(IGVM_VHS_SUPPORTED_PLATFORM, highest_vtl),
    F(IGVM_VHS_SUPPORTED_PLATFORM, platform_type),
    F(IGVM_VHS_SUPPORTED_PLATFORM, platform_version),
    F(IGVM_VHS_SUPPORTED_PLATFORM, shared_gpa_boundary),
};
static const struct igvm_field policy_fields[] = {
    F(IGVM_VHS_GUEST_POLICY, policy),
    F(IGVM_VHS_GUEST_POLICY, compatibility_mask),
};
static const struct igvm_field relocatable_fields[] = {
    F(IGVM_VHS_RELOCATABLE_REGION, compatibility_mask),
    F(IGVM_VHS_RELOCATABLE_REGION, vp_index),
    F(IGVM_VHS_RELOCATABLE_REGION, vtl),
    F(IGVM_VHS_RELOCATABLE_REGION, flags),
    F(IGVM_VHS_RELOCATABLE_REGION, relocation_alignment),
    F(IGVM_VHS_RELOCATABLE_REGION, relocation_region_gpa),
    F(IGVM_VHS_RELOCATABLE_REGION, relocation_region_size),
    F(IGVM_VHS_RELOCATABLE_REGION, minimum_relocation_gpa),
    F(IGVM_VHS_RELOCATABLE_REGION, maximum_relocation_gpa),
};
static const struct igvm_field page_table_fields[] = {
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, compatibility_mask),
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, vp_index),
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, vtl),
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, gpa),
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, size),
    F(IGVM_VHS_PAGE_TABLE_RELOCATION, used_size),
};
static const struct igvm_field corim_fields[] = {
    F(IGVM_VHS_CORIM_DATA, compatibility_mask),
    F(IGVM_VHS_CORIM_DATA, file_offset),
    F(IGVM_VHS_CORIM_DATA, size_bytes),
};
static const struct igvm_field cca_fields[] = {
    F(IGVM_VHS_CCA_POLICY, compatibility_mask),
    F(IGVM_VHS_CCA_POLICY, attributes_required_zeroes),
    F(IGVM_VHS_CCA_POLICY, attributes_required_ones),
    F(IGVM_VHS_CCA_POLICY, hash_algorithm),
    F(IGVM_VHS_CCA_POLICY, lfa_policy),
};
static const struct igvm_field area_fields[] = {
    F(IGVM_VHS_PARAMETER_AREA, number_of_bytes),
    F(IGVM_VHS_PARAMETER_AREA, parameter_area_index),
    F(IGVM_VHS_PARAMETER_AREA, file_offset),
};
static const struct igvm_field page_fields[] = {
    F(IGVM_VHS_PAGE_DATA, gpa),         F(IGVM_VHS_PAGE_DATA, compatibility_mask),
    F(IGVM_VHS_PAGE_DATA, file_offset), FLAGS(IGVM_VHS_PAGE_DATA),
    F(IGVM_VHS_PAGE_DATA, data_type),
};
static const struct igvm_field insert_fields[] = {
    F(IGVM_VHS_PARAMETER_INSERT, gpa),
    F(IGVM_VHS_PARAMETER_INSERT, compatibility_mask),
    F(IGVM_VHS_PARAMETER_INSERT, parameter_area_index),
};
static const struct igvm_field context_fields[] = {
    F(IGVM_VHS_VP_CONTEXT, gpa),
    F(IGVM_VHS_VP_CONTEXT, compatibility_mask),
    F(IGVM_VHS_VP_CONTEXT, file_offset),
    F(IGVM_VHS_VP_CONTEXT, vp_index),
};
static const struct igvm_field memory_fields[] = {
    F(IGVM_VHS_REQUIRED_MEMORY, gpa),
    F(IGVM_VHS_REQUIRED_MEMORY, compatibility_mask),
    F(IGVM_VHS_REQUIRED_MEMORY, number_of_bytes),
    FLAGS(IGVM_VHS_REQUIRED_MEMORY),
};
static const struct igvm_field parameter_fields[] = {
    F(IGVM_VHS_PARAMETER, parameter_area_index),
    F(IGVM_VHS_PARAMETER, byte_offset),
};
static const struct igvm_field error_range_fields[] = {
    F(IGVM_VHS_ERROR_RANGE, gpa),
    F(IGVM_VHS_ERROR_RANGE, compatibility_mask),
    F(IGVM_VHS_ERROR_RANGE, size_bytes),
};
static const struct igvm_field id_block_fields[] = {
    F(IGVM_VHS_SNP_ID_BLOCK, compatibility_mask),
    F(IGVM_VHS_SNP_ID_BLOCK, author_key_enabled),
    F(IGVM_VHS_SNP_ID_BLOCK, ld),
    F(IGVM_VHS_SNP_ID_BLOCK, family_id),
    F(IGVM_VHS_SNP_ID_BLOCK, image_id),
    F(IGVM_VHS_SNP_ID_BLOCK, version),
    F(IGVM_VHS_SNP_ID_BLOCK, guest_svn),
    F(IGVM_VHS_SNP_ID_BLOCK, id_key_algorithm),
    F(IGVM_VHS_SNP_ID_BLOCK, author_key_algorithm),
};
static const struct igvm_field measurement_fields[] = {
    F(IGVM_VHS_VBS_MEASUREMENT, compatibility_mask),
    F(IGVM_VHS_VBS_MEASUREMENT, version),
    F(IGVM_VHS_VBS_MEASUREMENT, product_id),
    F(IGVM_VHS_VBS_MEASUREMENT, module_id),
    F(IGVM_VHS_VBS_MEASUREMENT, security_version),
    F(IGVM_VHS_VBS_MEASUREMENT, policy_flags),
    F(IGVM_VHS_VBS_MEASUREMENT, boot_digest_algo),
    F(IGVM_VHS_VBS_MEASUREMENT, signing_algo),
    F(IGVM_VHS_VBS_MEASUREMENT, boot_measurement_digest),
};

#define CASE(type, fields)       \
    case IGVM_VHT_##type:        \
        *n = ARRAY_SIZE(fields); \
        return fields

const struct igvm_field *igvm_fields(uint32_t type, size_t *n)
{
    switch (type) {
        CASE(SUPPORTED_PLATFORM, platform_fields);
        CASE(GUEST_POLICY, policy_fields);
        CASE(RELOCATABLE_REGION, relocatable_fields);
        CASE(PAGE_TABLE_RELOCATION_REGION, page_table_fields);
    case IGVM_VHT_CORIM_DOCUMENT:
        CASE(CORIM_SIGNATURE, corim_fields);
        CASE(CCA_POLICY, cca_fields);
        CASE(PARAMETER_AREA, area_fields);
        CASE(PAGE_DATA, page_fields);
        CASE(PARAMETER_INSERT, insert_fields);
        CASE(VP_CONTEXT, context_fields);
        CASE(REQUIRED_MEMORY, memory_fields);
        CASE(ERROR_RANGE, error_range_fields);
        CASE(SNP_ID_BLOCK, id_block_fields);
        CASE(VBS_MEASUREMENT, measurement_fields);
    default:
        break;
    }
    bool parameter = igvm_type_size(type) == sizeof(IGVM_VHS_PARAMETER);
    *n = parameter ? ARRAY_SIZE(parameter_fields) : 0;
    return parameter_fields;
}

uint64_t igvm_field_value(const struct igvm_header *header, const struct igvm_field *field)
{
    uint8_t bytes[8] = {0};
    memcpy(bytes, header->payload + field->at, MIN(field->width, sizeof(bytes)));
    return load_le64(bytes);
}
