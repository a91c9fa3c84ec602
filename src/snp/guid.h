/* GUIDs as firmware stores them: the first three parts little-endian (RFC 9562, 4). */
#ifndef HUSK_SNP_GUID_H
#define HUSK_SNP_GUID_H

#include <stdint.h>

#define GUID_BYTES 16

/* clang-format off */
#define GUID(a, b, c, d, e, f, g, h, i, j, k)                                                      \
    {(a) & 0xff, (a) >> 8 & 0xff, (a) >> 16 & 0xff, (a) >> 24 & 0xff,                              \
     (b) & 0xff, (b) >> 8 & 0xff, (c) & 0xff, (c) >> 8 & 0xff, d, e, f, g, h, i, j, k}
/* clang-format on */

#endif
