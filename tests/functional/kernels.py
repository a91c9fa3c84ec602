"""Kernels of a few bytes, made field by field so that each field can lie: a bzImage and a PVH ELF file that power off."""

import struct

# Writes 0x34 to port 0x600, then halts; the same bytes in 32-bit and 64-bit code.
POWER_OFF = bytes.fromhex("66ba0006 b034 ee f4 ebfd")

BZIMAGE_FIELDS = {
    "setup_sects": (0x1f1, "B", 1),
    "syssize": (0x1f4, "I", 0x40),
    "boot_flag": (0x1fe, "H", 0xaa55),
    "jump": (0x200, "H", 0x66eb),
    "version": (0x206, "H", 0x20f),
    "loadflags": (0x211, "B", 1),
    "initrd_addr_max": (0x22c, "I", 0x7fffffff),
    "kernel_alignment": (0x230, "I", 0x200000),
    "relocatable_kernel": (0x234, "B", 1),
    "xloadflags": (0x236, "H", 1),
    "cmdline_size": (0x238, "I", 2047),
    "pref_address": (0x258, "Q", 0x1000000),
    "init_size": (0x260, "I", 0x100000),
}


def bzimage(**changed):
    """A bzImage of 2048 bytes that powers off, with the named header fields changed."""
    assert set(changed) <= set(BZIMAGE_FIELDS)
    image = bytearray(2048)
    image[0x202:0x206] = b"HdrS"
    for name, (offset, kind, value) in BZIMAGE_FIELDS.items():
        struct.pack_into("<" + kind, image, offset, changed.get(name, value))
    image[0x600:0x600 + len(POWER_OFF)] = POWER_OFF
    return bytes(image)


ELF_FIELDS = {
    "ei_class": (4, "B", 2),
    "ei_data": (5, "B", 1),
    "e_type": (16, "H", 2),
    "e_machine": (18, "H", 62),
    "e_phoff": (32, "Q", 64),
    "e_phentsize": (54, "H", 56),
    "e_phnum": (56, "H", 2),
    "p_offset": (64 + 8, "Q", 0x1000),
    "p_paddr": (64 + 24, "Q", 0x100000),
    "p_filesz": (64 + 32, "Q", len(POWER_OFF)),
    "p_memsz": (64 + 40, "Q", 0x1000),
    "note_offset": (120 + 8, "Q", 176),
    "note_filesz": (120 + 32, "Q", 20),
    "n_namesz": (176, "I", 4),
    "n_descsz": (180, "I", 4),
    "n_type": (184, "I", 18),
    "entry": (192, "I", 0x100000),
}


def pvh(**changed):
    """A PVH ELF file with one segment and one note that powers off, with the named fields changed."""
    assert set(changed) <= set(ELF_FIELDS)
    image = bytearray(0x1000) + POWER_OFF
    image[:7] = b"\x7fELF\2\1\1"
    struct.pack_into("<I", image, 20, 1)
    struct.pack_into("<I", image, 64, 1)   # PT_LOAD
    struct.pack_into("<I", image, 120, 4)  # PT_NOTE
    image[188:192] = b"Xen\0"
    for name, (offset, kind, value) in ELF_FIELDS.items():
        struct.pack_into("<" + kind, image, offset, changed.get(name, value))
    return bytes(image)
