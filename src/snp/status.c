#include "snp/status.h"

#include "base/bytes.h"

#include <stddef.h>

static const struct {
    const char *name, *help;
} statuses[] = {
    [0x00] = {"SUCCESS", NULL},
    [0x01] = {"INVALID_PLATFORM_STATE",
              "SNP is not initialised: see dmesg of kvm_amd and ccp, and load the modules again"},
    [0x02] = {"INVALID_GUEST_STATE", NULL},
    [0x03] =
        {"INVALID_CONFIG",
         "the firmware set-up of the host does not have what SNP needs; husk probe says what is "
         "missing"},
    [0x04] = {"INVALID_LEN", NULL},
    [0x05] = {"ALREADY_OWNED", NULL},
    [0x06] = {"INVALID_CERTIFICATE", NULL},
    [0x07] = {"POLICY_FAILURE",
              "the host cannot keep the policy: it asks for a newer firmware ABI, or forbids SMT "
              "where the host has it on, or asks for what this processor lacks"},
    [0x08] = {"INACTIVE", NULL},
    [0x09] = {"INVALID_ADDRESS", NULL},
    [0x0a] = {"BAD_SIGNATURE",
              "the ID block was signed with another key than the one beside it, or changed since"},
    [0x0b] = {"BAD_MEASUREMENT",
              "the ID block is for another launch digest; husk measure says which one this is"},
    [0x0c] = {"ASID_OWNED", NULL},
    [0x0d] = {"INVALID_ASID", NULL},
    [0x0e] = {"WBINVD_REQUIRED", NULL},
    [0x0f] = {"DFFLUSH_REQUIRED", NULL},
    [0x10] = {"INVALID_GUEST", NULL},
    [0x11] = {"INVALID_COMMAND", "the SEV firmware may be too old: update it"},
    [0x12] = {"ACTIVE", NULL},
    [0x13] = {"HWERROR_PLATFORM",
              "the secure processor is in trouble: only a reboot of the host helps"},
    [0x14] = {"HWERROR_UNSAFE",
              "the secure processor is in trouble: only a reboot of the host helps"},
    [0x15] = {"UNSUPPORTED", "the SEV firmware may be too old for what was asked: update it"},
    [0x16] = {"INVALID_PARAM", NULL},
    [0x17] = {"RESOURCE_LIMIT", "the secure processor has no room for another guest: end some"},
    [0x18] = {"SECURE_DATA_INVALID", NULL},
    [0x19] = {"INVALID_PAGE_SIZE", NULL},
    [0x1a] = {"INVALID_PAGE_STATE", NULL},
    [0x1b] = {"INVALID_MDATA_ENTRY", NULL},
    [0x1c] = {"INVALID_PAGE_OWNER", NULL},
    [0x1d] = {"AEAD_OFLOW", NULL},
    [0x1f] = {"EXIT_RING_BUFFER", NULL},
    [0x20] = {"RMP_INIT_REQUIRED", "SNP is not initialised: see dmesg of kvm_amd and ccp"},
    [0x21] = {"BAD_SVN", NULL},
    [0x22] = {"BAD_VERSION",
              "the SEV firmware does not know this version of what it was given: update it"},
    [0x23] = {"SHUTDOWN_REQUIRED", "the SEV firmware was updated: reboot the host"},
    [0x24] = {"UPDATE_FAILED", NULL},
    [0x25] = {"RESTORE_REQUIRED", NULL},
    [0x26] = {"RMP_INITIALIZATION_FAILED", NULL},
    [0x27] = {"INVALID_KEY", "a key of the ID block is not one that the firmware can use"},
};

const char *snp_status_name(uint32_t status)
{
    const char *name = status < ARRAY_SIZE(statuses) ? statuses[status].name : NULL;
    return name ? name : "a status that husk does not know";
}

const char *snp_status_help(uint32_t status)
{
    return status < ARRAY_SIZE(statuses) ? statuses[status].help : NULL;
}
