/* Where a vCPU thread may run: host CPUs, and with whom it may share a core. */
#ifndef HUSK_VMM_PLACEMENT_H
#define HUSK_VMM_PLACEMENT_H

#include "base/error.h"
#include "config/config.h"

/** placement_apply() - for the calling thread. @affinity may be NULL.
 *
 * Core scheduling (Documentation/admin-guide/hw-vuln/core-scheduling.rst): with CORE_SCHEDULING_VCPU the thread gets a
 * cookie of its own; the cookie of CORE_SCHEDULING_VM is the process's, see placement_apply_process().
 *
 * Return: 0 or -errno. A kernel without core scheduling is no error: nothing can be isolated there, which is logged.
 */
int placement_apply(uint32_t vcpu, const struct cpu_affinity *affinity,
                    enum core_scheduling scheduling, struct error *err);

/** placement_apply_process() - CORE_SCHEDULING_VM: all threads from now on share one cookie with nobody else. */
int placement_apply_process(enum core_scheduling scheduling, struct error *err);

#endif
