#include "launch/igvm_honour.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>

static int check_context(const struct igvm_header *h, const struct launch_options *options,
                         struct error *err)
{
    uint32_t index = load_le16(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, vp_index));
    if (index < options->vcpus)
        return 0;
    error_set(err, -EINVAL, "it is for vCPU %" PRIu32 ", but the guest has %" PRIu32, index,
              options->vcpus);
    return error_hint(err, "--cpus boot=%" PRIu32 " or more has that vCPU", index + 1);
}

static int check_page(const struct igvm_header *h, enum plan_platform platform, struct error *err)
{
    uint16_t type = load_le16(h->payload + offsetof(IGVM_VHS_PAGE_DATA, data_type));
    if (type == IGVM_PAGE_DATA_TYPE_NORMAL || platform != PLAN_NATIVE)
        return 0;
    return error_set(err, -ENOTSUP, "a page of type 0x%" PRIx16 " exists on SEV-SNP only", type);
}

int igvm_honour(const struct igvm_header *h, enum plan_platform platform,
                const struct launch_options *options, struct error *err)
{
    const uint8_t *p = h->payload;
    if (h->type & IGVM_VHT_OPTIONAL)
        return 0;
    switch (h->type) {
    case IGVM_VHT_SUPPORTED_PLATFORM: {
        uint8_t vtl = p[offsetof(IGVM_VHS_SUPPORTED_PLATFORM, highest_vtl)];
        if (vtl == 0)
            return 0;
        return error_set(err, -ENOTSUP, "it asks for virtual trust level %u, but there is only 0",
                         vtl);
    }
    case IGVM_VHT_REQUIRED_MEMORY:
        if ((load_le32(p + offsetof(IGVM_VHS_REQUIRED_MEMORY, flags)) & 1) == 0)
            return 0;
        return error_set(err, -ENOTSUP,
                         "its memory is to be protected from a virtual trust level, but there is "
                         "only one");
    case IGVM_VHT_VP_CONTEXT:
        return check_context(h, options, err);
    case IGVM_VHT_PAGE_DATA:
        return check_page(h, platform, err);
    case IGVM_VHT_DEVICE_TREE:
        return error_set(err, -ENOTSUP, "there is no device tree: the guest is told by ACPI");
    case IGVM_VHT_VBS_MEASUREMENT:
        return error_set(err, -ENOTSUP, "virtualization-based security is Hyper-V's");
    /* Nobody has to move a region, or to compare reference measurements. */
    case IGVM_VHT_RELOCATABLE_REGION:
    case IGVM_VHT_PAGE_TABLE_RELOCATION_REGION:
    case IGVM_VHT_CORIM_DOCUMENT:
    case IGVM_VHT_CORIM_SIGNATURE:
    case IGVM_VHT_GUEST_POLICY:
    case IGVM_VHT_SNP_ID_BLOCK:
    case IGVM_VHT_PARAMETER_AREA:
    case IGVM_VHT_PARAMETER_INSERT:
    case IGVM_VHT_VP_COUNT_PARAMETER:
    case IGVM_VHT_SRAT:
    case IGVM_VHT_MADT:
    case IGVM_VHT_MMIO_RANGES:
    case IGVM_VHT_MEMORY_MAP:
    case IGVM_VHT_ERROR_RANGE:
    case IGVM_VHT_COMMAND_LINE:
    case IGVM_VHT_SLIT:
    case IGVM_VHT_PPTT:
    case IGVM_VHT_ENVIRONMENT_INFO_PARAMETER:
        return 0;
    default:
        return error_set(err, -ENOTSUP, "husk does not know what it asks for");
    }
}
