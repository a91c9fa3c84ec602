"""Kernels and initramfs that are no such thing, damaged, or lie: one message that names the file, and exit status 1."""

import gzip
import os
import subprocess

import kernels
import pytest


def refused(husk, named, *words, wrapper=()):
    """What husk, started by the words of @wrapper, says on refusing to start because of the file @named."""
    done = subprocess.run([*wrapper, husk, "run", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 1, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2, done.stderr
    assert lines[0].startswith("husk: ") and str(named) in lines[0]
    return done.stderr


def kernel_refused(husk, path, content, *words):
    path.write_bytes(content)
    return refused(husk, path, "--kernel", str(path), "--memory", "size=64M", *words)


def arm64_image():
    image = bytearray(4096)
    image[0x38:0x3c] = b"ARMd"
    return bytes(image)


BZIMAGE = kernels.bzimage()
PVH = kernels.pvh()


def test_the_untouched_kernels_start(husk, tmp_path, needs_kvm):
    for name, content in (("bzImage", BZIMAGE), ("vmlinux", PVH)):
        path = tmp_path / name
        path.write_bytes(content)
        done = subprocess.run([husk, "run", "--kernel", path, "--memory", "size=64M"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 63, 0x1f1, 0x200, 0x201, 0x205, 0x206, 0x207, 0x237, 0x267, 0x268,
                                    0x3ff, 0x400, 0x5ff, 0x600, 0x601, 0x7ff])
def test_a_bzimage_cut_short_is_refused(husk, tmp_path, length):
    said = kernel_refused(husk, tmp_path / "kernel", BZIMAGE[:length])
    if length == 0:
        assert "is empty" in said
    if length >= 0x206:
        assert "truncated" in said


@pytest.mark.parametrize("length", [1, 4, 5, 16, 20, 51, 63, 64, 65, 120, 175, 176, 180, 195, 0x1000,
                                    0x1000 + len(kernels.POWER_OFF) - 1])
def test_an_elf_file_cut_short_is_refused(husk, tmp_path, length):
    said = kernel_refused(husk, tmp_path / "kernel", PVH[:length])
    if length >= 5:
        assert "truncated" in said


@pytest.mark.parametrize("changed, said", [
    ({"setup_sects": 255}, "truncated"),
    ({"setup_sects": 0}, "truncated"),
    ({"syssize": 0xffffffff}, "truncated"),
    ({"jump": 0x00eb}, "too short"),
    ({"jump": 0x6690}, "too short"),
    ({"version": 0x20b}, "boot protocol 2.11"),
    ({"version": 0}, "boot protocol"),
    ({"loadflags": 0}, "zImage"),
    ({"xloadflags": 0}, "32-bit"),
    ({"kernel_alignment": 0}, "power of two"),
    ({"kernel_alignment": 0x300000}, "power of two"),
    ({"kernel_alignment": 0x80000000}, "memory"),
    ({"pref_address": 0xffffffffffffffff}, "memory"),
    ({"pref_address": 0xffffffffffffffff, "relocatable_kernel": 0}, "memory"),
    ({"pref_address": 0x4000000}, "memory"),
    ({"init_size": 0xffffffff}, "memory"),
    ({"init_size": 0xffffffff, "pref_address": 0xfffffffffffff000}, "memory"),
])
def test_a_bzimage_whose_header_lies_is_refused(husk, tmp_path, changed, said):
    assert said in kernel_refused(husk, tmp_path / "kernel", kernels.bzimage(**changed))


def test_a_command_line_longer_than_the_kernel_says_it_takes_is_refused(husk, tmp_path):
    path = tmp_path / "kernel"
    assert "takes at most 3" in kernel_refused(husk, path, kernels.bzimage(cmdline_size=3), "--cmdline", "quiet")


@pytest.mark.parametrize("top", [0, 0xfff, 0x100000])
def test_an_initramfs_with_nowhere_to_go_is_refused(husk, tmp_path, top):
    kernel, initramfs = tmp_path / "kernel", tmp_path / "initramfs"
    kernel.write_bytes(kernels.bzimage(initrd_addr_max=top))
    initramfs.write_bytes(bytes(4096))
    assert "does not fit" in refused(husk, initramfs, "--kernel", str(kernel), "--initramfs", str(initramfs),
                                     "--memory", "size=64M")


@pytest.mark.parametrize("changed, said", [
    ({"ei_class": 0}, "class"),
    ({"ei_class": 1}, "x86"),
    ({"ei_data": 2}, "machine"),
    ({"e_type": 1}, "not an executable"),
    ({"e_machine": 183}, "arm64"),
    ({"e_machine": 243}, "RISC-V"),
    ({"e_machine": 0xffff}, "machine number 65535"),
    ({"e_phoff": 0xffffffffffffffff}, "program headers"),
    ({"e_phoff": 0xffffffffffffffc0}, "program headers"),
    ({"e_phoff": 0x1000}, "program headers"),
    ({"e_phentsize": 0}, "program headers"),
    ({"e_phentsize": 0xffff}, "program headers"),
    ({"e_phnum": 0}, "no program headers"),
    ({"e_phnum": 0xffff}, "program headers"),
    ({"p_offset": 0xffffffffffffffff}, "truncated"),
    ({"p_offset": 0xffffffffffffffff, "p_filesz": 2}, "truncated"),
    ({"p_filesz": 0xffffffffffffffff}, "truncated"),
    ({"p_filesz": 0x1001}, "truncated"),
    ({"p_memsz": 1}, "memory"),
    ({"p_memsz": 0x10000000}, "memory"),
    ({"p_memsz": 0xffffffffffffffff}, "past the end of the address space"),
    ({"p_paddr": 0xffffffffffffffff}, "past the end of the address space"),
    ({"p_paddr": 0}, "below 1 MiB"),
    ({"note_offset": 0xffffffffffffff00}, "truncated"),
    ({"note_filesz": 0xffffffffffffffff}, "truncated"),
    ({"note_filesz": 15}, "note"),
    ({"n_namesz": 0xffffffff}, "note"),
    ({"n_descsz": 0xffffffff}, "note"),
    ({"n_descsz": 0}, "note"),
    ({"n_type": 17}, "without a PVH entry point"),
    ({"entry": 0xffffffff}, "entry point at 0xffffffff"),
    ({"entry": 0x100000 + len(kernels.POWER_OFF)}, "entry point"),
])
def test_an_elf_file_whose_headers_lie_is_refused(husk, tmp_path, changed, said):
    assert said in kernel_refused(husk, tmp_path / "kernel", kernels.pvh(**changed))


@pytest.mark.parametrize("content, said", [
    (arm64_image(), "arm64"),
    (gzip.compress(PVH), "gzip"),
    (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
    (b"070701" + bytes(600), "--initramfs"),
    (bytes(4096), "neither a bzImage nor an ELF file"),
    (b"\xff" * 4096, "neither a bzImage nor an ELF file"),
    (b"#!/bin/sh\n", "neither a bzImage nor an ELF file"),
])
def test_a_file_that_is_no_x86_kernel_is_named_for_what_it_is(husk, tmp_path, content, said):
    assert said in kernel_refused(husk, tmp_path / "kernel", content)


@pytest.fixture(params=["--kernel", "--initramfs"])
def given_as(request, tmp_path):
    """Words that give @path as the kernel, or as the initramfs of a kernel that is good."""
    good = tmp_path / "good"
    good.write_bytes(PVH)

    def words(path):
        return [*(["--kernel", str(good)] if request.param == "--initramfs" else []), request.param, str(path),
                "--memory", "size=64M"]
    return words


def test_an_empty_file_is_refused(husk, tmp_path, given_as):
    path = tmp_path / "empty"
    path.touch()
    assert "is empty" in refused(husk, path, *given_as(path))


def test_a_path_that_is_not_there_is_refused(husk, tmp_path, given_as):
    path = tmp_path / "missing"
    assert "No such file" in refused(husk, path, *given_as(path))
    path.symlink_to(path)
    assert "Too many levels" in refused(husk, path, *given_as(path))


def test_a_directory_is_refused(husk, tmp_path, given_as):
    refused(husk, tmp_path, *given_as(tmp_path))


def test_a_fifo_without_a_writer_is_refused_and_not_waited_for(husk, tmp_path, given_as):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    refused(husk, path, *given_as(path))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty", "/proc/self/mem"])
def test_a_device_is_refused(husk, given_as, path):
    refused(husk, path, *given_as(path))


def test_a_file_that_may_not_be_read_is_refused(husk, tmp_path, given_as):
    # Root without the capabilities that let it read everything; it still reaches a checkout in its home.
    plain_root = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    path = tmp_path / "secret"
    path.write_bytes(PVH)
    path.chmod(0)
    assert "Permission denied" in refused(husk, path, *given_as(path), wrapper=plain_root)


@pytest.mark.parametrize("head", [PVH, BZIMAGE, b""])
def test_a_huge_sparse_kernel_is_refused_at_once(husk, tmp_path, head):
    path = tmp_path / "huge"
    path.write_bytes(head)
    os.truncate(path, 8 << 30)
    words = ["--kernel", str(path), "--memory", "size=64M"]
    if head == PVH:  # what follows its segments is nothing that is loaded
        words += ["--initramfs", str(path)]
    refused(husk, path, *words)


def test_no_header_byte_crashes_husk(husk, tmp_path, needs_kvm):
    """Two bytes of all ones, all over both headers: each ends in a status that husk chose."""
    path = tmp_path / "kernel"
    for good, offsets in ((BZIMAGE, range(0x1f0, 0x268, 3)), (PVH, range(4, 196, 5))):
        for offset in offsets:
            changed = bytearray(good)
            changed[offset:offset + 2] = b"\xff\xff"
            path.write_bytes(changed)
            done = subprocess.run([husk, "run", "--kernel", path, "--memory", "size=64M", "--no-reboot"],
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
            assert done.returncode in (0, 1, 4, 5), (offset, done)
