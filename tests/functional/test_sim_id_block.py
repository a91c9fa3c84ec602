"""The simulator checks an ID block as the secure processor does: digest, policy, signatures."""

import subprocess

import pytest
from sim_steps import BEFORE_FINISH, GOOD, broken, simulate

POLICY = 0x30000


def openssl(*words, data=None):
    """Standard output of an openssl command."""
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


def der_integers(data):
    """The two integers of a DER ECDSA signature."""
    at = 3 if data[1] & 0x80 else 2
    numbers = []
    while at < len(data):
        assert data[at] == 2
        numbers.append(int.from_bytes(data[at + 2:at + 2 + data[at + 1]], "big"))
        at += 2 + data[at + 1]
    return numbers


class Key:
    """An ECDSA P-384 key in a file."""

    def __init__(self, folder, name):
        self.path = str(folder / name)
        openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", self.path)

    def public(self):
        """The public key as the firmware has it."""
        point = openssl("ec", "-in", self.path, "-pubout", "-outform", "DER")[-96:]
        key = (2).to_bytes(4, "little")
        for half in (point[:48], point[48:]):
            key += half[::-1].ljust(72, b"\0")
        return key.ljust(1028, b"\0")

    def sign(self, data):
        """A signature as the firmware has it."""
        r, s = der_integers(openssl("dgst", "-sha384", "-sign", self.path, data=data))
        return (r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(512, b"\0")


def id_block(digest, policy=POLICY, version=1):
    """An ID block."""
    block = digest + b"family".ljust(16, b"\0") + b"image".ljust(16, b"\0")
    return block + version.to_bytes(4, "little") + (7).to_bytes(4, "little") + policy.to_bytes(8, "little")


def id_auth(block, key, author=None, algorithm=1):
    """The authentication of an ID block."""
    public = key.public()
    auth = algorithm.to_bytes(4, "little") + (1 if author else 0).to_bytes(4, "little") + bytes(56)
    auth += key.sign(block) + public + bytes(60)
    auth += (author.sign(public) + author.public()) if author else bytes(1540)
    return auth.ljust(4096, b"\0")


@pytest.fixture(name="launch")
def launch_fixture(husk, tmp_path):
    """A function that finishes a launch with an ID block, and what its pieces are made of."""
    digest = bytes.fromhex(simulate(husk, tmp_path, GOOD).report["launches"][0]["digest"])
    keys = [Key(tmp_path, "id.pem"), Key(tmp_path, "author.pem")]

    def finish(block, auth, extra="", options=()):
        (tmp_path / "block").write_bytes(block)
        (tmp_path / "auth").write_bytes(auth)
        step = f"finish block={tmp_path / 'block'} auth={tmp_path / 'auth'} {extra}".strip()
        return simulate(husk, tmp_path, BEFORE_FINISH + [step], *options)

    return digest, keys, finish


def test_a_good_id_block_is_taken(launch):
    digest, (key, author), finish = launch
    block = id_block(digest)
    for extra, auth in (("", id_auth(block, key)), ("author=1", id_auth(block, key, author))):
        result = finish(block, auth, extra)
        assert result.lines[-1] | {"errno": "", "fw": 0} == result.lines[-1]
        assert result.report["launches"][0]["finished"] and not result.report["violations"]


def flip(data, at):
    """data with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


@pytest.mark.parametrize("rule, status, change", [
    ("id-digest", 11, lambda d, k, a: (id_block(flip(d, 0)), None, "")),
    ("id-policy", 7, lambda d, k, a: (id_block(d, policy=0x20000), None, "")),
    ("id-version", 22, lambda d, k, a: (id_block(d, version=2), None, "")),
    ("id-algorithm", 22, lambda d, k, a: (id_block(d), id_auth(id_block(d), k, algorithm=2), "")),
    ("id-algorithm", 22, lambda d, k, a: (id_block(d), flip(id_auth(id_block(d), k), 576), "")),
    ("id-signature", 10, lambda d, k, a: (id_block(d), flip(id_auth(id_block(d), k), 64), "")),
    ("id-signature", 10, lambda d, k, a: (id_block(d), flip(id_auth(id_block(d), k), 580), "")),
    ("id-signature", 10, lambda d, k, a: (id_block(d), id_auth(flip(id_block(d), 60), k), "")),
    ("id-author", 10, lambda d, k, a: (id_block(d), flip(id_auth(id_block(d), k, a), 1664), "author=1")),
])
def test_a_wrong_id_block_is_refused(launch, rule, status, change):
    digest, (key, author), finish = launch
    block, auth, extra = change(digest, key, author)
    result = finish(block, auth or id_auth(block, key), extra)
    assert (result.lines[-1]["errno"], result.lines[-1]["fw"]) == ("EIO", status)
    assert broken(result) == {rule}
    assert not result.report["launches"][0]["finished"]


def test_an_id_block_that_cannot_be_read_is_refused(launch):
    digest, (key, _), finish = launch
    block = id_block(digest)
    result = finish(block, id_auth(block, key), "authaddr=0x1000")
    assert result.lines[-1]["errno"] == "EFAULT"
    assert broken(result) == {"id-address"}
