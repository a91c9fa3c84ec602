"""What is fetched or built once and kept: a folder outside the checkout, one entry a set of inputs.

An entry is a folder that appears by rename, complete or not at all. Two runs that want the same entry at once wait for
each other on a lock file; the second finds what the first made.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile


def folder():
    """The cache folder: $HUSK_CACHE, else $XDG_CACHE_HOME/husk, else ~/.cache/husk."""
    own = os.environ.get("HUSK_CACHE")
    if own:
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "husk"


def say(text):
    """One line of progress, for what takes time."""
    print(f"   {text}", file=sys.stderr, flush=True)


def digest(*inputs):
    """A short hash of strings, bytes and files (pathlib.Path: their contents), in order."""
    state = hashlib.sha256()
    for value in inputs:
        if isinstance(value, pathlib.Path):
            value = value.read_bytes()
        elif isinstance(value, str):
            value = value.encode()
        state.update(len(value).to_bytes(8, "little") + value)
    return state.hexdigest()[:16]


@contextlib.contextmanager
def locked(name):
    """Hold the cache's lock called name; it goes with the process."""
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / f".{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(name, inputs, make):
    """
    The folder of the cache entry name for inputs (a digest), made by make(folder) when it is not there yet.

    Older entries of the same name stay: another checkout may use them.
    """
    path = folder() / f"{name}-{inputs}"
    if path.is_dir():
        return path
    with locked(name):
        if path.is_dir():
            return path
        # What a killed run left half made is nobody's: makers hold the lock.
        for left in folder().glob(f".{name}-*.new"):
            shutil.rmtree(left, ignore_errors=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".new", dir=folder()))
        try:
            make(work)
            work.chmod(0o755)
            work.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return path
