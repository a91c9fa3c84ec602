#include "fake_tap.h"

#include <errno.h>
#include <linux/if_tun.h>

int fake_tap_set_offload(unsigned long offloads)
{
    const unsigned long tso = TUN_F_TSO4 | TUN_F_TSO6, uso = TUN_F_USO4 | TUN_F_USO6;
    unsigned long known = 0;
    if (offloads & TUN_F_CSUM) {
        known = TUN_F_CSUM | TUN_F_UFO;
        if (offloads & tso)
            known |= tso | TUN_F_TSO_ECN;
        if ((offloads & uso) == uso)
            known |= uso;
    }
    return offloads & ~known ? -EINVAL : 0;
}
