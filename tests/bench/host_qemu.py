"""QEMU for the host that a benchmark runs on: this machine's, or one brought to the emulated host."""

import io
import pathlib
import re
import subprocess
import tarfile
import tempfile

import common  # noqa: F401  (where images is found)
import images

FIRMWARE = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"]


def _archive():
    """A tar of QEMU with its loader, libraries and firmware, all below qemu/."""
    loader, _, libraries, binary, *data = images.qemu_command()
    listed = subprocess.run([loader, "--library-path", libraries, "--list", binary], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    folders = [pathlib.Path(folder) for folder in data if folder != "-L"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as tar:
        tar.add(loader, "qemu/ld.so")
        tar.add(binary, "qemu/qemu")
        for library in re.findall(r"=> (\S+)", listed):
            tar.add(library, "qemu/lib/" + pathlib.Path(library).name)
        for name in FIRMWARE:
            found = [folder / name for folder in folders if (folder / name).exists()]
            if found:
                tar.add(str(found[0]), "qemu/share/" + name)
    return packed.getvalue()


def words(host):
    """The words that start QEMU on the host, brought there first if it is another machine."""
    if not host.emulated:
        return images.qemu_command()
    with tempfile.NamedTemporaryFile() as archive:
        archive.write(_archive())
        archive.flush()
        host.put(archive.name, "/tmp/qemu.tar")
    host.run("cd /tmp && tar xf qemu.tar && rm qemu.tar", timeout=120)
    return ["/tmp/qemu/ld.so", "--library-path", "/tmp/qemu/lib", "/tmp/qemu/qemu", "-L", "/tmp/qemu/share"]
