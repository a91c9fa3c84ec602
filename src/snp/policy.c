#include "snp/policy.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define POLICY_MUST_BE_ONE BIT64(17)
#define POLICY_KNOWN 0x3ffffffULL

static const struct {
    unsigned bit;
    const char *meaning;
} policy_bits[] = {
    {16, "SMT allowed"},        {18, "migration agent allowed"},
    {19, "debugging allowed"},  {20, "single socket"},
    {21, "CXL allowed"},        {22, "AES-256-XTS required"},
    {23, "RAPL disabled"},      {24, "ciphertext hiding required"},
    {25, "page swap disabled"},
};

int snp_policy_check(uint64_t policy, struct error *err)
{
    if (!(policy & POLICY_MUST_BE_ONE))
        return error_set(err, -EINVAL, "guest policy 0x%" PRIx64 ": bit 17 must be one", policy);
    if (policy & ~POLICY_KNOWN)
        return error_set(err, -EINVAL,
                         "guest policy 0x%" PRIx64 ": bits 0x%" PRIx64 " have no meaning", policy,
                         (uint64_t)(policy & ~POLICY_KNOWN));
    return 0;
}

const char *snp_policy_describe(uint64_t policy, char *text)
{
    size_t used = (size_t)snprintf(text, SNP_POLICY_TEXT, "ABI %u.%u",
                                   (unsigned)(policy >> 8 & 0xff), (unsigned)(policy & 0xff));
    for (size_t i = 0; i < ARRAY_SIZE(policy_bits) && used < SNP_POLICY_TEXT; i++)
        if (policy >> policy_bits[i].bit & 1)
            used += (size_t)snprintf(text + used, SNP_POLICY_TEXT - used, ", %s",
                                     policy_bits[i].meaning);
    return text;
}
