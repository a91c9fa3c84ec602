"""A directory of the host that virtiofsd serves to a guest, over husk's front-end."""

import re
import shlex

import pytest

import peers
from test_disk import MIB, SHELL, Shell, backend_pids, known, md5

TAG = "shared"


class Directory:
    """A directory of the host, virtiofsd on it, and a guest that has mounted it."""

    def __init__(self, host, debian):
        self.host, self.folder = host, f"{host.folder}/fs"
        self.path, self.socket = f"{self.folder}/root", f"{self.folder}/socket"
        host.run(f"rm -rf {self.folder} && mkdir -p {self.path}")
        self.daemon = None
        self.serve()
        self.machine = debian(SHELL, "--fs", f"tag={TAG},socket={self.socket}")
        self.shell = Shell(self.machine)

    def serve(self):
        """Start virtiofsd. Its own sandbox wants namespaces of a root file system that can be left."""
        program = "/usr/local/bin/virtiofsd" if self.host.emulated else shlex.join(peers.tool("virtiofsd"))
        self.daemon = self.host.start(f"rm -f {self.socket}; exec {program} --socket-path {self.socket} "
                                      f"--shared-dir {self.path} --sandbox none --seccomp none")
        self.daemon.expect("Waiting for vhost-user socket connection", 60, "errors")

    def mount(self):
        """Mount it in the guest, at /shared."""
        self.shell.run(f"mkdir -p /shared && mount -t virtiofs {TAG} /shared")

    def close(self):
        """End virtiofsd, which ends with its connection."""
        if self.daemon.status is None:
            self.daemon.kill()
            self.daemon.wait(120)


@pytest.fixture
def directory(host, debian):
    """A Directory."""
    made = Directory(host, debian)
    yield made
    if not host.lost:
        made.close()


def test_guest_and_host_share_files_over_virtiofsd(host, directory):
    directory.host.run(f"echo from the host > {directory.path}/greeting")
    directory.mount()
    assert "from the host" in directory.shell.run("cat /shared/greeting")
    assert TAG in directory.shell.run("cat /sys/fs/virtiofs/*/tag 2>/dev/null || grep virtiofs /proc/mounts")
    # What the guest writes, the host finds; and a file of which the host made another meanwhile.
    directory.shell.run("mkdir /shared/made && cp /bin/busybox /shared/made/busybox && mv /shared/greeting /shared/made/seen && sync")
    length = len(known(0, 64 * MIB))
    said = host.run(f"md5sum {directory.path}/made/busybox; cat {directory.path}/made/seen; ls {directory.path}")[1]
    assert re.search(r"[0-9a-f]{32}", said)[0] == md5(known(0, length))
    assert "from the host" in said and "greeting" not in said
    said = directory.shell.run("echo 3 > /proc/sys/vm/drop_caches; md5sum /shared/made/busybox; umount /shared")
    assert re.search(r"[0-9a-f]{32}", said)[0] == md5(known(0, length))
    # None of husk's serves it.
    assert not backend_pids(host)
    directory.shell.off()


def test_a_virtiofsd_that_ends_leaves_the_guest_running_and_the_next_is_mounted_anew(host, directory):
    directory.mount()
    directory.shell.run("umount /shared")
    directory.daemon.kill()
    directory.machine.event("backend-died")
    directory.machine.event("needs-reset")
    # Its lock on the socket goes with the process.
    directory.daemon.wait(120)
    directory.serve()
    directory.machine.event("backend-restarted")
    directory.shell.run("cd /sys/bus/virtio/drivers/virtiofs && for d in virtio*; do echo $d > unbind && echo $d > bind; done; cd /")
    host.run(f"echo again > {directory.path}/again")
    directory.mount()
    assert "again" in directory.shell.run("cat /shared/again; umount /shared")
    directory.shell.off()
