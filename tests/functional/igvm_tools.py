"""Small firmware, IGVM files and launch digests, made without husk: what the tests compare husk with."""

import fcntl
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import uuid
import zlib

PAGE = 4096
GUIDS = {
    "footer": "96b582de-1fb2-45f7-baea-a366c55a082d",
    "reset": "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
    "hashes": "7255371f-3a3b-4b04-927b-1da6efa8d454",
    "metadata": "dc886566-984a-4798-a75e-5585a7bf67cc",
    "igvm": "784fa70e-3176-4677-8a20-04b68699e374",
}
SEC_MEM, SECRETS, CPUID, SVSM_CAA, KERNEL_HASHES = 1, 2, 3, 4, 0x10
# What the synthetic firmware asks for: address, length, type.
SECTIONS = [(0x800000, 0x2000, SEC_MEM), (0x80d000, PAGE, SECRETS), (0x80e000, PAGE, CPUID),
            (0x80f000, PAGE, SVSM_CAA), (0x811000, 0x4000, SEC_MEM), (0x810000, PAGE, KERNEL_HASHES)]
AP_ADDRESS = 0x0080b004
HASHES_AT = 0x810c00
NORMAL, VMSA, ZERO, UNMEASURED, SECRETS_PAGE, CPUID_PAGE = 1, 2, 3, 4, 5, 6
VMSA_GPA = 0xFFFFFFFFF000


def firmware(pages=8, sections=None, igvm=True):
    """An image with a GUIDed table, SEV metadata and, if asked for, a table of IGVM parameters."""
    sections = SECTIONS if sections is None else sections
    size = pages * PAGE
    image = bytearray(hashlib.shake_128(b"firmware").digest(size))
    lists = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    lists += b"".join(struct.pack("<III", *section) for section in sections)
    metadata_at = 0x600
    igvm_at = metadata_at - len(lists)
    lists += struct.pack("<4sIII", b"IGVM", 16 + 36, 1, 3)
    lists += struct.pack("<9I", 0x812000, PAGE, 0x100, 0, 0xc0, 0x101, 0xc0, 16, 0x102)
    image[size - metadata_at:size - metadata_at + len(lists)] = lists

    def entry(name, data):
        return data + struct.pack("<H", len(data) + 18) + uuid.UUID(GUIDS[name]).bytes_le

    table = b""
    if igvm:
        table += entry("igvm", struct.pack("<I", igvm_at))
    table += entry("metadata", struct.pack("<I", metadata_at))
    table += entry("hashes", struct.pack("<II", HASHES_AT, 0x400))
    table += entry("reset", struct.pack("<I", AP_ADDRESS))
    table += struct.pack("<H", len(table) + 18) + uuid.UUID(GUIDS["footer"]).bytes_le
    image[size - 32 - len(table):size - 32] = table
    return bytes(image)


def sha384(data):
    return hashlib.sha384(data).digest()


class Digest:
    """The SEV-SNP launch digest."""

    def __init__(self):
        self.value = bytes(48)

    def page(self, kind, gpa, contents=None):
        digest = sha384(contents) if contents is not None else bytes(48)
        self.value = sha384(self.value + digest + struct.pack("<HBBBBBBQ", 0x70, kind, 0, 0, 0, 0, 0, gpa))

    def pages(self, kind, gpa, data):
        for at in range(0, len(data), PAGE):
            self.page(kind, gpa + at, data[at:at + PAGE] if kind == NORMAL else None)


def segment(selector, attributes, limit, base):
    return struct.pack("<HHIQ", selector, attributes, limit, base)


def vmsa(address=0xfffffff0, rdx=0, features=1, cs=0x9b, ss=0x93, tr=0x8b, mxcsr=0x1f80, fcw=0x37f,
         pat=0x0007040600070406, table_limit=0xffff):
    """The page KVM measures for a processor that starts in real mode."""
    page = bytearray(PAGE)

    def put(at, data):
        page[at:at + len(data)] = data

    def quad(at, value):
        put(at, struct.pack("<Q", value))

    for number in (0, 3, 4, 5):
        put(16 * number, segment(0, 0x93, 0xffff, 0))
    put(0x10, segment(0xf000, cs, 0xffff, address & 0xffff0000))
    put(0x20, segment(0, ss, 0xffff, 0))
    put(0x60, segment(0, 0, table_limit, 0))
    put(0x70, segment(0, 0x82, 0xffff, 0))
    put(0x80, segment(0, 0, table_limit, 0))
    put(0x90, segment(0, tr, 0xffff, 0))
    for at, value in ((0xd0, 0x1000), (0x148, 0x40), (0x158, 0x10), (0x160, 0x400), (0x168, 0xffff0ff0),
                      (0x170, 2), (0x178, address & 0xffff), (0x268, pat), (0x310, rdx), (0x3b0, features),
                      (0x3e8, 1)):
        quad(at, value)
    put(0x408, struct.pack("<I", mxcsr))
    put(0x410, struct.pack("<H", fcw))
    return bytes(page)


def hash_table(kernel, initrd, cmdline):
    """The kernel-hash table as QEMU writes it."""
    def entry(guid, digest):
        return uuid.UUID(guid).bytes_le + struct.pack("<H", 50) + digest

    def sha256(data):
        return hashlib.sha256(data).digest()

    table = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21").bytes_le + struct.pack("<H", 168)
    table += entry("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", sha256(cmdline + b"\0"))
    table += entry("44baf731-3a2f-4bd7-9af1-41e29169781d", sha256(initrd))
    table += entry("4de79437-abd2-427f-b835-d5b172d2045b", sha256(kernel))
    return table + bytes(8)


def firmware_digest(image, vmsas, hashes=None, cpuid_last=False):
    """The digest of firmware in the order of its metadata."""
    digest = Digest()
    digest.pages(NORMAL, 0x100000000 - len(image), image)
    kinds = {SECRETS: SECRETS_PAGE, CPUID: CPUID_PAGE}
    sections = SECTIONS
    if cpuid_last:
        sections = [s for s in SECTIONS if s[2] != CPUID] + [s for s in SECTIONS if s[2] == CPUID]
    for gpa, length, kind in sections:
        if kind == KERNEL_HASHES and hashes:
            page = bytes(HASHES_AT - gpa) + hashes
            digest.page(NORMAL, gpa, page + bytes(PAGE - len(page)))
        else:
            digest.pages(kinds.get(kind, ZERO), gpa, bytes(length))
    for page in vmsas:
        digest.page(VMSA, VMSA_GPA, page)
    return digest.value.hex()


HOSTILE = ["empty", "unknown", "parameters", "repeated", "pages", "areas", "indexes"]


def hostile(kind):
    """64 MiB of headers that a reader could be slow at."""
    size = 64 << 20
    data = b""
    platform = struct.pack("<II", 1, 16) + struct.pack("<IBBHQ", 1, 0, 2, 1, 0)
    if kind in ("empty", "unknown"):
        one = struct.pack("<II", 0x80000001 if kind == "empty" else 0x7fffffff, 0)
        body = one * ((size - 48) // 8)
    elif kind == "parameters":
        area = struct.pack("<IIQII", 0x301, 16, 4096, 0, 0)
        insert = struct.pack("<IIQII", 0x303, 16, 0, 1, 0)
        body = area + struct.pack("<IIII", 0x307, 8, 0, 0) * ((size - 96) // 16) + insert
    elif kind == "repeated":
        # Valid, but for each 32 bytes of headers there is a page to hash.
        count = (size - 48 - 4096) // 32
        start = 48 + 32 * count
        body = b"".join(struct.pack("<IIQIIIHH", 0x302, 24, number << 12, 1, start, 0, 0, 0)
                        for number in range(count))
        data = b"\1" * 4096
    elif kind == "pages":
        count = (size - 48) // 32
        body = b"".join(struct.pack("<IIQIIIHH", 0x302, 24, (number * 7919 % 1048573) << 21, 1, 0, 1, 0, 0)
                        for number in range(count))
    else:
        count = (size - 48) // 48
        # Indexes that differ in their upper bits only, in a bad order, or one after the other.
        indexes = (number * 7919 % 1048573 << 12 & 0xffffffff if kind == "indexes" else number
                   for number in range(count))
        body = b"".join(struct.pack("<IIQIIIIQII", 0x301, 16, 1 << 30, index, 0, 0x303, 16, number << 30, 1, index)
                        for number, index in enumerate(indexes))
    body = platform + body
    head = struct.pack("<IIIIII", 0x4D564749, 1, 24, len(body), 24 + len(body) + len(data), 0)
    return head[:20] + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body + data


def run(husk, *words, check=True, **options):
    """Run husk; returns the finished process."""
    result = subprocess.run([husk, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=120, check=False, **options)
    if check:
        assert result.returncode == 0, result.stderr
    return result


def headers(husk, path):
    return json.loads(run(husk, "igvm", "show", path, "--json").stdout)["headers"]


def cache():
    """Where what was fetched is kept, outside of the checkout."""
    base = os.environ.get("HUSK_CACHE")
    if not base:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "husk"
    return pathlib.Path(base)


def sid(*words, cwd):
    """apt-get on Debian sid, with a configuration of its own. Returns its exit status and output."""
    home = cache() / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    sources = home / "sources.list"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text("".join(f"{kind} [signed-by={keyring}] http://deb.debian.org/debian sid main\n"
                               for kind in ("deb", "deb-src")))
    options = ["-q", "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null",
               "-o", f"Dir::State::lists={home}/lists", "-o", f"Dir::Cache={home}/cache",
               "-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root",
               "-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"]
    try:
        result = subprocess.run(["apt-get", *options, *words], cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                                capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return 1, "apt-get took more than five minutes"
    return result.returncode, result.stdout + result.stderr


def fetch(package, pattern):
    """A file of a Debian sid package, from the cache or freshly fetched; None with the reason if it cannot be had."""
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / f".{package}.lock", "w", encoding="ascii") as lock:
        # Two runs at once share the cache: one fetches, and the other waits for all of it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _fetch(package, pattern)


def _fetch(package, pattern):
    folder = cache() / package
    found = sorted(folder.rglob(pattern))
    if found:
        return found[0], ""
    folder.mkdir(parents=True, exist_ok=True)
    for words in (("update",), ("download", package)):
        status, output = sid(*words, cwd=folder)
        if status:
            return None, output.strip().splitlines()[-1] if output.strip() else "apt-get failed"
    for deb in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, folder], check=True)
    found = sorted(folder.rglob(pattern))
    return (found[0], "") if found else (None, f"{package} has no {pattern}")
