"""Programs that are not husk's on husk's block back-end: libblkio, and a guest that QEMU runs."""

import re
import subprocess
import sys

import pytest

import backends
import blkio

sys.path.insert(0, str(backends.ROOT / "tests" / "host"))

import images  # noqa: E402

DISK = 8 << 20
BLOCK = 4096
# How long the emulated guest may take, seconds: about 6 on a machine that does nothing else.
GUEST = 150


@pytest.fixture
def listening(bench):
    """listening(image, *options): husk's back-end on a socket; returns (Process, path of the socket)."""

    def begin(image, *options):
        path = bench.folder / "blk.sock"
        process = bench.keep(backends.Process([backends.husk_backend(), "blk", "--socket", path, "--path", image, *options]))
        backends.connect(process, path).close()
        return process, path

    return begin


@pytest.mark.parametrize("n_queues", [1, 4])
@pytest.mark.parametrize("options", [[], ["--direct"]], ids=["cached", "direct"])
def test_libblkio_reads_and_writes_every_block(bench, listening, n_queues, options):
    image = bench.image()
    _, path = listening(image, "--num-queues", str(n_queues), *options)
    with blkio.Device(path, n_queues) as device:
        assert device.capacity == DISK
        for first in range(0, DISK // BLOCK, 32 * n_queues):
            for queue in range(n_queues):
                for n in range(32):
                    device.read((first + queue * 32 + n) * BLOCK, (queue * 32 + n) * BLOCK, BLOCK, n, queue)
            for queue in range(n_queues):
                assert device.wait(32, queue) == {n: 0 for n in range(32)}
            length = 32 * n_queues * BLOCK
            assert device.bytes[:length] == backends.pattern(1, DISK)[first * BLOCK:first * BLOCK + length]
        for n in range(32):
            device.bytes[n * BLOCK:(n + 1) * BLOCK] = backends.pattern(n + 50, BLOCK)
            device.write(n * 16 * BLOCK, n * BLOCK, BLOCK, n, n % n_queues)
        for queue in range(n_queues):
            assert set(device.wait(32 // n_queues, queue).values()) == {0}
        device.flush()
        assert device.wait(1) == {0: 0}
    data = image.read_bytes()
    for n in range(32):
        assert data[n * 16 * BLOCK:(n * 16 + 1) * BLOCK] == backends.pattern(n + 50, BLOCK)
        assert data[(n * 16 + 1) * BLOCK:(n * 16 + 2) * BLOCK] == backends.pattern(1, DISK)[(n * 16 + 1) * BLOCK:][:BLOCK]


def test_libblkio_discards_and_zeroes(bench, listening):
    image = bench.image()
    _, path = listening(image)
    with blkio.Device(path) as device:
        device.discard(1 << 20, 1 << 20, 1)
        device.write_zeroes(4 << 20, 1 << 20, 2)
        device.write_zeroes(6 << 20, 512, 3, flags=blkio.NO_UNMAP)
        assert device.wait(3) == {1: 0, 2: 0, 3: 0}
    expected = bytearray(backends.pattern(1, DISK))
    for at, length in ((1 << 20, 1 << 20), (4 << 20, 1 << 20), (6 << 20, 512)):
        expected[at:at + length] = bytes(length)
    assert image.read_bytes() == expected


def test_libblkio_is_told_of_a_disk_that_is_read_only(bench, listening):
    image = bench.image()
    _, path = listening(image, "--readonly")
    with pytest.raises(blkio.BlkioError):
        with blkio.Device(path) as device:
            device.write(0, 0, 512)
            device.wait(1)
    with blkio.Device(path, read_only=True) as device:
        device.read(0, 0, BLOCK)
        assert device.wait(1) == {0: 0}
        assert device.bytes[:BLOCK] == backends.pattern(1, BLOCK)


def qemu_guest(path, words, n_queues):
    """Boot Debian's kernel under QEMU (TCG) with the disk behind a socket; returns what the guest printed."""
    command = [*images.qemu_command(), "-machine", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "192M",
               "-object", "memory-backend-memfd,id=ram,size=192M,share=on", "-nodefaults", "-no-user-config",
               "-display", "none", "-no-reboot", "-serial", "stdio",
               "-chardev", f"socket,id=disk,path={path}",
               "-device", f"vhost-user-blk-pci,chardev=disk,num-queues={n_queues}",
               "-kernel", str(images.guest_kernel()), "-initrd", str(images.guest_initramfs()),
               "-append", f"console=ttyS0 quiet panic=-1 {words}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=GUEST, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_a_guest_of_qemus_reads_and_writes_the_disk(bench, listening):
    """The guest sums the disk up as it finds it, copies its second half over its first, and sums up again."""
    image = bench.image()
    process, path = listening(image, "--num-queues", "2", "--serial", "for-qemu")
    said = qemu_guest(path, "husk.disk-copy husk.poweroff", 2)
    assert re.search(r"husk-guest: vda 8388608 bytes, 2 queues, serial for-qemu, ro 0\r*\n", said), said[-2000:]
    before, after = re.findall(r"husk-guest: vda sum ([0-9a-f]{32})", said)
    assert before == backends.md5(backends.pattern(1, DISK))
    data = image.read_bytes()
    assert after == backends.md5(data)
    whole = backends.pattern(1, DISK)
    assert data == whole[DISK // 2:] + whole[DISK // 2:]
    assert process.running()
