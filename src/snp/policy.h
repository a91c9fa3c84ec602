/* The guest policy (SNP firmware ABI, 4.3). */
#ifndef HUSK_SNP_POLICY_H
#define HUSK_SNP_POLICY_H

#include "base/error.h"

#include <stdint.h>

#define SNP_POLICY_MIGRATE_MA (1ULL << 18) /* a migration agent may be given the guest */
#define SNP_POLICY_DEBUG (1ULL << 19)      /* the host may read and write the guest's memory */
#define SNP_POLICY_DEFAULT 0x30000ULL      /* SMT allowed, and the bit that must be one */

/** snp_policy_check() - the bit that must be one is, and no bit is set that has no meaning. 0 or -EINVAL. */
int snp_policy_check(uint64_t policy, struct error *err);

/** snp_policy_describe() - "ABI 0.0, SMT allowed, ..." into @text of SNP_POLICY_TEXT bytes. Returns @text. */
#define SNP_POLICY_TEXT 256
const char *snp_policy_describe(uint64_t policy, char *text);

#endif
