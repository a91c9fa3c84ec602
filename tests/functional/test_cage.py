"""The cages: what each process of a VM can still do once it runs."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import pytest

import backends


# What reading of a process in /proc comes to once that is gone.
GONE = (FileNotFoundError, ProcessLookupError)


def tasks(pid):
    """The status of each thread of a process, as dictionaries; of those that end meanwhile, none."""
    found = []
    with contextlib.suppress(*GONE):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(*GONE):
                lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
                found.append({name: value.strip() for name, value in lines})
    return found


@pytest.fixture
def machine(husk, payloads, tmp_path):
    """Starts a guest that never ends; returns its process once every vCPU's thread has its name."""
    processes = []

    def start(*words, by=()):
        events = tmp_path / "events"
        process = subprocess.Popen([*by, husk, "run", "--kernel", payloads / "spin.elf", "--memory", "size=64M",
                                    "--event-monitor", f"path={events}", *words], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        processes.append(process)
        wait_for(lambda: process.poll() is not None or (events.exists() and "booted" in events.read_text()))
        wait_for(lambda: process.poll() is not None or any(thread["Name"].startswith("vcpu") for thread in tasks(process.pid)))
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def events_of(process):
    """What a machine has told of so far."""
    path = next(word for word in process.args if str(word).startswith("path=") and str(word).endswith("events"))
    return pathlib.Path(str(path).removeprefix("path=")).read_bytes()


def wait_for(condition, seconds=60):
    """Until it is true, looked at often."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["blk", "rng"])
def test_every_thread_of_a_back_end_has_a_filter_and_gains_no_privileges(bench, kind):
    process, device = bench.blk(bench.image()) if kind == "blk" else bench.rng()
    assert device.read(0, 512) if kind == "blk" else device.read(16)
    threads = tasks(process.pid)
    assert len(threads) >= 2
    assert {thread["Seccomp"] for thread in threads} == {"2"}
    assert {thread["NoNewPrivs"] for thread in threads} == {"1"}


def filters_of(pid, name):
    """How many filters are around the thread of that name."""
    return {thread["Name"]: thread["Seccomp_filters"] for thread in tasks(pid)}[name]


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("mode", ["true", "log", "errno", "false"])
def test_every_thread_of_husk_has_a_filter_once_it_runs(machine, mode):
    running = machine("--seccomp", mode, "--cpus", "boot=2")
    wait_for(lambda: {"vcpu0", "vcpu1"} <= {thread["Name"] for thread in tasks(running.pid)})
    wait_for(lambda: mode == "false" or filters_of(running.pid, "vcpu0") == "2")
    threads = {thread["Name"]: thread for thread in tasks(running.pid)}
    assert {"vcpu0", "vcpu1"} <= threads.keys()
    assert {thread["Seccomp"] for thread in threads.values()} == {"0" if mode == "false" else "2"}
    # One around the process, and a second one around each vCPU.
    assert mode == "false" or filters_of(running.pid, "husk") == "1"


def test_a_back_end_runs_with_any_mode_of_its_filter_and_refuses_others(tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(4096))
    command = [backends.husk_backend(), "blk", "--path", image, "--fd", "0"]
    for mode in ("true", "log", "errno", "false"):
        ended = subprocess.run([*command, "--seccomp", mode], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=60, check=False)
        assert ended.returncode == 1 and "Socket operation on non-socket" in ended.stderr, mode
    ended = subprocess.run([*command, "--seccomp", "on"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and "--seccomp on: true, false, log or errno" in ended.stderr


def children(pid):
    """The processes that a process has started; none of one that has ended."""
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except GONE:
        return []


def back_ends(pid):
    """The running back-ends of a husk, by the broker's children."""
    return [child for broker in children(pid) for child in children(broker)]


@pytest.mark.usefixtures("needs_kvm")
def test_husk_in_its_filter_starts_devices_again_and_ends_them(machine, tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    running = machine("--disk", f"path={image}", "--rng", "src=/dev/urandom")
    wait_for(lambda: running.poll() is not None or len(back_ends(running.pid)) == 2)
    first = back_ends(running.pid)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: running.poll() is not None or len(set(back_ends(running.pid)) - set(first)) == 2)
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: running.poll() is not None or "power-button" in (tmp_path / "events").read_text())
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    assert b"forbids" not in errors, errors
    assert running.returncode == 128 + signal.SIGTERM, errors


def broker(pid):
    """The broker of a husk."""
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


# Of memory and of descriptors.
VMMS_LIMITS = 16 << 30, 65536
BACK_ENDS_LIMITS = 1 << 30, 4096


def limits(pid):
    """The hard limits of a process that are numbers."""
    lines = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    found = (re.match(r"(\S.*?) {2,}\S+ +(\d+) ", line) for line in lines)
    return {match[1]: int(match[2]) for match in found if match}


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("mode", ["true", "false"])
def test_no_process_of_a_vm_gains_privileges_or_leaves_a_core_with_or_without_filters(machine, tmp_path, mode):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    running = machine("--disk", f"path={image}", "--rng", "src=/dev/urandom", "--seccomp", mode)
    wait_for(lambda: len(back_ends(running.pid)) == 2)
    for pid in (running.pid, broker(running.pid), *back_ends(running.pid)):
        wait_for(lambda pid=pid: {thread["NoNewPrivs"] for thread in tasks(pid)} == {"1"})
        assert limits(pid)["Max core file size"] == 0
        # The VMM's have to do for 254 vCPUs.
        memory, files = VMMS_LIMITS if pid == running.pid else BACK_ENDS_LIMITS
        assert limits(pid)["Max data size"] <= memory and limits(pid)["Max open files"] <= files


# CAP_DAC_OVERRIDE; with CAP_SYS_CHROOT and CAP_SYS_ADMIN
RIGHT_TO_SOCKETS = 1 << 1
BROKERS_RIGHTS = RIGHT_TO_SOCKETS | 1 << 18 | 1 << 21


def rights(pid):
    """All capabilities that a process has or may take."""
    state = tasks(pid)[0]
    return int(state["CapPrm"], 16) | int(state["CapEff"], 16) | int(state["CapInh"], 16) | int(state["CapAmb"], 16)


@pytest.mark.usefixtures("needs_kvm")
def test_the_broker_of_root_keeps_three_capabilities(machine):
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities to give up")
    running = machine("--rng", "src=/dev/urandom")
    wait_for(lambda: tasks(broker(running.pid))[0]["Seccomp"] == "2")
    state = tasks(broker(running.pid))[0]
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(state[kind], 16) & ~BROKERS_RIGHTS == 0


@pytest.mark.usefixtures("needs_kvm")
def test_a_connector_is_in_a_filter_and_keeps_the_right_to_other_users_sockets_alone(machine, tmp_path):
    running = machine("--vsock", f"cid=3,socket={tmp_path / 'vsock'}")

    def connector():
        found = [child for back_end in back_ends(running.pid) for child in children(back_end)]
        return found[0] if found and tasks(found[0])[0]["Seccomp_filters"] == "2" else None  # the broker's and its own

    wait_for(connector)
    assert rights(connector()) & ~RIGHT_TO_SOCKETS == 0
    assert tasks(connector())[0]["NoNewPrivs"] == "1"
    assert limits(connector())["Max core file size"] == 0


@pytest.mark.parametrize("mode", ["true", "false"])
def test_a_back_end_on_a_socket_has_limits_and_keeps_the_right_to_other_users_sockets_alone(tmp_path, mode):
    path = tmp_path / "socket"
    process = backends.Process([backends.husk_backend(), "rng", "--socket", path, "--seccomp", mode])
    try:
        backends.wait_until_served(process, path)
        assert rights(process.pid) & ~RIGHT_TO_SOCKETS == 0
        assert tasks(process.pid)[0]["NoNewPrivs"] == "1"
        memory, files = BACK_ENDS_LIMITS
        assert limits(process.pid)["Max core file size"] == 0
        assert limits(process.pid)["Max data size"] <= memory and limits(process.pid)["Max open files"] <= files
    finally:
        process.stop()


def links(pid):
    """What the descriptors of a process are, in the kernel's words, by their numbers."""
    found = {}
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[path.name] = os.readlink(path)
        except FileNotFoundError:
            pass
    return found


def inherited(pid, target):
    """The descriptors of a process that are this file."""
    return [number for number, link in links(pid).items() if link == str(target)]


@pytest.mark.usefixtures("needs_kvm")
def test_what_husk_was_started_with_and_nobody_named_is_closed(husk, payloads, tmp_path):
    stray, events = tmp_path / "stray", tmp_path / "events"
    with open(stray, "wb") as left, open(events, "wb") as named:
        command = [husk, "run", "--kernel", payloads / "spin.elf", "--memory", "size=64M", "--rng", "src=/dev/urandom",
                   "--event-monitor", f"fd={named.fileno()}"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              pass_fds=[left.fileno(), named.fileno()]) as process:
            try:
                wait_for(lambda: "booted" in events.read_text())
                for pid in (process.pid, broker(process.pid), *back_ends(process.pid)):
                    assert not inherited(pid, stray)
                assert inherited(process.pid, events)
            finally:
                process.kill()
        command = [backends.husk_backend(), "rng", "--socket", tmp_path / "socket"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[left.fileno()]) as process:
            try:
                wait_for((tmp_path / "socket").exists)
                wait_for(lambda: tasks(process.pid)[0]["Seccomp"] == "2")
                assert not inherited(process.pid, stray)
            finally:
                process.kill()


@pytest.mark.parametrize("path", ["/dev/fd/0", "/proc/self/fd/0", "/dev/stdin", "/dev/fd/7"])
@pytest.mark.parametrize("option", ["--disk path=", "--rng src="])
def test_a_path_to_a_descriptor_leads_nowhere_and_husk_says_why(husk, payloads, tmp_path, option, path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    name, key = option.split(" ")
    with open(disk if name == "--disk" else "/dev/urandom", "r+b", buffering=0) as file:
        done = subprocess.run([husk, "run", "--kernel", payloads / "poweroff.elf", "--serial", "off", name, f"{key}{path}"],
                              stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "name the file itself" in done.stderr and "truncate" not in done.stderr, done.stderr
    assert f"{name}: _{name[2:]}" in done.stderr and f"could not open '{path}'" in done.stderr


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("words", [[], ["--landlock"]], ids=["alone", "landlock"])
def test_a_broker_that_does_not_end_is_killed(machine, words):
    running = machine("--rng", "src=/dev/urandom", *words)
    os.kill(broker(running.pid), signal.SIGSTOP)
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: b"power-button" in events_of(running))
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=120)
    assert b"the broker process did not end within 5 seconds and was killed" in errors
    assert running.returncode == 128 + signal.SIGTERM


NAMESPACES = ("net", "ipc", "mnt", "pid")


def namespaces(pid):
    """Which of the namespaces of a process are this one's, too."""
    return {name for name in NAMESPACES if os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")}


def ends_well(*command):
    """Whether a command ends well."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def needs_namespaces():
    """Skips a test where processes may not be given namespaces of their own."""
    if not ends_well("unshare", "--net", "--ipc", "--mount", "--pid", "--fork", "true"):
        pytest.skip("needs the right to make namespaces")


@pytest.fixture(scope="module")
def needs_user_namespaces(needs_namespaces):
    """The same for users without any right."""
    if not ends_well("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "--net", "true"):
        pytest.skip("needs user namespaces for everybody")


def options_of_root(pid):
    """How the root of a process is mounted."""
    lines = (line.split() for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    return next(set(line[5].split(",")) for line in lines if line[4] == "/")


def check_namespaces(pid, devices=2):
    """Every process of a husk with devices is where it should be, once all are in their cages, with no capabilities."""
    def there():
        # A broker that starts has another child for a moment.
        processes = [task for child in back_ends(pid) for task in tasks(child)[:1]]
        return len(processes) == devices and all(process["CapEff"] == "0" * 16 for process in processes)

    wait_for(there)
    wait_for(lambda: tasks(pid)[0]["CapEff"] == "0" * 16 and namespaces(pid) == {"pid"})
    assert not os.listdir(f"/proc/{pid}/root")
    for process in (pid, broker(pid)):
        assert {"ro", "nosuid", "nodev", "noexec"} <= options_of_root(process)
    # Nor may any of them take one again.
    assert [rights(process) for process in (pid, *back_ends(pid))] == [0] * (1 + devices)
    # The broker's view has nothing at all of what is not the VM's.
    root = pathlib.Path(f"/proc/{broker(pid)}/root")
    assert not (root / "proc").exists() and not (root / "run").exists() and (root / "dev" / "urandom").exists()
    for child in back_ends(pid):
        assert namespaces(child) == set()
        assert not os.listdir(f"/proc/{child}/root")
        assert tasks(child)[0]["NSpid"].split()[-1] == "1"
        assert {"ro", "nosuid", "nodev", "noexec"} <= options_of_root(child)
        # The way there is closed behind it.
        assert not [link for link in links(child).values() if link.startswith("mnt:")]


@pytest.mark.usefixtures("needs_kvm", "needs_namespaces")
def test_processes_of_a_vm_have_left_the_hosts_namespaces(machine, tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    running = machine("--disk", f"path={image}", "--rng", "src=/dev/urandom")
    check_namespaces(running.pid)


@pytest.mark.usefixtures("needs_kvm", "needs_namespaces")
def test_the_broker_sees_what_devices_are_made_of_and_no_other_folder(machine, tmp_path):
    disks, beside, linked = tmp_path / "disks", tmp_path / "beside", tmp_path / "linked"
    for folder in (disks, beside, linked):
        folder.mkdir()
    (disks / "disk.raw").write_bytes(bytes(1 << 20))
    (linked / "link").symlink_to("../disks/disk.raw")
    running = machine("--disk", f"path={linked / 'link'}", "--rng", "src=/dev/urandom",
                      "--vsock", f"cid=3,socket={disks / 'vsock'}")
    wait_for(lambda: len(back_ends(running.pid)) == 3)
    root = pathlib.Path(f"/proc/{broker(running.pid)}/root")
    here = root / str(tmp_path).lstrip("/")
    assert sorted(path.name for path in here.iterdir()) == ["disks", "linked"]
    assert sorted(path.name for path in (here / "disks").iterdir()) == ["disk.raw", "vsock"]
    assert [path.name for path in (root / "dev").iterdir()] == ["urandom"]
    assert {path.name for path in (root / "etc").iterdir()} <= {"ld.so.cache", "ld.so.preload", "localtime"}
    assert not (root / "proc").exists() and not (root / "run").exists()
    # It is enough to start them again, and to say what is there now.
    for pid in back_ends(running.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(back_ends(running.pid)) == 3)
    assert running.poll() is None
    running.kill()
    wait_for(lambda: not (disks / "vsock").exists())


@pytest.mark.usefixtures("needs_kvm")
def test_root_without_the_right_to_make_namespaces_stays_in_the_hosts(machine):
    if os.geteuid() != 0:
        pytest.skip("only root has some rights and not that one")
    running = machine("--rng", "src=/dev/urandom", by=("setpriv", "--bounding-set=-sys_admin", "--"))
    wait_for(lambda: len(back_ends(running.pid)) == 1)
    for pid in (running.pid, broker(running.pid), *back_ends(running.pid)):
        assert namespaces(pid) == set(NAMESPACES)
        assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")


@pytest.fixture
def folder_of_all():
    """A folder that every user can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        pathlib.Path(name).chmod(0o755)
        yield pathlib.Path(name)


@pytest.fixture
def as_nobody(husk, payloads, folder_of_all):
    """Starts husk with a disk and a source of randomness in a folder of its own, as a user without any right."""
    started = []

    def start(folder):
        for path in [pathlib.Path(husk), pathlib.Path(husk).parent / "husk-backend", payloads / "spin.elf"]:
            (folder_of_all / path.name).write_bytes(path.read_bytes())
            (folder_of_all / path.name).chmod(0o755)
        (folder / "disk").write_bytes(bytes(1 << 20))
        os.chown(folder / "disk", 65534, 65534)
        # A device node of its own in place of the system's, which may be root's alone.
        kvm = folder_of_all / "kvm"
        os.mknod(kvm, 0o020666, os.stat("/dev/kvm").st_rdev)
        kvm.chmod(0o666)
        script = (f'mount --bind {kvm} /dev/kvm && exec setpriv --reuid=65534 --regid=65534 --clear-groups {folder_of_all}/husk run '
                  f'--kernel {folder_of_all}/spin.elf --memory size=64M --disk path=disk --rng src=/dev/urandom')
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], cwd=folder, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        started.append(process)
        wait_for(lambda: process.poll() is not None or tasks(process.pid)[0]["Name"] == "husk")
        assert process.poll() is None, process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("needs_kvm", "needs_user_namespaces")
def test_they_have_left_them_without_being_roots_too(as_nobody, folder_of_all):
    check_namespaces(as_nobody(folder_of_all).pid)


@pytest.mark.usefixtures("needs_kvm", "needs_user_namespaces")
def test_a_working_directory_that_only_its_descriptor_leads_to_is_told_of_and_used(as_nobody, folder_of_all):
    private = folder_of_all / "private"
    (private / "open").mkdir(parents=True)
    private.chmod(0o700)
    process = as_nobody(private / "open")
    wait_for(lambda: process.poll() is not None or len(back_ends(process.pid)) == 2)
    wait_for(lambda: process.poll() is not None or any(thread["Name"].startswith("vcpu") for thread in tasks(process.pid)))
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert b"keeps the host's files in sight: Permission denied" in errors
    assert b"could not open" not in errors
