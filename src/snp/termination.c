#include "snp/termination.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>

#define MSR_INFO(ghcb) ((ghcb)&0xfff)
#define MSR_TERMINATE 0x100
#define SET_GENERAL 0
#define SET_LINUX 1

/* Set 0: the GHCB specification's own. */
static const char *const general[] = {
    [0] = "a general termination request",
    [1] = "it does not support the host's GHCB protocol version: the kernel or husk's guest is too "
          "old",
    [2] = "it does not support the SEV-SNP features that are on: leave out vmsa_features=, or take "
          "a newer guest",
};

/* Set 1: Linux (arch/x86/include/asm/sev-common.h of 6.12; 10 and above of 6.18). */
static const char *const in_linux[] = {
    [0] = "the GHCB could not be registered",
    [1] = "a page could not be made shared or private: the host refused it",
    [2] = "a page could not be validated (PVALIDATE): the host changed it, or it was given twice",
    [3] = "it does not run at VMPL 0, where it wants to run",
    [4] = "the CPUID page is not one that it can use",
    [5] = "the processor says another thing of CPUID than the host",
    [6] = "the secrets page is not there, or not one that it can use",
    [7] = "there is no SVSM, which it needs",
    [8] = "the SVSM is at VMPL 0, where it must not be",
    [9] = "the SVSM's calling area is not valid",
    [10] = "secure TSC could not be set up",
    [11] = "the SVSM's calling area could not be moved",
    [12] = "secure AVIC could not be set up",
};

const char *snp_termination_describe(uint64_t ghcb, char text[SNP_TERMINATION_TEXT])
{
    unsigned set = ghcb >> 12 & 0xf, reason = ghcb >> 16 & 0xff;
    const char *known = NULL;
    if (MSR_INFO(ghcb) != MSR_TERMINATE) {
        /* Asked through the GHCB page, which is encrypted or gone by now. */
        snprintf(text, SNP_TERMINATION_TEXT,
                 "the reason is in a page at 0x%" PRIx64
                 " that husk does not read; the host's kernel logs it",
                 ghcb);
        return text;
    }
    if (set == SET_GENERAL && reason < ARRAY_SIZE(general))
        known = general[reason];
    else if (set == SET_LINUX && reason < ARRAY_SIZE(in_linux))
        known = in_linux[reason];
    snprintf(text, SNP_TERMINATION_TEXT, "reason set %u%s, reason %u%s%s", set,
             set == SET_LINUX ? " (Linux)" : "", reason, known ? ": " : "",
             known ? known : (set > SET_LINUX ? "; a set of the firmware's own" : ""));
    return text;
}
