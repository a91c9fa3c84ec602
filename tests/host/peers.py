"""Programs of others that husk's devices must get along with, each a cache entry, started with its own libraries.

Debian's: QEMU's tools, libblkio, passt, virtiofsd and DPDK's testpmd of trixie, e2fsprogs and mtools of bookworm. tool(NAME) is a command for
this machine; add_to(archive, NAMES) puts tools on the emulated host, where NAME is then a command in /usr/local/bin.
"""

import functools
import pathlib
import re
import shutil
import subprocess

import cache
import debian

QEMU_TOOLS = ("trixie", ["qemu-utils"])
LIBBLKIO = ("trixie", ["libblkio1"])
E2FSPROGS = ("bookworm", ["e2fsprogs"])
MTOOLS = ("bookworm", ["mtools"])
PASST = ("trixie", ["passt"])
VIRTIOFSD = ("trixie", ["virtiofsd"])
DPDK = ("trixie", ["dpdk-dev"])
# The drivers that testpmd loads: memory pools, the two ends of vhost-user, tap interfaces. 25 is DPDK's interface's number.
TESTPMD_DRIVERS = ["librte_mempool_ring.so.25", "librte_net_virtio.so.25", "librte_net_vhost.so.25", "librte_net_tap.so.25"]
PATHS = {"qemu-storage-daemon": "usr/bin/qemu-storage-daemon", "qemu-img": "usr/bin/qemu-img",
         "mkfs.ext4": "sbin/mkfs.ext4", "e2fsck": "sbin/e2fsck", "mtools": "usr/bin/mtools", "dpdk-testpmd": "usr/bin/dpdk-testpmd",
         "passt": "usr/bin/passt", "virtiofsd": "usr/libexec/virtiofsd"}
_LOADERS = ("usr/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")


def _root(name, what, suite, packages, fetch=debian.with_dependencies):
    def make(work):
        cache.say(f"fetching {what} of Debian {suite}")
        fetch(suite, packages, work / "root")

    return cache.entry(name, cache.digest(suite, *packages), make) / "root"


def _keep(root, programs, into):
    """Copy files and the libraries that they need from one unpacked root to another: DPDK's packages want a compiler."""
    loader, libraries = _loader(root)
    paths = [loader, *(root / program for program in programs)]
    listed = "".join(subprocess.run([loader, "--library-path", libraries, "--list", path], check=True, text=True,
                                    stdout=subprocess.PIPE).stdout for path in paths[1:])
    for path in {*paths, *map(pathlib.Path, re.findall(r"=> (/\S+)", listed))}:
        if path.is_relative_to(root):
            copy = into / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def _dpdk_root():
    def make(work):
        cache.say(f"fetching DPDK of Debian {DPDK[0]} (69 MB)")
        debian.with_dependencies(*DPDK, work / "all")
        _keep(work / "all", [PATHS["dpdk-testpmd"], *(f"{_LIBRARIES[0]}/{driver}" for driver in TESTPMD_DRIVERS)],
              work / "root")
        shutil.rmtree(work / "all")

    return cache.entry("dpdk", cache.digest(DPDK[0], *DPDK[1], *TESTPMD_DRIVERS), make) / "root"


def _root_of(name):
    if name.startswith("qemu"):
        return _root("qemu-utils", "QEMU's disk tools (14 MB)", *QEMU_TOOLS)
    if name == "passt":
        return _root("passt", "passt (3 MB)", *PASST)
    if name == "virtiofsd":
        return _root("virtiofsd", "virtiofsd (4 MB)", *VIRTIOFSD)
    if name == "dpdk-testpmd":
        return _dpdk_root()
    if name == "mtools":
        return _root("mtools", "mtools (2 MB)", *MTOOLS)
    return _root("e2fsprogs", "ext4's tools (6 MB)", *E2FSPROGS)


def _loader(root):
    loader = next(root / path for path in _LOADERS if (root / path).exists())
    return loader, ":".join(str(root / path) for path in _LIBRARIES if (root / path).exists())


def tool(name):
    """The words that start a program on this machine."""
    root = _root_of(name)
    loader, libraries = _loader(root)
    return [str(loader), "--library-path", libraries, str(root / PATHS[name])]


def libblkio():
    """Path of libblkio.so.1, which this machine's own libc serves."""
    return _root("libblkio", "libblkio", *LIBBLKIO, debian.alone) / "usr/lib/x86_64-linux-gnu/libblkio.so.1"


@functools.cache
def _files(name):
    """What a program needs to run elsewhere: its libraries, by the loader's own word."""
    root = _root_of(name)
    loader, libraries = _loader(root)
    listed = subprocess.run([loader, "--library-path", libraries, "--list", root / PATHS[name]], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return [loader, *(pathlib.Path(path) for path in re.findall(r"=> (/\S+)", listed))]


def add_to(archive, names):
    """Put tools into an initramfs.Archive: a folder for each root with all they need, and scripts in /usr/local/bin."""
    for name in names:
        root = _root_of(name)
        folder = f"tools/{root.parent.name}"
        archive.file(f"{folder}/{name}", (root / PATHS[name]).read_bytes(), 0o755)
        for path in _files(name):
            # By the name that other files know it by, not by what a link leads to.
            archive.file(f"{folder}/{path.name}", path.read_bytes(), 0o755)
        script = f'#!/bin/sh\nexec /{folder}/ld-linux-x86-64.so.2 --library-path /{folder} /{folder}/{name} "$@"\n'
        archive.file(f"usr/local/bin/{name}", script.encode(), 0o755)
