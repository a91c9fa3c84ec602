/* What machine.c and machine_plan.c must agree on. */
#ifndef HUSK_VMM_MACHINE_LAYOUT_H
#define HUSK_VMM_MACHINE_LAYOUT_H

#include "config/config.h"
#include "x86/tables.h"

/** machine_cpu_layout() - packages, dies, cores, threads; without a topology, one package of single-threaded cores. */
struct cpu_layout machine_cpu_layout(const struct cpus_config *cpus);

#endif
