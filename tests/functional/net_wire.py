"""A tap interface in a network namespace of the test's own, husk's network back-end on it, and a driver on that."""

import backends
import network
import vhost_user
from net_client import F_MRG_RXBUF, Nic
from vhost_user import RING_FEATURES, Setup


class Wire:
    """All of it, from the host's end of the tap to the driver."""

    def __init__(self, bench, *options, pairs=1, features=F_MRG_RXBUF, ring=RING_FEATURES, namespace=None, **nic):
        self.bench = bench
        self.namespace = namespace or bench.keep(network.Namespace())
        self.process, connection = self.start("--tap", "tap0", "--num-queues", 2 * pairs, *options)
        setup = Setup(n_queues=2 * pairs, queue_size=256, features=ring | features)
        try:
            self.nic = bench.keep(Nic(connection, setup=setup, **nic))
        except vhost_user.BackEndError as error:
            raise vhost_user.BackEndError(f"{error}\n{self.process.errors()}") from error
        if pairs > 1:
            self.namespace.wait_for_queues("tap0", pairs)
        self.port = bench.keep(network.Port(self.namespace, "tap0"))

    def start(self, *options):
        """A back-end in the namespace: (Process, connected socket)."""
        return start(self.bench, self.namespace, *options)


def start(bench, namespace, *options, pass_fds=()):
    """husk's back-end in a namespace: (Process, connected socket)."""
    process, connection = namespace.run(lambda: backends.on_socketpair(*options, kind="net", pass_fds=pass_fds))
    return bench.keep(process), bench.keep(connection)


def start_on(bench, namespace, *fds):
    """The same on queues of a tap that are open already."""
    words = [word for fd in fds for word in ("--tap-fd", fd)]
    return start(bench, namespace, *words, pass_fds=fds)
