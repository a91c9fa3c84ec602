"""Debian packages of any suite, fetched and unpacked beside the system, without touching the system's apt.

apt does the work, with a configuration, lists and cache of its own; so signatures are checked as always, against the
keys of debian-archive-keyring. Nothing is installed: packages are unpacked into a folder of the cache.
"""

import pathlib
import re
import shutil
import subprocess
import tempfile

import cache

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


class FetchError(Exception):
    """A package could not be had; the text says which and why."""


def _apt_options(work):
    """apt options that keep everything apt reads and writes below work."""
    options = {
        "Dir::Etc": work / "etc", "Dir::Etc::main": "/dev/null", "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": work / "etc" / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": work / "state", "Dir::State::status": work / "state" / "status", "Dir::Cache": work / "cache",
        "APT::Architecture": "amd64", "APT::Architectures": "amd64", "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false", "Acquire::Languages": "none", "Acquire::Retries": "3",
        # Lists of suites in motion expire in a week; for tests those of a mirror that lags are as good.
        "Acquire::Check-Valid-Until": "false",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _run(command, what, folder=None):
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
                          check=False)
    if done.returncode != 0:
        raise FetchError(f"{what}: {' '.join(done.stdout.splitlines()[-3:])}")
    return done.stdout


def _prepare(work, suite):
    """Make a private apt below work that knows one suite; returns its options."""
    for name in ("etc", "state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    if not KEYRING.exists():
        raise FetchError(f"{KEYRING} is missing: install debian-archive-keyring")
    (work / "etc" / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n", encoding="utf-8")
    (work / "state" / "status").touch()
    options = _apt_options(work)
    _run(["apt-get", "-q", *options, "update"], f"fetching package lists of Debian {suite}")
    return options


def _unpack_all(archives, into):
    into.mkdir()
    for archive in sorted(archives):
        _run(["dpkg-deb", "--extract", str(archive), str(into)], f"unpacking {archive.name}")


def with_dependencies(suite, packages, into):
    """Fetch packages of a suite and everything they depend on, libc too, and unpack all into one folder."""
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        work = pathlib.Path(scratch)
        options = _prepare(work, suite)
        _run(["apt-get", "-q", "-y", *options, "--download-only", "install", *packages],
             f"fetching {', '.join(packages)} of Debian {suite}")
        _unpack_all((work / "cache" / "archives").glob("*.deb"), into)


def _of_metapackage(package, options, suite):
    """The packages that it stands for: itself, if it is none of a kernel's."""
    depends = _run(["apt-cache", *options, "depends", package], f"looking up {package} in Debian {suite}")
    parts = re.findall(r"Depends: (linux-(?:image|binary|modules)-\S+)", depends)
    return [name for part in parts for name in _of_metapackage(part, options, suite)] or [package]


def alone(suite, packages, into):
    """
    Fetch packages of a suite without what they depend on, and unpack all into one folder.

    A metapackage of a kernel stands for the packages with the image and its modules that it depends on today.
    """
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        work = pathlib.Path(scratch)
        options = _prepare(work, suite)
        names = [name for package in packages for name in _of_metapackage(package, options, suite)]
        download = work / "download"
        download.mkdir()
        _run(["apt-get", "-q", *options, "download", *names], f"fetching {', '.join(names)} of Debian {suite}",
             folder=download)
        _unpack_all(download.glob("*.deb"), into)
    # Documentation serves nobody here.
    shutil.rmtree(into / "usr/share", ignore_errors=True)
