"""husk's network back-end on a tap interface in a network namespace of the test's own."""

import random
import struct

import pytest

import backends
import net_client
import network
import vhost_user
from net_client import (F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4, F_HOST_UFO, F_HOST_USO, F_MAC, F_MQ, F_MRG_RXBUF, F_MTU,
                        F_STATUS, GSO_TCPV4, NEEDS_CSUM, OFFLOADS, Nic, frame, header)
from vhost_user import RING_FEATURES, Setup


class Wire:
    """A tap interface in a namespace, husk's back-end on it, and a driver on that."""

    def __init__(self, bench, *options, pairs=1, features=F_MRG_RXBUF, **nic):
        self.bench, self.pairs, self.nic_options = bench, pairs, nic
        self.namespace = bench.keep(network.Namespace())
        self.options = ["--tap", "tap0", "--num-queues", str(2 * pairs), *options]
        self.setup = Setup(n_queues=2 * pairs, queue_size=256, features=RING_FEATURES | features)
        self.process, connection = self.start()
        try:
            self.nic = bench.keep(Nic(connection, setup=self.setup, **nic))
        except vhost_user.BackEndError as error:
            raise vhost_user.BackEndError(f"{error}\n{self.process.errors()}") from error
        self.port = bench.keep(network.Port(self.namespace, "tap0"))

    def start(self):
        """A back-end on the tap, which it makes if it is not there."""
        process, connection = self.namespace.run(lambda: backends.on_socketpair(*self.options, kind="net"))
        self.bench.keep(process)
        return process, connection


@pytest.fixture
def wire(bench):
    """Makes a Wire."""
    return lambda *options, **how: Wire(bench, *options, **how)


def test_frames_go_each_way(wire):
    here = wire()
    here.nic.post()
    here.nic.send(frame(b"from the guest"))
    assert here.port.receive()[0] == frame(b"from the guest")
    assert here.nic.sent() == 1
    here.port.send(frame(b"from the host" * 4))
    got = here.nic.receive()
    assert [one.frame for one in got] == [frame(b"from the host" * 4)]
    assert got[0].header == (0, 0, 0, 0, 0, 0, 1)
