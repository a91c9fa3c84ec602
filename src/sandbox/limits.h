/* How much of the host's resources a process of a VM may take. */
#ifndef HUSK_SANDBOX_LIMITS_H
#define HUSK_SANDBOX_LIMITS_H

#include "base/bytes.h"
#include "base/error.h"

/* Of its own, besides guest memory: heap and the stacks of the queues' threads. */
#define LIMIT_BACK_END_BYTES GIB(1)
#define LIMIT_BACK_END_FILES 4096u

/* The VMM's: guest memory, which is shared, does not count. */
#define LIMIT_VMM_BYTES GIB(16)
#define LIMIT_VMM_FILES 65536u

/** limits_vmm() - memory, descriptors, and no core dump. */
int limits_vmm(struct error *err);

/** limits_broker() - what its back-ends may have, who inherit it. */
int limits_broker(struct error *err);

/** limits_back_end() - memory, descriptors (a soft limit is raised to this, or as far as it may be), and no core dump, which would
 * hold guest memory. */
int limits_back_end(struct error *err);

#endif
