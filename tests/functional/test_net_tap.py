"""Which tap interfaces husk's network back-end takes, whose they are, and what it says to wrong options."""

import contextlib
import fcntl
import os
import struct
import subprocess

import pytest

import backends
import network
from net_client import F_MQ, F_MRG_RXBUF, F_MTU, Nic, frame
from net_wire import Wire, start, start_on
from vhost_user import RING_FEATURES, Setup

_TUNSETQUEUE, _IFF_DETACH_QUEUE = 0x400454d9, 0x400
IN_USE = "tap interface 'tap0' cannot be opened: Device or resource busy"


@pytest.fixture
def namespace(bench):
    """A network namespace."""
    return bench.keep(network.Namespace())


@pytest.fixture
def held(bench, namespace):
    """Opens a queue of a tap of the namespace; returns its descriptor."""
    with contextlib.ExitStack() as stack:
        bench.keep(stack)

        def opened(name="tap0", **how):
            fd = network.open_tap(namespace, name, **how)
            stack.callback(os.close, fd)
            return fd
        yield opened


def refused(bench, namespace, *options, status=1, pass_fds=()):
    """What a back-end says that does not start."""
    process, _ = start(bench, namespace, *options, pass_fds=pass_fds)
    assert process.ends() == status, process.errors()
    return process.errors()


def serves(nic, port, pairs=1):
    """A frame goes each way."""
    for pair in range(pairs):
        nic.send(frame(b"to the host by %d" % pair), pair=pair)
        assert port.receive()[0] == frame(b"to the host by %d" % pair)
        nic.post(4, pair)
    if pairs == 1:
        port.send(frame(b"to the guest"))
        assert nic.receive()[0].frame == frame(b"to the guest")


def test_a_tap_that_was_made_for_it_goes_with_it(bench, namespace):
    here = Wire(bench, namespace=namespace)
    assert "tap0" in namespace.ip("link", "show")
    serves(here.nic, here.port)
    here.nic.close()
    assert here.process.ends() == 0
    assert "tap0" not in namespace.ip("link", "show")


@pytest.mark.parametrize("words, pairs", [([], 1), (["multi_queue"], 1), (["multi_queue"], 2)],
                         ids=["one queue", "one of several queues", "two queues"])
def test_a_tap_that_was_there_is_used_and_stays(bench, namespace, words, pairs):
    namespace.ip("tuntap", "add", "tap0", "mode", "tap", *words)
    for _ in range(2):
        here = Wire(bench, namespace=namespace, pairs=pairs, features=F_MRG_RXBUF | F_MQ)
        serves(here.nic, here.port, pairs)
        here.nic.close()
        assert here.process.ends() == 0
    assert "tap0" in namespace.ip("link", "show")


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_tap_that_is_open_already_is_used(bench, namespace, held, pairs):
    fds = [held(multi_queue=pairs > 1) for _ in range(pairs)]
    namespace.ip("link", "set", "tap0", "up")
    _, connection = start_on(bench, namespace, *fds)
    nic = Nic(connection, setup=Setup(n_queues=2 * pairs, features=RING_FEATURES | F_MQ | F_MRG_RXBUF))
    port = bench.keep(network.Port(namespace, "tap0"))
    serves(nic, port, pairs)
    assert nic.config()[2] == pairs


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("pairs", [1, 2])
def test_a_tap_of_several_queues_that_another_back_end_has_is_refused_until_that_ends(bench, namespace, pairs, persistent):
    if persistent:
        namespace.ip("tuntap", "add", "tap0", "mode", "tap", "multi_queue")
    first = Wire(bench, namespace=namespace, pairs=2)
    said = refused(bench, namespace, "--tap", "tap0", "--num-queues", 2 * pairs)
    assert IN_USE in said and "Another program has it." in said
    # Which takes nothing from the one that has it.
    serves(first.nic, first.port)
    first.nic.close()
    assert first.process.ends() == 0
    Wire(bench, namespace=namespace, pairs=pairs)


def test_a_tap_of_one_queue_that_another_program_has_is_refused(bench, namespace, held):
    held()
    assert IN_USE in refused(bench, namespace, "--tap", "tap0")


def test_a_tap_of_which_another_program_has_a_queue_that_rests_is_refused(bench, namespace, held):
    fd = held(multi_queue=True)
    fcntl.ioctl(fd, _TUNSETQUEUE, struct.pack("16sH22x", b"", _IFF_DETACH_QUEUE))
    assert IN_USE in refused(bench, namespace, "--tap", "tap0")


def test_a_tap_of_that_name_in_another_namespace_is_no_hindrance(bench, namespace):
    Wire(bench, namespace=namespace, pairs=2)
    Wire(bench, pairs=2)


def test_what_is_no_tap_for_it_is_refused(bench, namespace, held):
    namespace.ip("tuntap", "add", "tun0", "mode", "tun")
    namespace.ip("tuntap", "add", "tap9", "mode", "tap")
    hint = "It is no tap, or is not made for several queues (multi_queue)."
    for words in (["--tap", "tun0"], ["--tap", "lo"], ["--tap", "tap9", "--num-queues", "4"]):
        assert hint in refused(bench, namespace, *words)
    assert "a name has at most 15 bytes" in refused(bench, namespace, "--tap", "sixteen-bytes-or")
    bare, one = held("tap1", header=False), held("tap2")
    null = os.open(os.devnull, os.O_RDWR)
    with open(null, "wb"):
        for fds, sentence in (([bare], f"descriptor {bare}: it must be a tap with IFF_VNET_HDR and IFF_NO_PI"),
                              ([null], f"descriptor {null} is no tap interface"),
                              ([one, one], "'tap2' is not made for several queues (multi_queue)")):
            words = [word for fd in fds for word in ("--tap-fd", fd)]
            assert sentence in refused(bench, namespace, *words, pass_fds=fds)


def test_a_descriptor_whose_interface_was_deleted_is_refused_as_that(bench, namespace, held):
    fd = held("tap3")
    namespace.ip("link", "del", "tap3")
    assert f"descriptor {fd}: its tap interface was deleted" in refused(bench, namespace, "--tap-fd", fd, pass_fds=[fd])


@pytest.mark.parametrize("words, sentence", [
    ([], "give either --tap or --tap-fd"),
    (["--tap", "t", "--tap-fd", "9"], "give either --tap or --tap-fd"),
    (["--tap", "t", "--num-queues", "3"], "--num-queues takes an even number, not 3"),
    (["--tap", "t", "--num-queues", "66"], "--num-queues takes a number from 2 to 64, not '66'"),
    (["--tap-fd", "9", "--num-queues", "4"], "4 queues need --tap-fd 2 times, not 1"),
    (["--tap-fd", "x"], "--tap-fd x: not a descriptor"),
    (["--tap-fd", "9"] * 33, "--tap-fd can be given 32 times"),
    (["--tap", "t", "--queue-size", "24"], "--queue-size takes a power of two, not 24"),
    (["--tap", "t", "--queue-size", "8192"], "--queue-size takes a number from 16 to 4096, not '8192'"),
    (["--tap", "t", "--mtu", "67"], "--mtu takes a number from 68 to 65535, not '67'"),
    (["--tap", "t", "--mac", "01:00:00:00:00:00"], "--mac takes an address of one interface, as 52:54:00:12:34:56"),
    (["--tap", "t", "--mac", "52:54"], "--mac takes an address of one interface, as 52:54:00:12:34:56"),
    (["--tap", "t", "--bw-size", "9"], "--bw-size and --bw-refill-time belong together"),
    (["--tap", "t", "--bw-refill-time", "9"], "--bw-size and --bw-refill-time belong together"),
    (["--tap", "t", "--ops-size", "9"], "--ops-size and --ops-refill-time belong together"),
    (["--tap", "t", "--ops-size", "many"], "--ops-size takes a number from 0"),
])
def test_a_wrong_option_is_refused_with_a_sentence_of_its_own(words, sentence):
    done = subprocess.run([backends.husk_backend(), "net", "--fd", "0", *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2 and sentence in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_the_configuration_tells_what_the_options_say(bench):
    here = Wire(bench, "--mac", "52:54:00:12:34:56", "--mtu", "9000", pairs=2, features=F_MTU | F_MQ)
    assert here.nic.front.features & F_MTU and here.nic.front.features & F_MQ
    assert here.nic.config() == (bytes.fromhex("525400123456"), 1, 2, 9000)
    assert "mtu 9000 " in here.namespace.ip("link", "show", "tap0")


def test_what_the_options_do_not_say_is_not_offered(bench):
    first, second = Wire(bench), Wire(bench)
    assert not first.nic.front.offered & (F_MTU | F_MQ)
    macs = [here.nic.config()[0] for here in (first, second)]
    # Of one interface, administered locally; each another one.
    assert all(mac[0] & 3 == 2 for mac in macs) and macs[0] != macs[1]


def test_an_mtu_that_the_kernel_does_not_take_is_refused(bench, namespace):
    said = refused(bench, namespace, "--tap", "tap0", "--mtu", "65535")
    assert "tap interface 'tap0' does not take an MTU of 65535" in said


def test_an_interface_that_is_deleted_is_told_of_once_and_gives_buffers_back(bench):
    here = Wire(bench, pairs=2, features=F_MRG_RXBUF | F_MQ)
    for pair in (0, 1):
        here.nic.post(4, pair)
    here.namespace.ip("link", "del", "tap0")
    for pair in (0, 1):
        here.nic.send(frame(b"to nobody"), pair=pair)
        assert here.nic.sent(pair=pair) == 1
    # The queues can be stopped, with all buffers that the driver gave; then all that they had to say is said.
    assert [here.nic.front.stop_queue(queue) for queue in here.nic.front.queues] == [0, 1, 0, 1]
    assert here.process.errors().count("the tap interface does not work any more") == 1
    assert here.process.running()
