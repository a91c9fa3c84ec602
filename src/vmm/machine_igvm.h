/* The plan of a guest that starts from an IGVM file. */
#ifndef HUSK_VMM_MACHINE_IGVM_H
#define HUSK_VMM_MACHINE_IGVM_H

#include "config/config.h"
#include "launch/plan.h"

/**
 * machine_plan_igvm() - the plan of @config's IGVM file, its parameter areas filled.
 *
 * For its native platform; with sev_snp=on for SEV-SNP; with sev_snp=off what it has for SEV-SNP, as far as there is
 * any, in a guest that nothing isolates. There the first processor starts in its context's state, the others wait for
 * a start-up interrupt.
 *
 * Return: 0, or -errno naming the header that cannot be honoured.
 */
int machine_plan_igvm(struct plan *plan, const struct vm_config *config, struct error *err);

#endif
