/* The block back-end: `husk-backend blk`. */
#ifndef HUSK_BACKENDS_BLK_H
#define HUSK_BACKENDS_BLK_H

#include "backends/kind.h"

extern const struct backend_kind blk_kind;

#endif
