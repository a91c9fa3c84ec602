"""Disks of a guest on the test host: files of the host that husk's block back-end serves, and others that QEMU's does."""

import hashlib
import re
import shlex
import signal

import pytest

import images
import peers

MIB = 1 << 20
SHELL = "husk.shell"


def known(at, length):
    """Bytes of a file that the guest has, too: /bin/busybox."""
    return images.busybox().read_bytes()[at:at + length]


def md5(data):
    """As md5sum prints it."""
    return hashlib.md5(data).hexdigest()


class Disks:
    """Tools on the host, and the files of the disks."""

    def __init__(self, host):
        self.host = host
        self.folder = f"{host.folder}/disks"
        host.run(f"mkdir -p {self.folder}")
        names = images.HOST_TOOLS
        self.words = {name: f"/usr/local/bin/{name}" if host.emulated else shlex.join(peers.tool(name)) for name in names}

    def run(self, tool, arguments, check=True):
        """Run a tool; returns its (status, output)."""
        return self.host.run(f"{self.words[tool]} {arguments} 2>&1", 120, check)

    def make(self, name, mib=64, ext4=False):
        """A new disk; returns its path."""
        path = f"{self.folder}/{name}"
        self.host.run(f"rm -f {path} && truncate -s {mib}M {path}")
        if ext4:
            self.run("mkfs.ext4", f"-q -F {path}")
        return path

    def check_ext4(self, path):
        """Nothing is wrong with the filesystem, without any repair."""
        status, said = self.run("e2fsck", f"-f -n {path}", check=False)
        assert status == 0, said

    def md5(self, path, more=""):
        """MD5 of a file of the host, or of what a command makes of it."""
        return self.host.run(f"md5sum < {path} {more} | cut -c 1-32")[1].strip()


@pytest.fixture
def disks(host):
    """Disks on the host."""
    return Disks(host)


class Shell:
    """A shell in the guest, on its serial port."""

    def __init__(self, machine):
        self.machine, self.count = machine, 0
        machine.expect(r"built-in shell", 180)
        # What is typed before that, while the shell sets up its terminal, may be an end of input to it.
        machine.expect(r"/ # ", 60)
        # What is typed does not come back; what follows is told from it by a mark that no command contains.
        self.run("stty -echo 2>/dev/null; PS1=")

    def run(self, command, timeout=150, status=0):
        """Run a command in the guest; returns what it printed. Its status must be the given one, unless that is None."""
        self.count += 1
        self.machine.process.write(f"{command}; echo @do''ne {self.count} $?@\n".encode())
        match = self.machine.expect(rf"(?s)(.*?)@done {self.count} (\d+)@", timeout)
        if status is not None:
            assert int(match[2]) == status, match[0]
        return match[1].decode(errors="replace")

    def off(self):
        """End the shell, upon which the guest switches off; husk must end well."""
        self.machine.process.write(b"exit\n")
        self.machine.ends_with(0)


def backend_pids(host):
    """The numbers of all husk-backend processes on the host."""
    return host.run("pidof husk-backend", check=False)[1].split()


def all_gone(host):
    """Wait until no husk-backend is left on the host."""
    host.run("for n in $(seq 1 600); do pidof husk-backend || exit 0; sleep 0.1; done; exit 1")


def listens(host, path):
    """Wait until somebody listens on a UNIX socket of the host, which is there a moment before that: a flag tells."""
    host.run(f"for n in $(seq 1 600); do grep -q ' 00010000 .* {path}$' /proc/net/unix && exit 0; sleep 0.1; done; exit 1")


def guest_line(machine, disk):
    """What the guest says of a disk: (bytes, queues, serial, read-only)."""
    found = machine.expect(rf"husk-guest: {disk} (\d+) bytes, (\d+) queues, serial (\S*), ro (\d)\r*\n", 180)
    return int(found[1]), int(found[2]), found[3].decode(), int(found[4])


@pytest.mark.parametrize("queues", [1, 4])
def test_ext4_on_a_disk_is_intact_after_power_off(host, disks, debian, queues):
    path, locked = disks.make("ext4.raw", ext4=True), disks.make("readonly.raw", 1)
    host.run(f"head -c {MIB} /dev/urandom > {locked}")
    before = disks.md5(locked)
    machine = debian(SHELL, "--disk", f"path={path},num_queues={queues},serial=ext4-disk", f"path={locked},readonly=on",
                     cpus=queues)
    assert guest_line(machine, "vda") == (64 * MIB, queues, "ext4-disk", 0)
    assert guest_line(machine, "vdb")[3] == 1
    shell = Shell(machine)
    shell.run("mkdir /mnt && mount -t ext4 /dev/vda /mnt")
    shell.run("for n in 0 1 2 3; do (mkdir /mnt/$n && dd if=/bin/busybox of=/mnt/$n/file bs=64k skip=$n count=6) & done;"
              " wait; sync; echo 3 > /proc/sys/vm/drop_caches")
    said = shell.run("md5sum /mnt/0/file /mnt/1/file /mnt/2/file /mnt/3/file")
    assert re.findall(r"([0-9a-f]{32})  /mnt", said) == [md5(known(n << 16, 6 << 16)) for n in range(4)]
    # A disk that is read-only takes no write, whoever asks.
    shell.run("dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync", status=1)
    shell.run("blockdev --setrw /dev/vdb; dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync", status=1)
    shell.run("umount /mnt")
    shell.off()
    disks.check_ext4(path)
    assert disks.md5(locked) == before


def test_what_was_synced_survives_the_end_of_husk(host, disks, debian):
    path = disks.make("cut.raw", ext4=True)
    machine = debian(SHELL, "--disk", f"path={path}")
    shell = Shell(machine)
    shell.run("mkdir /mnt && mount -t ext4 /dev/vda /mnt && cp /bin/busybox /mnt && sync")
    machine.press(signal.SIGKILL)
    machine.ends_with(128 + signal.SIGKILL)
    # No process is left that could still write.
    all_gone(host)
    machine = debian(SHELL, "--disk", f"path={path}")
    shell = Shell(machine)
    shell.run("mkdir /mnt && mount -t ext4 /dev/vda /mnt && cmp /mnt/busybox /bin/busybox && umount /mnt")
    shell.off()
    disks.check_ext4(path)


def test_a_second_husk_is_refused_the_disk_with_a_sentence(host, disks, start):
    path = disks.make("shared.raw", 1)
    spin = ["--kernel", f"{host.folder}/spin.elf", "--memory", "size=64M"]
    first = start(*spin, "--disk", f"path={path}")
    first.event("booted")
    second = start(*spin, "--disk", f"path={path}")
    second.ends_with(1)
    said = second.process.errors.decode()
    assert path in said and "in use" in said, said
    # Two that only read share it, once the writer is gone.
    first.press(signal.SIGKILL)
    first.ends_with(128 + signal.SIGKILL)
    all_gone(host)
    readers = [start(*spin, "--disk", f"path={path},readonly=on") for _ in range(2)]
    for reader in readers:
        reader.event("booted")


def test_a_block_back_end_that_is_killed_twice_in_the_middle_of_writes_loses_nothing(host, disks, debian):
    path = disks.make("kill.raw", 16)
    machine = debian(SHELL, "--disk", f"path={path},num_queues=2", cpus=2)
    shell = Shell(machine)
    # Two writers at once, each block of its own, each synced, and each from a file that is known here.
    machine.process.write(b"for w in 0 1; do (n=0; while [ $n -lt 40 ]; do at=$((n * 2 + w)); dd if=/bin/busybox of=/dev/vda "
                          b"bs=16k skip=$at seek=$at count=1 conv=notrunc,fsync 2>/dev/null || echo 'husk-guest: failed' $at;"
                          b" echo 'husk-guest: at' $n; n=$((n + 1)); done) & done; wait; echo 'husk-guest: all' 'written'\n")
    for at in (4, 20):
        machine.expect(rf"husk-guest: at {at}\r*\n", 180)
        pids = backend_pids(host)
        assert len(pids) == 1
        host.run(f"kill -9 {pids[0]}")
        host.run(f'for n in $(seq 1 600); do p=$(pidof husk-backend) && [ "$p" != {pids[0]} ] && exit 0; sleep 0.05; done; '
                 "exit 1")
    machine.expect(r"husk-guest: all written", 180)
    assert b"husk-guest: failed" not in machine.process.output
    shell.run("echo 3 > /proc/sys/vm/drop_caches; head -c 1310720 /dev/vda > /read; head -c 1310720 /bin/busybox | cmp - /read")
    shell.off()
    assert host.run(f"head -c 1310720 {path} | md5sum")[1].split()[0] == md5(known(0, 1310720))


def test_a_stopped_block_back_end_stops_nothing_else(host, disks, debian):
    path = disks.make("stop.raw", 4)
    machine = debian("husk.disk-write husk.cut", "--disk", f"path={path}")
    machine.expect(r"husk-guest: waiting for the power button", 180)
    machine.expect(r"husk-guest: written", 60)
    pids = backend_pids(host)
    host.run(f"kill -STOP {' '.join(pids)}")
    machine.press(signal.SIGTERM)
    machine.event("power-button")
    machine.expect(r"husk-guest: power button pressed", 60)
    # It is still stopped: the end of the machine does not wait for it beyond the bound.
    machine.ends_with(0)
    all_gone(host)


def test_another_disk_goes_on_while_back_ends_are_stopped_and_the_end_waits_for_all_of_them_at_once(host, disks, debian):
    paths = [disks.make(f"stop{n}.raw", 4) for n in range(4)]
    machine = debian(SHELL, *(word for path in paths for word in ("--disk", f"path={path}")))
    shell = Shell(machine)
    stopped = [pid for pid in backend_pids(host) if "_disk3" not in host.run(f"tr '\\0' ' ' < /proc/{pid}/cmdline")[1]]
    assert len(stopped) == 3
    host.run(f"kill -STOP {' '.join(stopped)}")
    for disk in "abc":
        shell.run(f"dd if=/bin/busybox of=/dev/vd{disk} bs=64k count=1 conv=notrunc,fsync 2>/dev/null & true")
    shell.run("dd if=/bin/busybox of=/dev/vdd bs=64k count=4 conv=notrunc,fsync")
    assert shell.run("head -c 262144 /dev/vdd | md5sum") == shell.run("head -c 262144 /bin/busybox | md5sum")
    machine.press(signal.SIGTERM)
    machine.event("power-button")
    machine.press(signal.SIGTERM)
    # Each has 5 seconds, the same ones.
    ends = [machine.expect(r"husk\[\d+\] \S+:(\d+):([\d.]+)Z warning: _disk\d: its back-end does not end", 60) for _ in stopped]
    seconds = [int(end[1]) * 60 + float(end[2]) for end in ends]
    # Any of them may be told of first, and an hour may end meanwhile. One after another, the last would come 10 later.
    assert all(abs((second - seconds[0] + 1800) % 3600 - 1800) < 9 for second in seconds)
    machine.ends_with(143)
    all_gone(host)


def test_husk_uses_a_qcow2_image_that_qemus_storage_daemon_serves(host, disks, debian):
    image, socket = f"{disks.folder}/image.qcow2", f"{disks.folder}/qsd.sock"
    raw = disks.make("for-qcow2.raw", ext4=True)
    disks.run("qemu-img", f"convert -f raw -O qcow2 {raw} {image}")
    daemon = host.start(f"exec {disks.words['qemu-storage-daemon']} --blockdev driver=file,node-name=f,filename={image} "
                        "--blockdev driver=qcow2,node-name=q,file=f --export type=vhost-user-blk,id=e,node-name=q,"
                        f"addr.type=unix,addr.path={socket},writable=on,num-queues=2")
    try:
        listens(host, socket)
        machine = debian(SHELL, "--disk", f"vhost_user=on,socket={socket},num_queues=2", cpus=2)
        assert guest_line(machine, "vda")[:2] == (64 * MIB, 2)
        shell = Shell(machine)
        shell.run("mkdir /mnt && mount -t ext4 /dev/vda /mnt && cp /bin/busybox /mnt && umount /mnt")
        shell.run("mount -t ext4 /dev/vda /mnt && cmp /mnt/busybox /bin/busybox && umount /mnt")
        shell.off()
        # husk left the daemon alone: it was not husk's.
        assert daemon.status is None
    finally:
        daemon.kill(signal.SIGTERM)
    daemon.wait(120)
    status, said = disks.run("qemu-img", f"check {image}")
    assert status == 0 and "No errors were found" in said, said
    disks.run("qemu-img", f"convert -f qcow2 -O raw {image} {raw}")
    disks.check_ext4(raw)
