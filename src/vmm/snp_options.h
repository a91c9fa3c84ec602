/* What the command line changes of an SEV-SNP guest's plan. */
#ifndef HUSK_VMM_SNP_OPTIONS_H
#define HUSK_VMM_SNP_OPTIONS_H

#include "base/error.h"
#include "config/config.h"
#include "launch/plan.h"

/**
 * snp_apply_options() - policy, ID block and its authentication as @config, validated, has them; else @plan keeps what its
 * file says. An ID block has to have the policy of the launch.
 *
 * Return: 0, or -errno with a sentence that names option and file.
 */
int snp_apply_options(struct plan *plan, const struct vm_config *config, struct error *err);

#endif
