"""What every functional test starts from: the built binary, driven from outside."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def husk():
    """Path of the husk binary under test: $HUSK, else build/husk."""
    path = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk"))
    assert os.access(path, os.X_OK), f"{path} is not built: run make"
    return str(path)
