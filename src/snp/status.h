/* What the SEV firmware answers: the status of a command, by name and with what usually helps (SNP firmware ABI, table 5). */
#ifndef HUSK_SNP_STATUS_H
#define HUSK_SNP_STATUS_H

#include <stdint.h>

/* INVALID_PARAM: to a CPUID page, that it has been corrected. */
#define SNP_STATUS_INVALID_PARAM 0x16u

/** snp_status_name() - "POLICY_FAILURE"; "status unknown to husk" for others. */
const char *snp_status_name(uint32_t status);

/** snp_status_help() - what usually helps, as one sentence; NULL where there is nothing to say. */
const char *snp_status_help(uint32_t status);

#endif
