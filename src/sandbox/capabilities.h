/* Capabilities (capabilities(7)): what a process of root's may do that others may not. */
#ifndef HUSK_SANDBOX_CAPABILITIES_H
#define HUSK_SANDBOX_CAPABILITIES_H

#include "base/error.h"

#include <stdbool.h>

/**
 * capabilities_drop() - give up all of them for good.
 * @reaches_sockets: but that to reach sockets and folders of other users.
 */
int capabilities_drop(bool reaches_sockets, struct error *err);

#endif
