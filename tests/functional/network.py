"""A network of a test's own: a namespace with nothing in it but what the test makes, and sockets in it."""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading

import vhost_user

_CLONE_NEWNET = 0x40000000
# An EtherType for experiments (IEEE 802): no host's stack answers it.
EXPERIMENT = 0x88b5
_PACKET_VNET_HDR, _SOL_PACKET = 15, 263
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace. It has no name: it goes with its last descriptor."""

    def __init__(self):
        self.fd = -1
        self.run(lambda: None)

    def run(self, action):
        """What action() returns, called in the namespace by a thread that ends with it."""
        result = []

        def inside():
            try:
                if self.fd < 0:
                    if _libc.unshare(_CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
                    self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                    # The kernel's own frames are not the test's.
                    with contextlib.suppress(FileNotFoundError), \
                            open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as file:
                        file.write("1")
                elif _libc.setns(self.fd, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns()")
                result.append((action(), None))
            except BaseException as error:  # pylint: disable=broad-except
                result.append((None, error))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        value, error = result[0]
        if error:
            raise error
        return value

    def ip(self, *words):
        """iproute2's ip, in the namespace."""
        return self.run(lambda: subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True,
                                               stdin=subprocess.DEVNULL, timeout=60).stdout)

    def wait_for_queues(self, name, count):
        """
        Until so many queues of a multi-queue tap take part. A back-end's threads tell the kernel so when they begin, and until
        then it drops frames, or gives all of them to the other queues.
        """
        vhost_user.until(lambda: f" numqueues {count} " in self.ip("-d", "link", "show", name), f"{count} queues of {name}")

    def socket(self, *kind):
        """A socket of the namespace."""
        return self.run(lambda: socket.socket(*kind))

    def close(self):
        """Let go of it."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Port:
    """The host's end of a tap interface: frames out of and into it, with the header of virtio as the kernel has it."""

    HEADER = struct.Struct("<BBHHHH")

    def __init__(self, namespace, name, ether_type=EXPERIMENT):
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ether_type))
        self.socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.socket.bind((name, ether_type))
        self.socket.settimeout(vhost_user.PATIENCE)

    def send(self, frame, header=bytes(10)):
        """A frame to whoever holds the tap."""
        self.socket.send(header + frame)

    def receive(self):
        """The next frame from whoever holds the tap: (frame, header)."""
        data = self.socket.recv(1 << 17)
        return data[10:], data[:10]

    def waits(self, timeout=0):
        """Whether a frame is there."""
        return bool(select.select([self.socket], [], [], timeout)[0])

    def close(self):
        """Close the socket."""
        self.socket.close()


_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x400454ca, 2, 0x1000, 0x100, 0x4000


def open_tap(namespace, name, multi_queue=False, header=True):
    """A queue of a tap interface; returns its descriptor."""
    def opened():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if header else 0) | (_IFF_MULTI_QUEUE if multi_queue else 0)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        return fd

    return namespace.run(opened)
