/* What a tap's kernel side says to offloads, for tests that have sockets or nothing in place of one. */
#ifndef HUSK_TESTS_FAKE_TAP_H
#define HUSK_TESTS_FAKE_TAP_H

/* linux/if_tun.h since 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/** fake_tap_set_offload() - TUNSETOFFLOAD of @offloads, as set_offload() in Linux' drivers/net/tun.c. Returns 0 or -EINVAL. */
int fake_tap_set_offload(unsigned long offloads);

#endif
