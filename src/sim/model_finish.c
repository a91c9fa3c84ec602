/* SNP_LAUNCH_FINISH's ID block (SNP ABI 8.18) and SNP_LAUNCH_UPDATE's CPUID page (8.17.2.6). */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>

/* Offsets within the ID block and its authentication. */
enum id_offset {
    ID_BLOCK_DIGEST = 0,
    ID_BLOCK_VERSION = 80,
    ID_BLOCK_POLICY = 88,
    ID_AUTH_KEY_ALGORITHM = 0,
    ID_AUTH_AUTHOR_ALGORITHM = 4,
    ID_AUTH_BLOCK_SIGNATURE = 64,
    ID_AUTH_KEY = 576,
    ID_AUTH_KEY_SIGNATURE = 1664,
    ID_AUTH_AUTHOR_KEY = 2176,
};
#define ALGORITHM_ECDSA_P384 1u

int model_finish_id(struct call *call, struct vm *vm, const struct sim_finish *finish, uint32_t *fw)
{
    struct abi_snp_finish params;
    memcpy(&params, finish->params, sizeof(params));
    if (!params.id_block_en)
        return 0;
    const uint8_t *block = finish->id_block;
    const uint8_t *auth = finish->id_auth;
    bool author = params.auth_key_en;
    *fw = ABI_FW_INVALID_PARAM;
    if (load_le32(block + ID_BLOCK_VERSION) != 1)
        return model_broken(call, RULE_ID_VERSION, vm, -EIO, "version %u",
                            load_le32(block + ID_BLOCK_VERSION));
    if (load_le32(auth + ID_AUTH_KEY_ALGORITHM) != ALGORITHM_ECDSA_P384 ||
        !sim_crypto_key_is_p384(auth + ID_AUTH_KEY) ||
        (author && (load_le32(auth + ID_AUTH_AUTHOR_ALGORITHM) != ALGORITHM_ECDSA_P384 ||
                    !sim_crypto_key_is_p384(auth + ID_AUTH_AUTHOR_KEY))))
        return model_broken(call, RULE_ID_ALGORITHM, vm, -EIO, "algorithms %u and %u",
                            load_le32(auth + ID_AUTH_KEY_ALGORITHM),
                            load_le32(auth + ID_AUTH_AUTHOR_ALGORITHM));
    *fw = ABI_FW_BAD_SIGNATURE;
    if (!sim_crypto_verify(auth + ID_AUTH_KEY, auth + ID_AUTH_BLOCK_SIGNATURE, block, SIM_ID_BLOCK))
        return model_broken(call, RULE_ID_SIGNATURE, vm, -EIO,
                            "the ID block's signature is not the key's");
    if (author && !sim_crypto_verify(auth + ID_AUTH_AUTHOR_KEY, auth + ID_AUTH_KEY_SIGNATURE,
                                     auth + ID_AUTH_KEY, CRYPTO_KEY_BYTES))
        return model_broken(call, RULE_ID_AUTHOR, vm, -EIO,
                            "the ID key's signature is not the author's");
    if (load_le64(block + ID_BLOCK_POLICY) != vm->policy) {
        *fw = ABI_FW_POLICY_FAILURE;
        return model_broken(call, RULE_ID_POLICY, vm, -EIO, "policy 0x%llx, launched with 0x%llx",
                            (unsigned long long)load_le64(block + ID_BLOCK_POLICY),
                            (unsigned long long)vm->policy);
    }
    if (memcmp(block + ID_BLOCK_DIGEST, vm->digest, CRYPTO_DIGEST) != 0) {
        char digest[2 * CRYPTO_DIGEST + 1];
        *fw = ABI_FW_BAD_MEASUREMENT;
        return model_broken(call, RULE_ID_DIGEST, vm, -EIO, "the launch has %s",
                            report_hex(vm->digest, CRYPTO_DIGEST, digest));
    }
    *fw = UINT32_MAX;
    return 0;
}

#define CPUID_ENTRIES 64u
#define CPUID_HEADER 16u
#define CPUID_ENTRY 48u

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* What the platform does not let a guest be told; the registers of an entry are at offset 24. */
static const struct cpuid_mask {
    uint32_t leaf;
    uint32_t subleaf;
    enum cpuid_register reg;
    uint32_t forbidden;
    const char *what;
} cpuid_masks[] = {
    {0x1, 0, CPUID_ECX, BIT(24), "TSC_DEADLINE"},
    {0x7, 0, CPUID_EBX, BIT(1), "TSC_ADJUST"},
    {0x7, 0, CPUID_EDX, UINT32_MAX, "leaf 7 EDX"},
    {0x80000008, 0, CPUID_EBX, BIT(25), "VIRT_SSBD"},
    {0x80000021, 0, CPUID_ECX, UINT32_MAX, "leaf 0x80000021 ECX"},
};

/** fix_entry() - correct one entry. Returns what was wrong with it, NULL if nothing was. */
static const char *fix_entry(uint8_t *entry)
{
    const char *what = NULL;
    uint32_t leaf = load_le32(entry);
    uint32_t subleaf = load_le32(entry + 4);
    uint8_t *registers = entry + 24;
    for (size_t i = 0; i < ARRAY_SIZE(cpuid_masks); i++) {
        const struct cpuid_mask *mask = &cpuid_masks[i];
        uint8_t *at = registers + 4 * mask->reg;
        if (mask->leaf != leaf || mask->subleaf != subleaf || !(load_le32(at) & mask->forbidden))
            continue;
        store_le32(at, load_le32(at) & ~mask->forbidden);
        what = mask->what;
    }
    /* The size of the XSAVE area is that of XCR0's legacy part: the guest computes the rest itself. */
    if (leaf == 0xd && subleaf < 2 && load_le64(entry + 8) == 1 &&
        load_le32(registers + 4) != 0x240) {
        store_le32(registers + 4, 0x240);
        what = "the size of the XSAVE area";
    }
    return what;
}

static bool leaf_allowed(uint32_t leaf)
{
    uint32_t space = leaf >> 16;
    return space == 0 || space == 0x4000 || space == 0x8000;
}

bool model_check_cpuid(struct call *call, const struct vm *vm, uint8_t *page)
{
    uint32_t count = load_le32(page);
    if (count > CPUID_ENTRIES) {
        model_broken(call, RULE_CPUID_COUNT, vm, 0, "%u functions", count);
        return false;
    }
    bool good = true;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = page + CPUID_HEADER + i * CPUID_ENTRY;
        uint32_t leaf = load_le32(entry);
        if (!leaf_allowed(leaf)) {
            model_broken(call, RULE_CPUID_RANGE, vm, 0, "function 0x%x", leaf);
            good = false;
            continue;
        }
        const char *what = fix_entry(entry);
        if (what) {
            model_broken(call, RULE_CPUID_VALUE, vm, 0, "function 0x%x.%u: %s", leaf,
                         load_le32(entry + 4), what);
            good = false;
        }
    }
    return good;
}
