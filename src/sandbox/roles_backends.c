/* System calls of the back-ends. What a kind adds to the server's is a list here. */
#include "sandbox/roles_internal.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const struct call_rule back_end[] = {
    /* The in-flight region, made for the front-end that asks for it. */
    CALL(memfd_create), CALL(ftruncate), CALL(dup3), FCNTL(F_ADD_SEALS), FCNTL(F_GET_SEALS),
};

const struct cage_list calls_back_end = {"Every back-end", CALLS(back_end), 0};

static const struct call_rule listening[] = {
    CALL(accept4), CALL(unlink), /* its socket, at the end */
};

const struct cage_list calls_listening = {"With --socket", CALLS(listening), CAGE_LISTENS};

static const struct call_rule disk[] = {
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(preadv2),
    CALL(pwritev2),
    CALL(fdatasync),
    CALL(fsync),
    CALL(fallocate),
    IOCTL(BLKDISCARD),
    /* Rings were made before, and carry out reads, writes, fsync and fallocate only. */
    CALL(io_uring_enter),
    CALL(getrusage),
};

const struct cage_list calls_disk = {"A disk", CALLS(disk), CAGE_DISKS};

static const struct call_rule tap[] = {
    CALL(readv), CALL(writev), IOCTL(TUNSETVNETHDRSZ), IOCTL(TUNSETOFFLOAD), IOCTL(TUNSETQUEUE),
};

const struct cage_list calls_tap = {"A tap", CALLS(tap), CAGE_TAPS};

static const struct call_rule console[] = {
    CALL(readv),
    CALL(writev),
    CALL(pread64), /* the window's size */
    /* A terminal of its own, given back at the end. */
    IOCTL(TIOCGWINSZ),
    IOCTL(TCGETS),
    IOCTL(TCSETS),
    IOCTL(TCGETS2), /* glibc from 2.42 on */
    IOCTL(TCSETS2),
};

const struct cage_list calls_console = {"A console", CALLS(console), CAGE_CONSOLES};

static const struct call_rule streams[] = {
    CALL(accept4),                            /* a host program */
    CALL(readv), CALL(shutdown), CALL(wait4), /* its connector's end */
};

const struct cage_list calls_streams = {"Streams", CALLS(streams), CAGE_STREAMS};

static const struct call_rule connecting[] = {
    CALL_IF(socket, 0, AF_UNIX, "AF_UNIX"), CALL(connect),
    CALL(unlink), /* the device's socket, at the end */
};

const struct cage_list calls_connecting = {"Connecting", CALLS(connecting), CAGE_CONNECTS};
