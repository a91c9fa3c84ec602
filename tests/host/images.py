"""What the test host and its guests are made of: QEMU, kernels and initramfs archives, each a cache entry.

All is Debian's. The emulated host is QEMU 10 of trixie with the libraries it was built for, started through its own
dynamic loader, so that it runs on any distribution; its kernel is trixie's cloud kernel. Guests boot bookworm's.
"""

import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import cache
import debian
import initramfs
import peers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

QEMU = ("trixie", ["qemu-system-x86"])
HOST_KERNEL = ("trixie", ["linux-image-cloud-amd64"])
PROTECTED_HOST_SOURCE = ("trixie", "linux-source-6.12")
# The guest's kernel, and the busybox that both initramfs archives have.
GUEST = ("bookworm", ["linux-image-cloud-amd64", "busybox-static"])
HOST_MODULES = ["kvm-amd", "tun"]
HOST_TOOLS = ["e2fsck", "mkfs.ext4", "qemu-storage-daemon", "qemu-img", "passt", "virtiofsd"]
# The ACPI power button, and the input device that user space reads it from; disks, networks.
GUEST_MODULES = ["button", "evdev", "qemu-fw-cfg", "virtio-pci", "virtio-blk", "virtio-rng", "virtio_console", "virtio-net",
                 "vmw_vsock_virtio_transport", "virtiofs"]
# How entries are made, beyond the inputs named above: raise when a maker below changes what it makes.
FORMAT = "2"


def _packages(name, what, suite, packages, fetch):
    def make(work):
        cache.say(f"fetching {what} of Debian {suite}")
        fetch(suite, packages, work / "root")

    return cache.entry(name, cache.digest(suite, *packages), make) / "root"


def _qemu_root():
    return _packages("qemu", "QEMU for the emulated test host (38 MB)", *QEMU, debian.with_dependencies)


def _guest_root():
    return _packages("guest", "a kernel for guests (27 MB)", *GUEST, debian.alone)


def _host_root():
    return _packages("host-kernel", "a kernel for the emulated test host (34 MB)", *HOST_KERNEL, debian.alone)


def qemu_command():
    """The words that start qemu-system-x86_64 with its own loader, libraries and data files."""
    root = _qemu_root()
    command = [root / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", root / "usr/lib/x86_64-linux-gnu",
               root / "usr/bin/qemu-system-x86_64", "-L", root / "usr/share/qemu", "-L", root / "usr/share/seabios"]
    return [str(word) for word in command]


def qemu_environment():
    """The environment that QEMU runs in: with what keeps it alive when firmware of a nested guest writes CR8 (qemu_cr8.c)."""
    source = HERE / "qemu_cr8.c"

    def make(work):
        subprocess.run(["gcc", "-std=gnu17", "-O2", "-shared", "-fPIC", "-o", str(work / "qemu_cr8.so"), str(source)],
                       check=True)

    return os.environ | {"LD_PRELOAD": str(cache.entry("qemu-cr8", cache.digest(FORMAT, source), make) / "qemu_cr8.so")}


def firmware(suite, package, path):
    """A file of one of Debian's firmware packages."""
    def make(work):
        cache.say(f"fetching {package} of Debian {suite}")
        debian.with_dependencies(suite, [package], work / "root")

    return cache.entry("firmware", cache.digest(suite, package), make) / "root" / path


def snp_options():
    """What makes a guest with a kernel an SEV-SNP guest: firmware that hands it over, measured, to memory that the host cannot read."""
    return ["--platform", "sev_snp=on", "--firmware", str(firmware("sid", "ovmf-amdsev", "usr/share/ovmf/OVMF.amdsev.fd"))]


def protected_host_kernel():
    """
    A bzImage for an emulated host that has software-protected VMs, which Debian's kernels lack: built from Debian's source.

    It takes minutes, once: the entry is for these inputs.
    """
    suite, package = PROTECTED_HOST_SOURCE
    fragment = HERE / "protected_host.config"

    def make(work):
        source = _packages("linux-source", "Linux's source for a host with software-protected VMs (140 MB)", suite, [package],
                           debian.alone) / "usr/src" / f"{package}.tar.xz"
        cache.say("building a kernel with software-protected VMs: minutes, once")
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            tree = pathlib.Path(scratch) / package
            subprocess.run(["tar", "-xf", str(source), "-C", scratch], check=True)
            command = ["make", "-s", f"-j{os.cpu_count()}"]
            with open(work / "log", "wb") as log:
                def run(*words):
                    subprocess.run([*command, *words], cwd=tree, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

                run("tinyconfig")
                with open(tree / ".config", "ab") as config:
                    config.write(fragment.read_bytes())
                run("olddefconfig")
                run("bzImage")
            shutil.move(tree / "arch/x86/boot/bzImage", work / "bzImage")

    return cache.entry("protected-host-kernel", cache.digest(suite, package, fragment), make) / "bzImage"


def kernel_root(suite):
    """Debian's cloud kernel of a suite, unpacked: that suite's today."""
    return _packages(f"kernel-{suite}", "a kernel (37 MB)", suite, ["linux-image-cloud-amd64"], debian.alone)


def vmlinuz(root):
    """The bzImage of an unpacked kernel package."""
    return next(path for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in root.glob(pattern))


def guest_kernel():
    """Debian's stock bzImage for guests."""
    return vmlinuz(_guest_root())


def host_kernel():
    """Debian's stock bzImage for the emulated host."""
    return vmlinuz(_host_root())


def busybox():
    """A busybox without shared libraries."""
    return next(path for path in (_guest_root() / "bin/busybox", _guest_root() / "usr/bin/busybox") if path.exists())


class Modules:
    """The modules of an unpacked kernel package, with what they depend on."""

    def __init__(self, root):
        self._paths = {path.name.partition(".ko")[0].replace("-", "_"): path for path in root.rglob("*.ko*")}
        self._contents = {}

    def _load(self, name):
        name = name.replace("-", "_")
        if name in self._contents:
            return
        path = self._paths[name]
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in filter(None, depends[1].decode().split(",") if depends else []):
            self._load(other)
        self._contents[name] = data

    def files(self, names):
        """(name, bytes) of each as NAME.ko, and the order to load them in as "order"."""
        for name in names:
            self._load(name)
        return [*((f"{name}.ko", data) for name, data in self._contents.items()),
                ("order", "".join(f"{name}\n" for name in self._contents).encode())]


def _base_archive(root, modules, init):
    archive = initramfs.Archive()
    archive.file("init", init.read_bytes(), 0o755)
    archive.file("bin/busybox", busybox().read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    # The kernel opens it for the first process before that process could make it.
    archive.device("dev/console", 5, 1)
    for name, data in Modules(root).files(modules):
        archive.file(f"modules/{name}", data)
    return archive


def guest_initramfs():
    """Initramfs for guests: busybox, and an init that does what the kernel command line says (guest_init.sh)."""
    init = HERE / "guest_init.sh"

    def make(work):
        archive = _base_archive(_guest_root(), GUEST_MODULES, init)
        archive.file("bin/streams", streams().read_bytes(), 0o755)
        (work / "initramfs").write_bytes(archive.pack())

    inputs = cache.digest(FORMAT, init, (HERE / "initramfs.py"), str(_guest_root()), *GUEST_MODULES, str(streams()))
    return cache.entry("guest-initramfs", inputs, make) / "initramfs"


def _static_program(name):
    """A program of this folder, linked statically so that it runs anywhere."""
    source = HERE / f"{name}.c"

    def make(work):
        subprocess.run(["gcc", "-std=gnu17", "-O2", "-static", "-o", str(work / name), str(source)], check=True)

    return cache.entry(name, cache.digest(FORMAT, source), make) / name


def agent():
    """What tests start programs on the host by (agent.c)."""
    return _static_program("agent")


def streams():
    """Both ends of streams, for guests and hosts (streams.c)."""
    return _static_program("streams")


def host_initramfs():
    """Initramfs of the emulated host, all but husk: busybox, KVM, the agent, tools, the guests' kernel and initramfs."""
    init = HERE / "host_init.sh"
    parts = {"agent": (agent(), 0o755), "guest/vmlinuz": (guest_kernel(), 0o644),
             "guest/initramfs": (guest_initramfs(), 0o644)}

    def make(work):
        archive = _base_archive(_host_root(), HOST_MODULES, init)
        for name, (path, mode) in parts.items():
            archive.file(name, path.read_bytes(), mode)
        peers.add_to(archive, HOST_TOOLS)
        (work / "initramfs").write_bytes(archive.pack())

    inputs = cache.digest(FORMAT, init, (HERE / "initramfs.py"), str(_host_root()), str(busybox()), *HOST_MODULES,
                          HERE / "peers.py", *HOST_TOOLS, *(str(path) for path, _ in parts.values()))
    return cache.entry("host-initramfs", inputs, make) / "initramfs"


def shared_libraries(binary):
    """Every file that running a dynamically linked binary needs: its libraries and its loader."""
    listed = subprocess.run(["ldd", str(binary)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def library(name):
    """A shared library of this machine by its name, for what a program loads only when it needs it."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return pathlib.Path(re.search(rf"{re.escape(name)} \(libc6,x86-64\) => (\S+)", listed)[1])


def program_archive(binary, installed_as, *loaded):
    """
    An archive with a program of this machine and all that it needs to run, to unpack over host_initramfs().

    @loaded: names of libraries that it loads at run time.
    """
    archive = initramfs.Archive()
    archive.file(installed_as, pathlib.Path(binary).read_bytes(), 0o755)
    libraries = [library(name) for name in loaded]
    needed = [path for binary in (binary, *libraries) for path in shared_libraries(binary)]
    for library_path in dict.fromkeys([*needed, *libraries]):
        archive.file(str(library_path), library_path.read_bytes(), 0o755)
    return archive.pack()
