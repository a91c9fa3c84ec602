"""IGVM files written header by header, put together by husk's own tool from the JSON that it takes."""

import json
import struct
import subprocess

PAGE = 4096
NATIVE, SEV_SNP = 0, 2
PAYLOAD, SAVE, RANGES, TABLES = 0x100000, 0x201000, 0x202000, 0x300000
(PLATFORM, POLICY, AREA, PAGE_DATA, INSERT, CONTEXT, REQUIRED, VP_COUNT, SRAT, MADT, MMIO, ID_BLOCK, MEMORY_MAP,
 ERROR_RANGE, COMMAND_LINE, SLIT, PPTT, VBS, DEVICE_TREE, ENVIRONMENT) = (
    0x1, 0x101, 0x301, 0x302, 0x303, 0x304, 0x305, 0x307, 0x308, 0x309, 0x30a, 0x30b, 0x30c, 0x30d, 0x30e, 0x30f,
    0x310, 0x311, 0x312, 0x313)
REGION, TABLE_REGION, CORIM = 0x102, 0x103, (0x104, 0x105)
OPTIONAL = 0x80000000
GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))


class File:
    """An IGVM file in the making."""

    def __init__(self, version=1):
        self.version = version
        self.headers = []  # type, payload, where its file offset stands, data

    def add(self, kind, payload, offset_at=None, data=None):
        """A header; returns its number."""
        self.headers.append((kind, payload, offset_at, data))
        return len(self.headers)

    def platform(self, mask, kind, vtl=0):
        return self.add(PLATFORM, struct.pack("<IBBHQ", mask, vtl, kind, 1, 0))

    def page(self, gpa, mask, data=None, flags=0, kind=0):
        size = PAGE << 9 if flags & 1 else PAGE
        if data is not None:
            data = data + bytes(size - len(data))
        return self.add(PAGE_DATA, struct.pack("<QIIIHH", gpa, mask, 0, flags, kind, 0), 12, data)

    def area(self, index, size=PAGE, data=None):
        return self.add(AREA, struct.pack("<QII", size, index, 0), 12, data)

    def parameter(self, kind, index, offset=0):
        return self.add(kind, struct.pack("<II", index, offset))

    def insert(self, index, gpa, mask):
        return self.add(INSERT, struct.pack("<QII", gpa, mask, index))

    def context(self, mask, data, vcpu=0, gpa=0):
        data = data + bytes(PAGE - len(data))
        return self.add(CONTEXT, struct.pack("<QIIHH", gpa, mask, 0, vcpu, 0), 12, data)

    def required(self, gpa, size, mask, flags=0):
        return self.add(REQUIRED, struct.pack("<QIIII", gpa, mask, size, flags, 0))

    def error_range(self, gpa, size, mask):
        return self.add(ERROR_RANGE, struct.pack("<QII", gpa, mask, size))

    def write(self, husk, folder, name="guest"):
        """The file's path."""
        start = 24 if self.version == 1 else 32
        start += sum(8 + (len(payload) + 7) // 8 * 8 for _, payload, _, _ in self.headers)
        data, headers = b"", []
        for kind, payload, offset_at, content in self.headers:
            if content is not None:
                offset = struct.pack("<I", start + len(data))
                payload = payload[:offset_at] + offset + payload[offset_at + 4:]
                data += content
            headers.append({"type": kind, "payload": payload.hex()})
        root = {"version": self.version, "headers": headers}
        if self.version == 2:
            root.update(architecture=0, page_size=PAGE)
        (folder / f"{name}.json").write_text(json.dumps(root))
        (folder / f"{name}.data").write_bytes(data)
        path = folder / f"{name}.igvm"
        subprocess.run([husk, "igvm", "build", "--json", folder / f"{name}.json", "--data", folder / f"{name}.data",
                        "-o", path], check=True, timeout=60)
        return path


def native_context(state):
    """IgvmNativeVpContextX64 of a processor in long mode."""
    out = struct.pack("<16Q", *(state[name] for name in GENERAL))
    out += struct.pack("<QQ", state["rip"], state["rflags"])
    out += struct.pack("<QH4xHQ", state["idt"][0], state["idt"][1], state["gdt"][1], state["gdt"][0])
    # Attributes have a gap in bits 11:8 here, where a VMSA has none.
    out += struct.pack("<HHII", 0x10, 0xa09b, 0, 0xffffffff)
    out += struct.pack("<HHII", 0x18, 0xc093, 0, 0xffffffff)
    return out + struct.pack("<Q4Q", state["gs_base"], state["cr0"], state["cr3"], state["cr4"], state["efer"])


def vmsa(state):
    """A VMSA of a processor in long mode, SVME set as KVM has it measured."""
    page = bytearray(PAGE)

    def put(at, form, *values):
        struct.pack_into("<" + form, page, at, *values)

    for at, selector, attributes, base in ((0x00, 0x18, 0xc93, 0), (0x10, 0x10, 0xa9b, 0), (0x20, 0x18, 0xc93, 0),
                                           (0x30, 0x18, 0xc93, 0), (0x40, 0x18, 0xc93, state["fs_base"]),
                                           (0x50, 0x18, 0xc93, state["gs_base"])):
        put(at, "HHIQ", selector, attributes, 0xffffffff, base)
    put(0x60, "HHIQ", 0, 0, state["gdt"][1], state["gdt"][0])
    put(0x70, "HHIQ", 0, 0x82, 0xffff, 0)
    put(0x80, "HHIQ", 0, 0, state["idt"][1], state["idt"][0])
    put(0x90, "HHIQ", 0, 0x8b, 0xffff, 0)
    put(0xd0, "Q", state["efer"] | 0x1000)
    put(0x148, "3Q", state["cr4"], state["cr3"], state["cr0"])
    put(0x160, "4Q", state["dr7"], state["dr6"], state["rflags"], state["rip"])
    places = {"rsp": 0x1d8, "rax": 0x1f8, "rcx": 0x308, "rdx": 0x310, "rbx": 0x318, "rbp": 0x328, "rsi": 0x330,
              "rdi": 0x338, **{f"r{n}": 0x340 + 8 * (n - 8) for n in range(8, 16)}}
    for name, at in places.items():
        put(at, "Q", state[name])
    put(0x268, "Q", state["pat"])
    put(0x3b0, "Q", 1)
    put(0x3e8, "Q", 1)
    put(0x408, "I", state["mxcsr"])
    put(0x410, "H", state["fcw"])
    return bytes(page)


def long_mode(**changes):
    """A state whose fields all differ, and whose page tables page_tables() makes."""
    state = {name: 0x1111111111111111 * (index + 1) & (1 << 64) - 1 for index, name in enumerate(GENERAL)}
    state.update(rip=PAYLOAD, rflags=0x246 & ~0x200, cr0=0x80000033, cr3=TABLES, cr4=0x620, efer=0xd00,
                 idt=(0x123000, 0x7f), gdt=(TABLES + 0x4000, 0x1f), fs_base=0, gs_base=0x7788990000,
                 pat=0x0007040600070406, dr6=0xffff0ff0, dr7=0x400, mxcsr=0x1f80, fcw=0x37f)
    state.update(changes)
    return state


def add_tables(file, mask):
    """Identity mapping of the first 4 GiB by 2 MiB pages, and the descriptors of the selectors above."""
    file.page(TABLES, mask, struct.pack("<Q", TABLES + 0x1003))
    file.page(TABLES + 0x1000, mask, struct.pack("<4Q", *(TABLES + 0x5003 + n * PAGE for n in range(4))))
    file.page(TABLES + 0x4000, mask, struct.pack("<4Q", 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff))
    for n in range(4):
        file.page(TABLES + 0x5000 + n * PAGE, mask,
                  b"".join(struct.pack("<Q", (n << 30) + (m << 21) | 0x83) for m in range(512)))


def payload_bytes(payloads, name="igvmdump"):
    """The one segment of a payload's ELF file."""
    elf = (payloads / f"{name}.elf").read_bytes()
    at, = struct.unpack_from("<Q", elf, 32)
    kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", elf, at)
    assert kind == 1 and address == PAYLOAD
    return elf[offset:offset + size]


def add_payload(file, mask, payloads, ranges):
    """The payload that writes @ranges, address and length each, to the debug port."""
    file.page(PAYLOAD, mask, payload_bytes(payloads))
    file.page(RANGES, mask, b"".join(struct.pack("<QQ", *r) for r in ranges))
    add_tables(file, mask)


def saved_registers(dump):
    """What the payload kept, by name."""
    names = (*GENERAL, "rflags", "cr0", "cr3", "cr4", "efer", "pat", "dr6", "dr7", "fs_base", "gs_base")
    state = dict(zip(names, struct.unpack_from(f"<{len(names)}Q", dump)))
    state.update(zip(("cs", "ds", "es", "fs", "gs", "ss"), struct.unpack_from("<6H", dump, 208)))
    for name, at in (("gdt", 224), ("idt", 240)):
        limit, base = struct.unpack_from("<HQ", dump, at)
        state[name] = (base, limit)
    state["fcw"], = struct.unpack_from("<H", dump, 256)
    state["mxcsr"], = struct.unpack_from("<I", dump, 256 + 24)
    return state
