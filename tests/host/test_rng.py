"""The guest's random number generator, which husk's entropy back-end serves from the host's."""

import re

from test_disk import SHELL, Shell, backend_pids


def test_the_guest_reads_random_bytes_and_goes_on_when_the_back_end_is_killed(host, debian):
    machine = debian(SHELL, "--rng", "src=/dev/urandom")
    shell = Shell(machine)
    assert shell.run("cat /sys/class/misc/hw_random/rng_current").strip().startswith("virtio_rng")

    def read():
        said = shell.run("dd if=/dev/hwrng bs=32 count=4 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'")
        return re.search(r"[0-9a-f]{256}", said)[0]

    given = {read()}
    for _ in range(3):
        before = backend_pids(host)
        assert len(before) == 1
        machine.process.write(b"while :; do dd if=/dev/hwrng of=/dev/null bs=4096 count=1 2>/dev/null; done &\n")
        host.run(f"kill -9 {before[0]}")
        machine.event("backend-died")
        machine.event("backend-restarted")
        assert backend_pids(host) != before
        given.add(read())
        shell.run("kill %1 2>/dev/null || kill $!", status=None)
    assert len(given) == 4
    shell.off()
