"""husk measure: launch digests, against an implementation of its own and against digests that others measured."""

import base64
import hashlib
import json
import struct
import subprocess
import zlib

import pytest

import igvm_tools as tools
import pace

SIGNATURES = {"EPYC": 0x800f12, "EPYC-v4": 0x800f12, "EPYC-Rome": 0x830f10, "EPYC-Milan": 0xa00f11,
              "EPYC-Genoa": 0xa10f10, "EPYC-Turin": 0xb00f00}
# Debian's ovmf-amdsev 2026.08+ds-2, as sev-snp-measure and QEMU's own launch came to, and igvmmeasure for the last.
OVMF_SHA256 = "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f"
OVMF_METADATA = "d74bd3ea40b240c3228edc5177ce6193561ebff633dbd0be76d6c143b876d65102425c0e2e8a930857c48daa5eacda58"
OVMF_ZERO = "b97b77229a2e0576396f3d2d79cd1ad49122580e201faefb0f9143c28f8b59eb11547fabf32264d8f62defa4f43962a4"
OVMF_NORMAL = "8486d7efc01d21238d2df1612d74ae957eeefc5971d3f2d30e4de8897a58f33bd6112f347afa5086e640a31cbd262401"


@pytest.fixture(name="image")
def image_file(tmp_path):
    path = tmp_path / "firmware.fd"
    path.write_bytes(tools.firmware())
    return path


def measure(husk, *words):
    return tools.run(husk, "measure", *words).stdout.strip()


@pytest.mark.parametrize("model", SIGNATURES)
@pytest.mark.parametrize("vcpus", [1, 3])
def test_qemu_measures_metadata_order_and_the_signature_in_rdx(husk, image, model, vcpus):
    rdx = SIGNATURES[model]
    vmsas = [tools.vmsa(rdx=rdx)] + [tools.vmsa(tools.AP_ADDRESS, rdx=rdx)] * (vcpus - 1)
    assert measure(husk, "--firmware", image, "--vmm", "qemu", "--cpu-model", model, "--cpus", f"boot={vcpus}") == \
        tools.firmware_digest(image.read_bytes(), vmsas)


def test_signature_may_be_given_in_numbers(husk, image):
    assert measure(husk, "--firmware", image, "--cpu-signature", "23,1,2") == \
        measure(husk, "--firmware", image, "--cpu-model", "EPYC")


def test_husk_leaves_600_in_rdx(husk, image):
    assert measure(husk, "--firmware", image) == \
        tools.firmware_digest(image.read_bytes(), [tools.vmsa(rdx=0x600)])


def test_ec2_and_gce_have_their_own_reset_state(husk, image):
    ec2 = [tools.vmsa(rdx=0x600, cs=0x9a, ss=0x92, tr=0x83, mxcsr=0, fcw=0),
           tools.vmsa(tools.AP_ADDRESS, rdx=0x600, ss=0x92, tr=0x83, mxcsr=0, fcw=0)]
    gce = [tools.vmsa(rdx=0x600, mxcsr=0, fcw=0, pat=0x70106)]
    data = image.read_bytes()
    assert measure(husk, "--firmware", image, "--vmm", "ec2", "--cpus", "boot=2") == \
        tools.firmware_digest(data, ec2, cpuid_last=True)
    assert measure(husk, "--firmware", image, "--vmm", "gce") == tools.firmware_digest(data, gce)


def test_features_enter_the_digest_and_memory_does_not(husk, image):
    assert measure(husk, "--firmware", image, "--vmsa-features", "0x21", "--memory", "size=3G", "--serial", "null") \
        == tools.firmware_digest(image.read_bytes(), [tools.vmsa(rdx=0x600, features=0x21)])


def test_options_that_would_change_nothing_are_not_passed_over(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "a.igvm")
    refused = tools.run(husk, "measure", "--igvm", out, "--vmsa-features", "0x21", check=False)
    assert refused.returncode == 1 and "--vmsa-features is for firmware" in refused.stderr
    for words in (["--cmdline", "quiet"], ["--initramfs", image]):
        said = tools.run(husk, "measure", "--firmware", image, *words).stderr
        assert "--initramfs and --cmdline do not enter the digest without --kernel" in said


@pytest.mark.parametrize("initrd", [None, b"initrd" * 1000])
def test_kernel_hashes_fill_the_page_the_firmware_names(husk, image, tmp_path, initrd):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel" * 5000)
    words = ["--kernel", kernel, "--cmdline", "console=ttyS0 quiet"]
    if initrd:
        (tmp_path / "initrd").write_bytes(initrd)
        words += ["--initramfs", tmp_path / "initrd"]
    table = tools.hash_table(kernel.read_bytes(), initrd or b"", b"console=ttyS0 quiet")
    assert measure(husk, "--firmware", image, *words) == \
        tools.firmware_digest(image.read_bytes(), [tools.vmsa(rdx=0x600)], table)


def test_sev_and_sev_es_digests_are_sha256_of_what_is_encrypted(husk, image, tmp_path):
    data = image.read_bytes()
    assert measure(husk, "--firmware", image, "--platform-type", "sev") == hashlib.sha256(data).hexdigest()
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"k")
    table = tools.hash_table(b"k", b"", b"")
    expected = hashlib.sha256(data + table + tools.vmsa(rdx=0x800f12, features=0) +
                              tools.vmsa(tools.AP_ADDRESS, rdx=0x800f12, features=0)).hexdigest()
    assert measure(husk, "--firmware", image, "--platform-type", "sev-es", "--cpu-model", "EPYC-v4", "--kernel", kernel,
                   "--cpus", "boot=2") == expected


def build_words(husk, image, out, *words):
    tools.run(husk, "igvm", "build", "--firmware", image, "-o", out, *words)
    return out


def test_igvm_file_of_sev_es_is_measured_as_such(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "es.igvm", "--platform", "sev-es", "--platform", "sev", "--cpus", "2")
    data = image.read_bytes()
    pages = tools.vmsa(features=0) + tools.vmsa(tools.AP_ADDRESS, features=0)
    assert measure(husk, "--igvm", out, "--cpus", "boot=2") == hashlib.sha256(data + pages).hexdigest()
    assert measure(husk, "--igvm", out, "--vmm", "file") == hashlib.sha256(data + pages).hexdigest()
    assert measure(husk, "--igvm", out, "--platform-type", "sev") == hashlib.sha256(data).hexdigest()


PLATFORM = (1, struct.pack("<IBBHQ", 1, 0, 2, 1, 0))


def area_header(pages, index=0):
    return 0x301, struct.pack("<QII", pages * tools.PAGE, index, 0)


def insert_header(gpa, index=0):
    return 0x303, struct.pack("<QII", gpa, 1, index)


def page_header(gpa):
    return 0x302, struct.pack("<QIIIHH", gpa, 1, 0, 0, 0, 0)


def by_hand(husk, path, *headers):
    """A file of these headers: (type, payload) each."""
    text = json.dumps({"version": 1, "headers": [{"type": kind, "payload": payload.hex()} for kind, payload in headers]})
    path.with_suffix(".json").write_text(text)
    tools.run(husk, "igvm", "build", "--json", path.with_suffix(".json"), "-o", path)
    return path


@pytest.mark.parametrize("empty", ["zero", "normal"])
def test_buildigvm_layout_is_measured_in_its_order(husk, image, tmp_path, empty):
    out = build_words(husk, image, tmp_path / "b.igvm", "--layout", "buildigvm")
    digest = tools.Digest()
    digest.pages(tools.NORMAL, 0x100000000 - 8 * tools.PAGE, image.read_bytes())
    kind = tools.ZERO if empty == "zero" else tools.NORMAL
    digest.page(tools.SECRETS_PAGE, 0x80d000)
    digest.pages(kind, 0x80f000, bytes(tools.PAGE))
    digest.page(tools.CPUID_PAGE, 0x80e000)
    digest.pages(kind, 0x800000, bytes(0x2000))
    digest.pages(kind, 0x811000, bytes(0x4000))
    digest.page(tools.VMSA, tools.VMSA_GPA, tools.vmsa(table_limit=0))
    assert measure(husk, "--igvm", out, "--vmm", "file", "--empty-pages", empty) == digest.value.hex()


def test_every_page_of_a_parameter_area_is_measured(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "p.igvm", "--host-map")
    steps = json.loads(tools.run(husk, "measure", "--igvm", out, "--json").stdout)["steps"]
    assert [step["gpa"] for step in steps if step["type"] == "UNMEASURED"] == ["0x812000"]
    area = by_hand(husk, tmp_path / "area.igvm", PLATFORM, area_header(3), insert_header(0x5000))
    digest = tools.Digest()
    for gpa in (0x5000, 0x6000, 0x7000):
        digest.page(tools.UNMEASURED, gpa)
    assert measure(husk, "--igvm", area, "--vmm", "file") == digest.value.hex()


def test_areas_come_to_qemu_before_the_pages_right_in_front_of_them(husk, tmp_path):
    """QEMU imports a run of pages when it meets the end of it in another page, or the end of the file."""
    path = by_hand(husk, tmp_path / "order.igvm", PLATFORM, area_header(1), area_header(1, index=1),
                   page_header(0x1000), page_header(0x3000), page_header(0x4000), insert_header(0x8000),
                   page_header(0x5000), insert_header(0x9000, index=1))
    as_written = [0x1000, 0x3000, 0x4000, 0x8000, 0x5000, 0x9000]
    as_qemu = [0x1000, 0x8000, 0x3000, 0x4000, 0x9000, 0x5000]
    for vmm, order in (("file", as_written), ("husk", as_written), ("qemu", as_qemu)):
        result = json.loads(tools.run(husk, "measure", "--igvm", path, "--vmm", vmm, "--json").stdout)
        steps = [(int(step["gpa"], 16), step["directive"]) for step in result["steps"] if step["type"] != "VMSA"]
        headers = {0x1000: 4, 0x3000: 5, 0x4000: 6, 0x8000: 7, 0x5000: 8, 0x9000: 9}
        assert steps == [(gpa, headers[gpa]) for gpa in order], vmm


def test_a_built_file_with_a_host_map_is_the_same_to_every_vmm(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "map.igvm", "--host-map")
    assert len({measure(husk, "--igvm", out, "--vmm", vmm) for vmm in ("file", "husk", "qemu", "cloud-hypervisor")}) == 1


def test_each_step_names_the_header_that_asked_for_its_page(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "a.igvm", "--cpus", "2")
    pages = {header["number"]: header["gpa"] for header in tools.headers(husk, out) if header["name"] == "PAGE_DATA"}
    steps = json.loads(tools.run(husk, "measure", "--igvm", out, "--cpus", "boot=2", "--json").stdout)["steps"]
    assert {step["directive"]: int(step["gpa"], 16) for step in steps if step["type"] != "VMSA"} == pages


def test_ec2_and_gce_take_no_igvm_files(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "a.igvm")
    for vmm in ("ec2", "gce"):
        refused = tools.run(husk, "measure", "--igvm", out, "--vmm", vmm, check=False)
        assert refused.returncode == 1 and refused.stdout == ""
        assert f"--vmm {vmm} starts guests from firmware, not from IGVM files" in refused.stderr


def test_65536_contexts_are_measured_without_keeping_them(husk, tmp_path):
    count = 65536
    platform = struct.pack("<II", 1, 16) + PLATFORM[1]
    body = platform + b"".join(struct.pack("<IIQIIHHI", 0x304, 20, 0xfffffffff000, 1, 48 + 32 * count, number, 0, 0)
                               for number in range(count))
    head = struct.pack("<IIIIII", 0x4D564749, 1, 24, len(body), 24 + len(body) + 4096, 0)
    path = tmp_path / "contexts.igvm"
    path.write_bytes(head[:20] + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body + bytes(4096))
    status, _, kib = pace.measured(husk, "measure", "--igvm", path, "--vmm", "file")
    assert status == 0 and kib < 64 << 10


def test_masks_are_honoured(husk, image, tmp_path):
    both = build_words(husk, image, tmp_path / "both.igvm", "--platform", "native", "--platform", "sev-snp")
    snp = build_words(husk, image, tmp_path / "snp.igvm")
    assert measure(husk, "--igvm", both) == measure(husk, "--igvm", snp)


def test_steps_end_in_the_digest_and_hold_every_page(husk, image):
    result = json.loads(tools.run(husk, "measure", "--firmware", image, "--json").stdout)
    assert result["steps"][-1]["launch_digest"] == result["launch_digest"]
    assert len(result["steps"]) == 8 + sum(length // tools.PAGE for _, length, _ in tools.SECTIONS) + 1


def test_one_thread_and_many_agree(husk, tmp_path):
    path = tmp_path / "large.fd"
    path.write_bytes(tools.firmware(pages=1500))
    digests = {measure(husk, "--firmware", path, "--threads", threads) for threads in (1, 2, 5)}
    assert digests == {tools.firmware_digest(path.read_bytes(), [tools.vmsa(rdx=0x600)])}


def test_compare_names_the_first_page_that_differs(husk, image, tmp_path):
    other = tmp_path / "other.fd"
    data = bytearray(image.read_bytes())
    data[3 * tools.PAGE] ^= 1
    other.write_bytes(data)
    digest = measure(husk, "--firmware", image)
    assert tools.run(husk, "measure", "--firmware", image, "--compare", digest).returncode == 0
    differs = tools.run(husk, "measure", "--firmware", image, "--compare", other, check=False)
    assert differs.returncode == 1
    assert "page 4 is the first that differs" in differs.stderr
    assert "0xffffb000" in differs.stderr
    (tmp_path / "steps").write_text(tools.run(husk, "measure", "--firmware", other, "--json").stdout)
    differs = tools.run(husk, "measure", "--firmware", image, "--compare", tmp_path / "steps", check=False)
    assert differs.returncode == 1 and "page 4" in differs.stderr
    wrong = tools.run(husk, "measure", "--firmware", image, "--compare", "0" * 96, check=False)
    assert wrong.returncode == 1


def test_kvm_measuring_another_vmsa_is_said(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "v.igvm")
    data = bytearray(out.read_bytes())
    at = data.rindex(tools.vmsa())
    data[at + 0xd0:at + 0xd8] = bytes(8)  # EFER without SVME
    out.write_bytes(data)
    kvm = tools.run(husk, "measure", "--igvm", out)
    assert "KVM will measure another VMSA" in kvm.stderr and "efer" in kvm.stderr
    written = tools.run(husk, "measure", "--igvm", out, "--vmm", "file")
    assert written.stderr == "" and written.stdout != kvm.stdout


def test_processors_without_a_context_keep_the_reset_state_with_a_warning(husk, image, tmp_path):
    out = build_words(husk, image, tmp_path / "one.igvm", "--rdx", "0x600")
    result = tools.run(husk, "measure", "--igvm", out, "--cpus", "boot=2")
    assert "1 of 2 vCPUs have no context" in result.stderr
    vmsas = [tools.vmsa(rdx=0x600)] * 2
    assert result.stdout.strip() == tools.firmware_digest(image.read_bytes(), vmsas)


def make_key(path, curve="P-384", *words):
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", *words,
                    "-out", path], check=True, capture_output=True)
    return path


def openssl_accepts(tmp_path, key, signature, message):
    """Whether openssl verifies an SNP signature (r and s little-endian, 72 bytes each) with the key's public half."""
    def integer(value):
        data = value.to_bytes(49, "big").lstrip(b"\0") or b"\0"
        if data[0] & 0x80:
            data = b"\0" + data
        return b"\x02" + bytes([len(data)]) + data

    r, s = (int.from_bytes(signature[at:at + 72], "little") for at in (0, 72))
    body = integer(r) + integer(s)
    (tmp_path / "sig").write_bytes(b"\x30" + bytes([len(body)]) + body)
    (tmp_path / "msg").write_bytes(message)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", tmp_path / "pub"], check=True)
    return subprocess.run(["openssl", "dgst", "-sha384", "-verify", tmp_path / "pub", "-signature", tmp_path / "sig",
                           tmp_path / "msg"], capture_output=True, check=False).returncode == 0


def public_point(key):
    """The public key's coordinates, as openssl prints them."""
    text = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True,
                          capture_output=True).stdout
    return text[-96:-48], text[-48:]


def test_id_block_is_signed_as_openssl_verifies(husk, image, tmp_path):
    key, author = make_key(tmp_path / "id.pem"), make_key(tmp_path / "author.pem")
    digest = tools.run(husk, "measure", "--firmware", image, "--id-block", tmp_path / "block", "--id-auth",
                       tmp_path / "auth", "--id-key", key, "--author-key", author, "--family-id", "0102",
                       "--image-id", "ff" * 16, "--guest-svn", "7", "--policy", "0xb0000").stdout.strip()
    block = base64.b64decode((tmp_path / "block").read_text(), validate=True)
    auth = base64.b64decode((tmp_path / "auth").read_text(), validate=True)
    assert (len(block), len(auth)) == (96, 4096)
    assert block == bytes.fromhex(digest) + b"\1\2" + bytes(14) + b"\xff" * 16 + struct.pack("<IIQ", 1, 7, 0xb0000)
    assert struct.unpack_from("<II", auth) == (1, 1)
    id_key = auth[576:576 + 1028]
    x, y = public_point(key)
    assert id_key == struct.pack("<I", 2) + x[::-1] + bytes(24) + y[::-1] + bytes(24) + bytes(1028 - 148)
    assert openssl_accepts(tmp_path, key, auth[64:], block)
    assert openssl_accepts(tmp_path, author, auth[1664:], id_key)
    assert not openssl_accepts(tmp_path, author, auth[64:], block)


def test_keys_that_cannot_sign_are_named(husk, image, tmp_path):
    def refusal(key):
        result = tools.run(husk, "measure", "--firmware", image, "--id-block", tmp_path / "b", "--id-key", key,
                           check=False)
        assert result.returncode == 1
        assert not (tmp_path / "b").exists()
        return result.stderr

    assert "curve prime256v1" in refusal(make_key(tmp_path / "p256.pem", "P-256"))
    encrypted = make_key(tmp_path / "enc.pem", "P-384", "-aes256", "-pass", "pass:secret")
    assert "is encrypted" in refusal(encrypted)
    assert "No such file" in refusal(tmp_path / "missing.pem")
    (tmp_path / "text.pem").write_text("nothing")
    assert "no private key" in refusal(tmp_path / "text.pem")
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    assert "RSA" in refusal(rsa)


@pytest.fixture(name="ovmf", scope="session")
def ovmf_file():
    path, reason = tools.fetch("ovmf-amdsev", "OVMF.amdsev.fd")
    if path is None:
        pytest.skip(f"Debian's ovmf-amdsev cannot be fetched: {reason}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != OVMF_SHA256:
        pytest.skip("Debian's ovmf-amdsev is another version than the one whose digests are known")
    return path


def test_known_digest_of_debians_ovmf_in_metadata_order(husk, ovmf):
    assert measure(husk, "--firmware", ovmf, "--vmm", "qemu", "--cpu-model", "EPYC-v4") == OVMF_METADATA


@pytest.mark.parametrize("empty,expected", [("zero", OVMF_ZERO), ("normal", OVMF_NORMAL)])
def test_known_digest_of_debians_ovmf_as_buildigvm_lays_it_out(husk, ovmf, tmp_path, empty, expected):
    out = build_words(husk, ovmf, tmp_path / "o.igvm", "--layout", "buildigvm")
    assert measure(husk, "--igvm", out, "--vmm", "file", "--empty-pages", empty) == expected
