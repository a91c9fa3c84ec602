/* The sink that writes a launch plan's pages into guest RAM. */
#ifndef HUSK_MEMORY_LOAD_H
#define HUSK_MEMORY_LOAD_H

#include "launch/plan.h"
#include "memory/memory.h"

/**
 * memory_load_plan() - write every run that has bytes. RAM is zero before.
 *
 * Return: 0; -EFAULT naming the run that lies outside of RAM; -ENODATA if a file has become shorter since the plan was
 * made; -errno from reading it.
 */
int memory_load_plan(const struct guest_memory *memory, const struct plan *plan, struct error *err);

#endif
