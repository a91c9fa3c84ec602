"""husk igvm: building, showing, taking apart and changing files; and the library as other programs see it."""

import json
import os
import pathlib
import re
import struct
import subprocess
import xml.etree.ElementTree
import zlib

import pytest

import igvm_tools as tools
import pace
from test_measure import make_key, measure, openssl_accepts, public_point

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(name="image")
def image_file(tmp_path):
    path = tmp_path / "firmware.fd"
    path.write_bytes(tools.firmware())
    return path


def build(husk, image, out, *words):
    tools.run(husk, "igvm", "build", "--firmware", image, "-o", out, *words)
    return out


def rebuilt(husk, path, tmp_path):
    """The file made again from what show and extract give."""
    (tmp_path / "json").write_text(tools.run(husk, "igvm", "show", path, "--json").stdout)
    tools.run(husk, "igvm", "extract", path, "-o", tmp_path / "data")
    tools.run(husk, "igvm", "build", "--json", tmp_path / "json", "--data", tmp_path / "data", "-o",
              tmp_path / "rebuilt")
    return (tmp_path / "rebuilt").read_bytes()


@pytest.mark.parametrize("words", [
    (), ("--layout", "buildigvm", "--cpus", "4"), ("--platform", "native"),
    ("--platform", "sev-snp", "--platform", "sev-es", "--platform", "sev", "--platform", "native", "--host-map"),
])
def test_build_show_extract_rebuild_gives_the_same_bytes(husk, image, tmp_path, words):
    one = build(husk, image, tmp_path / "one", *words).read_bytes()
    two = build(husk, image, tmp_path / "two", *words).read_bytes()
    assert one == two
    assert tools.run(husk, "igvm", "show", "--verify", tmp_path / "one").stdout == ""
    assert rebuilt(husk, tmp_path / "one", tmp_path) == one


def test_small_native_file_is_these_bytes(husk, tmp_path):
    """Version 2 with one page and one context, put together here from the definitions."""
    image = tmp_path / "raw.fd"
    image.write_bytes(b"\x90" * 4096)
    out = build(husk, image, tmp_path / "native.igvm", "--platform", "native").read_bytes()
    context = bytearray(4096)
    context[16 * 8:18 * 8] = struct.pack("<QQ", 0xfff0, 2)
    context[18 * 8 + 8:18 * 8 + 10] = b"\xff\xff"           # IDT limit
    context[18 * 8 + 14:18 * 8 + 16] = b"\xff\xff"          # GDT limit
    context[168:180] = struct.pack("<HHII", 0xf000, 0x9b, 0xffff0000, 0xffff)
    context[180:192] = struct.pack("<HHII", 0, 0x93, 0, 0xffff)
    context[16 * 8 + 16:16 * 8 + 24] = bytes(8)
    context[200:208] = struct.pack("<Q", 0x10)
    data_at = 32 + 24 + 32 + 32
    expected = struct.pack("<IIIIII", 0x4D564749, 2, 32, 88, data_at + 8192, 0) + struct.pack("<II", 0, 4096)
    expected += struct.pack("<II", 1, 16) + struct.pack("<IBBHQ", 1, 0, 0, 1, 0)
    expected += struct.pack("<II", 0x302, 24) + struct.pack("<QIIIHH", 0xfffff000, 1, data_at, 0, 0, 0)
    expected += struct.pack("<II", 0x304, 20) + struct.pack("<QIIHHI", 0, 1, data_at + 4096, 0, 0, 0)
    expected += b"\x90" * 4096 + bytes(context)
    assert out[:20] == expected[:20] and out[24:] == expected[24:]


def test_parameter_area_splits_the_range_it_lies_in(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "map.igvm", "--host-map")
    kinds = [(h["name"], h.get("gpa")) for h in tools.headers(husk, out)]
    assert kinds[2:7] == [("PARAMETER_AREA", None), ("MEMORY_MAP", None), ("VP_COUNT_PARAMETER", None),
                          ("PARAMETER_INSERT", 0x812000), ("PAGE_DATA", 0xffff8000)]
    start = kinds.index(("PAGE_DATA", 0x811000))
    assert kinds[start:start + 3] == [("PAGE_DATA", 0x811000), ("PAGE_DATA", 0x813000), ("PAGE_DATA", 0x814000)]
    assert ("PAGE_DATA", 0x812000) not in kinds
    assert [h["byte_offset"] for h in tools.headers(husk, out) if "byte_offset" in h] == [0, 0xc0]


def test_firmware_without_metadata_is_for_native_guests_only(husk, tmp_path):
    image = tmp_path / "plain.fd"
    image.write_bytes(bytes(8192))
    build(husk, image, tmp_path / "native.igvm", "--platform", "native")
    refused = tools.run(husk, "igvm", "build", "--firmware", image, "-o", tmp_path / "snp.igvm", check=False)
    assert refused.returncode == 1 and "no SEV metadata" in refused.stderr
    assert not (tmp_path / "snp.igvm").exists()


def test_text_folds_runs_of_pages(husk, image, tmp_path):
    text = tools.run(husk, "igvm", "show", build(husk, image, tmp_path / "a.igvm")).stdout
    assert re.search(r"3-10 +PAGE_DATA +0xffff8000-0xffffffff +8 pages, NORMAL, mask 0x1", text)
    assert "GUEST_POLICY  policy 0x30000 mask 0x1 (ABI 0.0, SMT allowed)" in text
    assert len(text.splitlines()) < 15


def test_picture_is_svg_of_1000_pixels_with_every_kind_of_page(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "a<b>.igvm", "--host-map")
    tools.run(husk, "igvm", "show", out, "--svg", tmp_path / "a.svg")
    root = xml.etree.ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.get("width") == "1000"
    words = " ".join(element.text or "" for element in root.iter())
    for kind in ("data,", "empty pages,", "secrets,", "CPUID,", "parameter area,", "a<b>.igvm", "not loaded"):
        assert kind in words


def test_verify_lists_every_finding_and_exits_1(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "bad.igvm")
    data = bytearray(out.read_bytes())
    for number in (3, 5):  # pages: an address that is not aligned
        data[24 + 24 + 24 + (number - 3) * 32 + 8] = 1
    out.write_bytes(data)
    result = tools.run(husk, "igvm", "show", "--verify", out, check=False)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("the file: checksum is")
    assert lines[1].startswith("header 3 (PAGE_DATA, type 0x302, at byte 0x48): gpa 0xffff8001 is not aligned")
    assert any(line.startswith("header 5 (PAGE_DATA, type 0x302, at byte 0x88): gpa") for line in lines)
    shown = tools.run(husk, "igvm", "show", out, check=False)
    assert shown.returncode == 1 and "checksum" in shown.stderr and "--verify" in shown.stderr


def test_set_policy_changes_the_policy_and_the_checksum_alone(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "p.igvm")
    before = out.read_bytes()
    tools.run(husk, "igvm", "set-policy", out, "0xb0000", "-o", tmp_path / "q.igvm")
    after = (tmp_path / "q.igvm").read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    assert all(20 <= at < 24 or 56 <= at < 64 for at in changed) and len(before) == len(after)
    assert out.read_bytes() == before
    assert tools.headers(husk, tmp_path / "q.igvm")[1]["policy"] == 0xb0000
    assert measure(husk, "--igvm", out) == measure(husk, "--igvm", tmp_path / "q.igvm")
    refused = tools.run(husk, "igvm", "set-policy", out, "0x10000", check=False)
    assert refused.returncode == 1 and "bit 17" in refused.stderr


def test_policy_is_added_to_a_file_that_has_none_and_the_rest_stays(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "p.igvm")
    shown = json.loads(tools.run(husk, "igvm", "show", out, "--json").stdout)
    bare = bytearray(out.read_bytes())
    del bare[48:72]  # its policy
    for at in (12, 16):
        struct.pack_into("<I", bare, at, struct.unpack_from("<I", bare, at)[0] - 24)
    for header in shown["headers"]:
        if header.get("file_offset"):
            field = header["offset"] - 24 + 8 + 12
            struct.pack_into("<I", bare, field, header["file_offset"] - 24)
    (tmp_path / "bare").write_bytes(bare)
    found = tools.run(husk, "igvm", "show", "--verify", tmp_path / "bare", check=False).stdout
    checksum = int(re.search(r"CRC-32 is 0x([0-9a-f]+)", found).group(1), 16)
    struct.pack_into("<I", bare, 20, checksum)
    (tmp_path / "bare").write_bytes(bare)
    tools.run(husk, "igvm", "set-policy", tmp_path / "bare", "0x30000")
    assert (tmp_path / "bare").read_bytes() == out.read_bytes()


def test_signed_file_holds_its_own_digest_and_openssl_verifies_it(husk, image, tmp_path):
    key, author = make_key(tmp_path / "id.pem"), make_key(tmp_path / "author.pem")
    plain = build(husk, image, tmp_path / "plain.igvm", "--cpus", "2")
    words = ("--id-key", key, "--author-key", author, "--family-id", "aa", "--guest-svn", "3")
    built = build(husk, image, tmp_path / "built.igvm", "--cpus", "2", *words)
    tools.run(husk, "igvm", "sign", plain, "-o", tmp_path / "signed.igvm", *words)
    digest = measure(husk, "--igvm", plain, "--cpus", "boot=2")
    for path in (built, tmp_path / "signed.igvm"):
        assert measure(husk, "--igvm", path, "--cpus", "boot=2") == digest
        header = tools.headers(husk, path)[-1]
        assert (header["name"], header["ld"], header["guest_svn"]) == ("SNP_ID_BLOCK", digest, 3)
        payload = bytes.fromhex(header["payload"])
        block = bytes.fromhex(digest) + b"\xaa" + bytes(31) + struct.pack("<IIQ", 1, 3, 0x30000)
        x, y = public_point(key)
        id_key = struct.pack("<I", 2) + x[::-1] + bytes(24) + y[::-1] + bytes(24) + bytes(1028 - 148)
        assert payload[104 + 144:104 + 144 + 8] == struct.pack("<II", 2, 0)
        assert openssl_accepts(tmp_path, key, payload[104:], block)
        assert openssl_accepts(tmp_path, author, payload[104 + 144 + 152:], id_key)
    # Everything but the new header, the sizes and the offsets is as it was.
    assert (tmp_path / "signed.igvm").stat().st_size == plain.stat().st_size + 8 + 696


def test_the_same_is_built_and_signed_alike(husk, image, tmp_path):
    key, author = make_key(tmp_path / "id.pem"), make_key(tmp_path / "author.pem")
    words = ["--cpus", "3", "--host-map"]
    assert build(husk, image, tmp_path / "a", *words).read_bytes() == build(husk, image, tmp_path / "b", *words).read_bytes()
    words += ["--id-key", key, "--author-key", author]
    one, two = (build(husk, image, tmp_path / name, *words).read_bytes() for name in "cd")
    version = subprocess.run(["openssl", "version"], check=True, capture_output=True, text=True).stdout.split()[1]
    if tuple(map(int, version.split(".")[:2])) >= (3, 2):
        assert one == two
        return
    # Before 3.2 OpenSSL signs with a nonce of chance: the two signatures differ, and the checksum over them.
    at = one.index(struct.pack("<II", 0x30b, 696)) + 8
    mutable = set(range(20, 24)) | set(range(at + 104, at + 248)) | set(range(at + 400, at + 544))
    assert [i for i in range(len(one)) if one[i] != two[i] and i not in mutable] == []


def test_second_id_block_is_refused_unless_it_replaces(husk, image, tmp_path):
    key = make_key(tmp_path / "id.pem")
    out = build(husk, image, tmp_path / "s.igvm", "--id-key", key)
    size = out.stat().st_size
    again = tools.run(husk, "igvm", "sign", out, "--id-key", key, check=False)
    assert again.returncode == 1 and "has an ID block already" in again.stderr
    tools.run(husk, "igvm", "sign", out, "--id-key", key, "--replace")
    assert out.stat().st_size == size
    refused = tools.run(husk, "igvm", "set-policy", out, "0x30000", check=False)
    assert refused.returncode == 1 and "whose signature covers the policy" in refused.stderr


def test_measuring_a_changed_file_tells_that_its_id_block_demands_another_digest(husk, image, tmp_path):
    out = build(husk, image, tmp_path / "s.igvm", "--id-key", make_key(tmp_path / "id.pem"))
    data = bytearray(out.read_bytes())
    data[-5000] ^= 1  # in the page data
    out.write_bytes(data)
    assert "BAD_MEASUREMENT" in tools.run(husk, "measure", "--igvm", out).stderr


@pytest.mark.parametrize("kind", tools.HOSTILE)
def test_hostile_64_mib_are_read_or_refused_in_2_s_and_256_mib(husk, tmp_path, kind):
    path = tmp_path / "hostile.igvm"
    path.write_bytes(tools.hostile(kind))
    for words in (["measure", "--igvm", path], ["igvm", "show", "--verify", path]):
        status, seconds, kib = pace.measured(husk, *words, below=2.0)
        assert seconds < 2.0 and kib < 256 << 10, f"{words[0]}: {seconds} s, {kib} KiB"
        assert status in (0, 1)
        if words[0] == "measure" and kind not in ("empty", "parameters"):
            assert status != 0


def test_verify_lists_10000_findings_of_a_kind_and_counts_the_rest(husk, tmp_path):
    path = tmp_path / "wrong.igvm"
    body = struct.pack("<II", 1, 16) + struct.pack("<IBBHQ", 1, 0, 2, 1, 0) + struct.pack("<II", 0x7fffffff, 0) * 10007
    head = struct.pack("<IIIIII", 0x4D564749, 1, 24, len(body), 24 + len(body), 0)
    path.write_bytes(head[:20] + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body)
    done = subprocess.run([husk, "igvm", "show", "--verify", path], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and len(lines) == 10002
    assert lines[0].startswith("header 2 (") and lines[9999].startswith("header 10001 (")
    assert " 7 more findings " in lines[10000] and lines[10001].endswith(": 10007 findings")


PROGRAM = r"""
#include <igvm/igvm.h>
#include <igvm/igvm_defs.h>
#include <stdio.h>
#include <stdlib.h>

/* The names, types and fields that QEMU's backends/igvm.c and target/i386 use. */
int main(int argc, char **argv)
{
    static uint8_t file[1 << 20];
    FILE *f = fopen(argv[argc - 1], "rb");
    uint32_t len = (uint32_t)fread(file, 1, sizeof(file), f);
    IgvmHandle igvm = igvm_new_from_binary(file, len);
    if (igvm < 0)
        return 1;
    int32_t count = igvm_header_count(igvm, IGVM_HEADER_SECTION_DIRECTIVE);
    unsigned pages = 0;
    for (int32_t i = 0; i < count; i++) {
        IgvmVariableHeaderType typ = igvm_get_header_type(igvm, IGVM_HEADER_SECTION_DIRECTIVE, i);
        IgvmHandle handle = igvm_get_header(igvm, IGVM_HEADER_SECTION_DIRECTIVE, i);
        const uint8_t *data = igvm_get_buffer(igvm, handle) + sizeof(IGVM_VHS_VARIABLE_HEADER);
        if (typ == IGVM_VHT_PAGE_DATA) {
            const IGVM_VHS_PAGE_DATA *page = (const IGVM_VHS_PAGE_DATA *)data;
            IgvmPageDataType type = page->data_type;
            IgvmPageDataFlags flags = page->flags;
            if (IGVM_UINT32_FLAGS_VALUE(flags) != 0)
                return 3;
            pages += type == IGVM_PAGE_DATA_TYPE_NORMAL && !flags.unmeasured && !flags.is_2mb_page;
            IgvmHandle contents = igvm_get_header_data(igvm, IGVM_HEADER_SECTION_DIRECTIVE, i);
            if (contents != IGVMAPI_NO_DATA && igvm_get_buffer_size(igvm, contents) != 4096)
                return 2;
            if (contents >= 0)
                igvm_free_buffer(igvm, contents);
        }
        igvm_free_buffer(igvm, handle);
    }
    const IGVM_VHS_SUPPORTED_PLATFORM platform = {.platform_type = IGVM_PLATFORM_TYPE_SEV_ES};
    const IGVM_VHS_MEMORY_MAP_ENTRY entry = {.entry_type = IGVM_MEMORY_MAP_ENTRY_TYPE_PLATFORM_RESERVED,
                                             .starting_gpa_page_number = 1, .number_of_pages = 1};
    const IgvmEnvironmentInfo environment = {.memory_is_shared = 1};
    const IGVM_VHS_SNP_ID_BLOCK block = {.id_public_key = {.curve = 2}};
    struct IgvmNativeVpContextX64 context = {.code_attributes = 0x9b};
    (void)platform; (void)entry; (void)environment; (void)block; (void)context;
    igvm_free(igvm);
    printf("%d %u\n", count, pages);
    return 0;
}
"""


@pytest.fixture(name="installed", scope="session")
def installed_library(tmp_path_factory):
    """libigvm installed into a folder of its own, as others would find it."""
    prefix = tmp_path_factory.mktemp("install")
    result = subprocess.run(["meson", "install", "-C", ROOT / "build", "--no-rebuild", "--destdir", prefix],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return prefix, next(prefix.rglob("igvm.pc")).parent


def pkg_config(installed, *words):
    prefix, folder = installed
    return subprocess.run(["pkg-config", "--define-variable=prefix=" +
                           str(prefix) + "/" + subprocess.run(
                               ["pkg-config", "--variable=prefix", "igvm"], check=True, capture_output=True, text=True,
                               env={"PKG_CONFIG_PATH": str(folder), "PATH": "/usr/bin:/bin"}).stdout.strip(), *words],
                          check=True, capture_output=True, text=True,
                          env={"PKG_CONFIG_PATH": str(folder), "PATH": "/usr/bin:/bin"}).stdout.split()


@pytest.mark.parametrize("static", [False, True])
def test_installed_library_is_found_by_pkg_config_and_used(husk, image, tmp_path, installed, static):
    pkg_config(installed, "--atleast-version=0.3.0", "igvm")
    out = build(husk, image, tmp_path / "a.igvm")
    (tmp_path / "program.c").write_text(PROGRAM)
    flags = pkg_config(installed, "--cflags", "--libs", *(["--static"] if static else []), "igvm")
    if static:
        flags = ["-Wl,-Bstatic" if flag == "-ligvm" else flag for flag in flags]
        flags = [part for flag in flags for part in ([flag, "-ligvm", "-Wl,-Bdynamic"] if flag == "-Wl,-Bstatic"
                                                     else [flag])]
    subprocess.run(["cc", "-Wall", "-Wextra", "-Wno-sign-conversion", "-Werror", tmp_path / "program.c", "-o",
                    tmp_path / "program", *flags], check=True)
    library = next(installed[0].rglob("libigvm.so")).parent
    result = subprocess.run([tmp_path / "program", out], env={"LD_LIBRARY_PATH": str(library)}, check=True,
                            capture_output=True, text=True)
    assert result.stdout == "19 16\n"


def test_shared_library_exports_the_public_names_alone(installed):
    library = next(installed[0].rglob("libigvm.so"))
    names = set(subprocess.run(["nm", "-D", "--defined-only", "--format=just-symbols", library], check=True,
                               capture_output=True, text=True).stdout.split())
    public = set(re.findall(r"\b(igvm_\w+)\(", (ROOT / "include/igvm/igvm.h").read_text()))
    assert names <= public
    assert {"igvm_new_from_binary", "igvm_free", "igvm_header_count", "igvm_get_header_type", "igvm_get_header",
            "igvm_get_header_data", "igvm_get_buffer", "igvm_get_buffer_size", "igvm_free_buffer"} <= names


# What QEMU's backends/igvm.c (upstream, 2026: commit 03025db6a0ad) takes from the library, and what of each structure.
QEMU_NAMES = """igvm_new_from_binary igvm_header_count igvm_get_header_type igvm_get_header igvm_get_header_data
igvm_get_buffer igvm_get_buffer_size igvm_free_buffer igvm_free IgvmHandle IgvmVariableHeaderType IgvmPageDataType
IgvmPageDataFlags IgvmPlatformType IgvmEnvironmentInfo IGVMAPI_NO_DATA IGVM_HEADER_SECTION_PLATFORM
IGVM_HEADER_SECTION_INITIALIZATION IGVM_HEADER_SECTION_DIRECTIVE IGVM_VHT_SUPPORTED_PLATFORM IGVM_VHT_GUEST_POLICY
IGVM_VHT_PARAMETER_AREA IGVM_VHT_PAGE_DATA IGVM_VHT_PARAMETER_INSERT IGVM_VHT_VP_CONTEXT IGVM_VHT_REQUIRED_MEMORY
IGVM_VHT_VP_COUNT_PARAMETER IGVM_VHT_MADT IGVM_VHT_SNP_ID_BLOCK IGVM_VHT_MEMORY_MAP IGVM_VHT_ENVIRONMENT_INFO_PARAMETER
IGVM_PAGE_DATA_TYPE_NORMAL IGVM_PAGE_DATA_TYPE_SECRETS IGVM_PAGE_DATA_TYPE_CPUID_DATA IGVM_PAGE_DATA_TYPE_CPUID_XF
IGVM_PLATFORM_TYPE_NATIVE IGVM_PLATFORM_TYPE_SEV IGVM_PLATFORM_TYPE_SEV_ES IGVM_PLATFORM_TYPE_SEV_SNP
IGVM_MEMORY_MAP_ENTRY_TYPE_MEMORY IGVM_MEMORY_MAP_ENTRY_TYPE_PLATFORM_RESERVED
IGVM_MEMORY_MAP_ENTRY_TYPE_PERSISTENT IGVM_VHS_VARIABLE_HEADER IGVM_VHS_MEMORY_MAP_ENTRY""".split()
QEMU_FIELDS = {
    "IGVM_VHS_SUPPORTED_PLATFORM": "compatibility_mask highest_vtl platform_type platform_version shared_gpa_boundary",
    "IGVM_VHS_GUEST_POLICY": "policy compatibility_mask",
    "IGVM_VHS_PARAMETER_AREA": "number_of_bytes parameter_area_index",
    "IGVM_VHS_PARAMETER_INSERT": "gpa compatibility_mask parameter_area_index",
    "IGVM_VHS_PARAMETER": "parameter_area_index byte_offset",
    "IGVM_VHS_PAGE_DATA": "gpa compatibility_mask data_type flags.is_2mb_page flags.unmeasured",
    "IGVM_VHS_VP_CONTEXT": "gpa compatibility_mask vp_index",
    "IGVM_VHS_REQUIRED_MEMORY": "gpa compatibility_mask number_of_bytes",
    "IGVM_VHS_MEMORY_MAP_ENTRY": "starting_gpa_page_number number_of_pages entry_type",
    "IgvmEnvironmentInfo": "memory_is_shared",
    "IGVM_VHS_SNP_ID_BLOCK": "compatibility_mask ld family_id image_id guest_svn id_key_algorithm author_key_algorithm "
                             "id_key_signature author_key_signature id_public_key.curve id_public_key.qx "
                             "id_public_key.qy author_public_key.curve author_public_key.qx author_public_key.qy",
}


def compile_names(installed, folder, names, fields=None):
    """Compile a program that uses each name, and each field of each structure, as a type or a value."""
    text = "#include <igvm/igvm.h>\n#include <igvm/igvm_defs.h>\n"
    text += "".join(f"__typeof__({name}) *use_{name};\n" for name in sorted(names))
    for name, parts in (fields or {}).items():
        text += f"void fields_of_{name}(const {name} *p);\nvoid fields_of_{name}(const {name} *p)\n{{\n"
        text += "".join(f"    (void)p->{part};\n" for part in parts.split()) + "}\n"
    (folder / "names.c").write_text(text)
    subprocess.run(["cc", "-c", folder / "names.c", "-o", folder / "names.o",
                    *pkg_config(installed, "--cflags", "igvm")], check=True)


def test_all_that_qemu_takes_from_the_library_is_there(installed, tmp_path):
    compile_names(installed, tmp_path, QEMU_NAMES, QEMU_FIELDS)


def qemu_source():
    """backends/igvm.c in $HUSK_QEMU_SOURCE, the cache, or Debian's source package; or None and why not."""
    own = os.environ.get("HUSK_QEMU_SOURCE")
    folder = pathlib.Path(own) if own else tools.cache() / "qemu-source"
    output = ""
    for _ in range(1 if own else 3):  # a mirror may fail once
        found = next(iter(folder.rglob("backends/igvm.c")), None) if folder.is_dir() else None
        if found or own:
            return found, f"no backends/igvm.c in {folder}"
        folder.mkdir(parents=True, exist_ok=True)
        output = "".join(tools.sid(*words, cwd=folder)[1] for words in (("update",), ("source", "qemu")))
        if "404  Not Found" in output:  # the mirror has no sources of it: asking again would not help
            break
    errors = [line for line in output.splitlines() if line.startswith("E: ")]
    found = next(iter(folder.rglob("backends/igvm.c")), None)
    return found, errors[0] if errors else "apt-get source qemu left nothing"


def test_qemus_igvm_backend_compiles_against_it(installed, tmp_path):
    """Every name that QEMU's own backends/igvm.c takes from the library, in the source of the day: docs/testing.md."""
    source, reason = qemu_source()
    if source is None:
        pytest.skip(f"no source of QEMU: {reason}")
    used = set(re.findall(r"\b(?:igvm_\w+(?=\()|IGVM_\w+|IGVMAPI_\w+|Igvm\w+)", source.read_text()))
    used -= {name for name in used if name.startswith("IgvmCfg") or name.startswith("IGVM_CFG")
             or name == "IGVM_SEV_ID_BLOCK_VERSION"}
    compile_names(installed, tmp_path, used)
