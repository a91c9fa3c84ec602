/* Why an SEV-SNP guest asked for its own end (GHCB specification, 2.3.1; the sets are those of the software that defines them). */
#ifndef HUSK_SNP_TERMINATION_H
#define HUSK_SNP_TERMINATION_H

#include <stdint.h>

#define SNP_TERMINATION_TEXT 320

/** snp_termination_describe() - what @ghcb, the value of the guest's GHCB MSR, says, and what usually helps; in @text. */
const char *snp_termination_describe(uint64_t ghcb, char text[SNP_TERMINATION_TEXT]);

#endif
