"""Debian's QEMU of suite sid and the SNP firmware there, in a root of their own; and what such a launch must measure.

The expected digest is computed here, from the firmware file and the published formats alone: nothing of husk's is used.
"""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import uuid

import sim_steps

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "host"))

import cache  # noqa: E402
import debian  # noqa: E402

SUITE = "sid"
PACKAGES = ["qemu-system-x86", "ovmf-amdsev"]
FOOTER_TABLE = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
SEV_METADATA = uuid.UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
RESET_BLOCK = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
HASH_TABLE_PLACE = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
HASH_TABLE = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
HASHES = [uuid.UUID(text) for text in ("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", "44baf731-3a2f-4bd7-9af1-41e29169781d",
                                       "4de79437-abd2-427f-b835-d5b172d2045b")]
PAGE = 4096
NORMAL, VMSA, ZERO, SECRETS, CPUID = 1, 2, 3, 5, 6
SEC_MEM, SECTION_SECRETS, SECTION_CPUID, SVSM_CAA, KERNEL_HASHES = 1, 2, 3, 4, 0x10
VMSA_GPA = 0xfffffffff000
EPYC_V4 = 0x800f12


def root():
    """The folder that holds QEMU with all it needs, and the firmware; fetched once (43 MB)."""
    def make(work):
        cache.say(f"fetching QEMU and the SNP firmware of Debian {SUITE} (43 MB)")
        debian.with_dependencies(SUITE, PACKAGES, work / "root")

    return cache.entry("sim-qemu", cache.digest(SUITE, *PACKAGES), make) / "root"


def firmware():
    """Path of OVMF.amdsev.fd."""
    return root() / "usr/share/ovmf/OVMF.amdsev.fd"


def command(*more):
    """The words that start that QEMU with its own loader and libraries, for an SNP guest."""
    at = root()
    words = [at / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", at / "usr/lib/x86_64-linux-gnu",
             at / "usr/bin/qemu-system-x86_64", "-L", at / "usr/share/qemu", "-L", at / "usr/share/seabios",
             "-accel", "kvm", "-M", "q35,confidential-guest-support=sev0,memory-backend=m0,kernel-irqchip=split",
             "-object", "memory-backend-memfd,id=m0,size=512M,share=on", "-m", "512M", "-bios", firmware(),
             "-cpu", "EPYC-v4", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot", *more]
    return [str(word) for word in words]


def c_bit(husk):
    """Position of the C-bit as this processor's CPUID 0x8000001f tells it: QEMU insists on the same number."""
    said = subprocess.run([sim_steps.step_vmm(husk), "host-cpuid"], capture_output=True, text=True, check=True).stdout
    return json.loads(said)["ebx"] & 0x3f


def guided_table(image):
    """The GUIDed entries at the end of a firmware image: GUID -> contents."""
    end = len(image) - 32
    assert uuid.UUID(bytes_le=image[end - 16:end]) == FOOTER_TABLE
    length, = struct.unpack("<H", image[end - 18:end - 16])
    at, first = end - 18, end - length
    entries = {}
    while at > first:
        guid = uuid.UUID(bytes_le=image[at - 16:at])
        size, = struct.unpack("<H", image[at - 18:at - 16])
        entries[guid] = image[at - size:at - 18]
        at -= size
    return entries


def sections(image):
    """The sections of the SEV metadata, in file order: (gpa, size, type)."""
    offset, = struct.unpack("<I", guided_table(image)[SEV_METADATA])
    at = len(image) - offset
    signature, _, version, count = struct.unpack("<4sIII", image[at:at + 16])
    assert signature == b"ASEV" and version == 1
    return [struct.unpack("<III", image[at + 16 + 12 * i:at + 28 + 12 * i]) for i in range(count)]


def extend(digest, kind, gpa, contents=None):
    """One page into a launch digest (SNP ABI 8.17.2, PAGE_INFO)."""
    body = hashlib.sha384(contents).digest() if contents is not None else bytes(48)
    return hashlib.sha384(digest + body + struct.pack("<HB5xQ", 0x70, kind, gpa)).digest()


def vmsa(eip, signature, features=1):
    """A vCPU as QEMU leaves it at reset, as KVM hands it to the firmware (APM volume 2, table B-4)."""
    page = bytearray(PAGE)

    def segment(at, selector, attributes, limit, base=0):
        struct.pack_into("<HHIQ", page, at, selector, attributes, limit, base)

    for at in (0x00, 0x20, 0x30, 0x40, 0x50):
        segment(at, 0, 0x93, 0xffff)
    segment(0x10, 0xf000, 0x9b, 0xffff, eip & 0xffff0000)
    segment(0x60, 0, 0, 0xffff)
    segment(0x70, 0, 0x82, 0xffff)
    segment(0x80, 0, 0, 0xffff)
    segment(0x90, 0, 0x8b, 0xffff)
    for at, value in ((0xd0, 0x1000), (0x148, 0x40), (0x158, 0x10), (0x160, 0x400), (0x168, 0xffff0ff0), (0x170, 2),
                      (0x178, eip & 0xffff), (0x268, 0x0007040600070406), (0x310, signature), (0x3b0, features),
                      (0x3e8, 1)):
        struct.pack_into("<Q", page, at, value)
    struct.pack_into("<I", page, 0x408, 0x1f80)
    struct.pack_into("<H", page, 0x410, 0x37f)
    return bytes(page)


def hash_page(image, kernel, initrd, cmdline):
    """The page with the hashes of a kernel, and where it lies."""
    base, _ = struct.unpack("<II", guided_table(image)[HASH_TABLE_PLACE])
    table = HASH_TABLE.bytes_le + struct.pack("<H", 168)
    for guid, data in zip(HASHES, (cmdline + b"\0", initrd, kernel)):
        table += guid.bytes_le + struct.pack("<H", 50) + hashlib.sha256(data).digest()
    return (bytes(base % PAGE) + table).ljust(PAGE, b"\0")


def expected_digest(image, vcpus, hashes=None):
    """The launch digest of this firmware under QEMU 11. hashes: (kernel, initrd, command line) as bytes."""
    digest = bytes(48)
    base = (1 << 32) - len(image)
    for at in range(0, len(image), PAGE):
        digest = extend(digest, NORMAL, base + at, image[at:at + PAGE])
    for gpa, size, kind in sections(image):
        if kind == KERNEL_HASHES and hashes:
            digest = extend(digest, NORMAL, gpa, hash_page(image, *hashes))
            continue
        page_type = {SECTION_SECRETS: SECRETS, SECTION_CPUID: CPUID}.get(kind, ZERO)
        for at in range(gpa, gpa + size, PAGE):
            digest = extend(digest, page_type, at)
    reset, = struct.unpack("<I", guided_table(image)[RESET_BLOCK])
    for index in range(vcpus):
        digest = extend(digest, VMSA, VMSA_GPA, vmsa(0xfffffff0 if index == 0 else reset, EPYC_V4))
    return digest.hex()
