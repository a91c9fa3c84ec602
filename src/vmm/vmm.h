/* The machine from start to end: the door of vmm/ for the subcommands. */
#ifndef HUSK_VMM_VMM_H
#define HUSK_VMM_VMM_H

#include "base/error.h"
#include "config/config.h"

/* How a run ended, as husk's exit status. docs/errors.md lists them. */
enum vmm_exit {
    VMM_EXIT_POWER_OFF = 0,      /* the guest switched itself off */
    VMM_EXIT_ERROR = 1,          /* the machine could not be made or kept running */
    VMM_EXIT_USAGE = 2,          /* a wrong option */
    VMM_EXIT_RESET = 3,          /* the guest asked for a reset and --no-reboot was given */
    VMM_EXIT_TRIPLE_FAULT = 4,   /* the guest took a triple fault */
    VMM_EXIT_INTERNAL_ERROR = 5, /* KVM could not go on with the guest */
    VMM_EXIT_FAIL_ENTRY = 6,     /* the processor refused to enter the guest */
    VMM_EXIT_MEMORY_FAULT = 7,   /* the guest asked for private or shared memory that cannot be */
    VMM_EXIT_TERMINATED = 8,     /* an SEV-SNP guest asked for its own end */
    VMM_EXIT_SIGNAL = 128,       /* plus the number of the signal that ended husk */
};

/**
 * vmm_run() - make the machine that @config describes, run it until it ends, take it down.
 * @config: validated; must outlive the call.
 *
 * Blocks the signals it handles in the calling thread. Reboots are done inside.
 *
 * Return: an exit status (>= 0, see enum vmm_exit), or -errno with @err filled if the machine could not be made.
 */
int vmm_run(const struct vm_config *config, struct error *err);

#endif
