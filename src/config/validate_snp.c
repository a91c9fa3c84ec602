/* The options of an SEV-SNP guest, and what they have between them. */
#include "config/options.h"
#include "config/table.h"

#include "base/bytes.h"
#include "base/hex.h"
#include "base/units.h"
#include "snp/kernel_hashes.h"
#include "snp/policy.h"

#include <errno.h>
#include <string.h>

static int check_hex(const char *option, const char *text, size_t len, struct error *err)
{
    uint8_t bytes[64];
    if (!text || (len <= sizeof(bytes) && hex_parse(text, bytes, len)))
        return 0;
    return error_set(err, -EINVAL, "%s: '%s' is not %zu hexadecimal digits", option, text, 2 * len);
}

static int check_bits(const char *option, const char *text, uint64_t *bits, struct error *err)
{
    int ret = text ? units_parse_bits(text, bits) : 0;
    if (ret == 0)
        return 0;
    return error_set(err, -EINVAL, "%s: '%s' is no number of 64 bits, such as 0x30000", option,
                     text);
}

/** only_for_snp() - the first option given that means nothing to other guests; NULL: none. */
static const char *only_for_snp(const struct vm_config *config)
{
    const struct platform_config *platform = &config->platform;
    const struct {
        bool given;
        const char *option;
    } options[] = {
        {platform->policy, "--platform policy"},
        {platform->vmsa_features, "--platform vmsa_features"},
        {platform->gosvw, "--platform gosvw"},
        {platform->id_block, "--platform id_block"},
        {platform->id_auth, "--platform id_auth"},
        {platform->certs, "--platform certs"},
        {platform->author_key, "--platform author_key"},
        {platform->vcek_disabled, "--platform vcek_disabled"},
        {config->payload.host_data, "--host-data"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        if (options[i].given)
            return options[i].option;
    return NULL;
}

enum switch_state config_kernel_hashes(const struct platform_config *platform, uint64_t *gpa)
{
    const char *text = platform->kernel_hashes;
    *gpa = 0;
    if (!text)
        return SWITCH_UNSET;
    if (strcmp(text, "off") == 0)
        return SWITCH_OFF;
    if (strcmp(text, "on") != 0)
        units_parse_bits(text, gpa);
    return SWITCH_ON;
}

/** check_hashes() - on, off, or an address at which they lie in one page. */
static int check_hashes(const char *text, struct error *err)
{
    uint64_t gpa;
    if (!text || strcmp(text, "on") == 0 || strcmp(text, "off") == 0)
        return 0;
    if (units_parse_bits(text, &gpa) < 0 || gpa == 0)
        return error_set(err, -EINVAL,
                         "--platform kernel_hashes: '%s' is neither on nor off nor an address",
                         text);
    if (gpa % PAGE_BYTES > PAGE_BYTES - KERNEL_HASHES_BYTES)
        return error_set(err, -EINVAL,
                         "--platform kernel_hashes: %d bytes at %s do not lie in one page",
                         KERNEL_HASHES_BYTES, text);
    return 0;
}

int config_validate_snp(const struct vm_config *config, struct error *err)
{
    const struct platform_config *platform = &config->platform;
    uint64_t bits = 0;
    const char *alone = only_for_snp(config);
    if (config->platform.sev_snp != SWITCH_ON && alone)
        return error_set(err, -EINVAL, "%s is for --platform sev_snp=on", alone);
    int ret = check_bits("--platform policy", platform->policy, &bits, err);
    if (ret == 0 && platform->policy && snp_policy_check(bits, err) < 0)
        ret = error_context(err, "--platform policy");
    if (ret == 0)
        ret = check_bits("--platform vmsa_features", platform->vmsa_features, &bits, err);
    if (ret == 0)
        ret = check_hashes(platform->kernel_hashes, err);
    if (ret == 0)
        ret = check_hex("--platform gosvw", platform->gosvw, 16, err);
    if (ret == 0)
        ret = check_hex("--host-data", config->payload.host_data, 32, err);
    if (ret < 0)
        return ret;
    if (platform->vmsa_features && config->payload.igvm)
        return error_set(err, -EINVAL,
                         "--platform vmsa_features: an IGVM file's contexts have their own");
    if (!platform->id_block != !platform->id_auth)
        return error_set(err, -EINVAL, "--platform: id_block and id_auth go together");
    if (platform->author_key && !platform->id_auth)
        return error_set(err, -EINVAL, "--platform: author_key=on is for id_auth");
    return 0;
}
