/* Capabilities: the rights of root, one by one. */
#ifndef HUSK_SANDBOX_CAPABILITIES_H
#define HUSK_SANDBOX_CAPABILITIES_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define CAPABILITY(number) (UINT64_C(1) << (number))

/** capabilities_keep() - give up for good all that are not in @kept, by CAPABILITY() of CAP_*. What it does not have it does not gain.
 * Returns 0 or -errno with @err filled.
 */
int capabilities_keep(uint64_t kept, struct error *err);

/** capabilities_bound() - programs that this process executes, as root too, get none that are not in @kept. */
void capabilities_bound(uint64_t kept);

/** capabilities_any() - whether the process has one in effect. */
bool capabilities_any(void);

#endif
