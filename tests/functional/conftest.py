"""What every functional test starts from: the built binary, driven from outside."""

import os
import pathlib
import signal
import subprocess

import pytest

import backends

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A shell that runs the tests in the background ignores these, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def husk():
    """Path of the husk binary under test: $HUSK, else build/husk."""
    path = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk"))
    assert os.access(path, os.X_OK), f"{path} is not built: run make"
    return str(path)


@pytest.fixture(scope="session")
def payloads():
    """The folder of the payloads: guests of a few instructions."""
    return ROOT / "build" / "tests" / "payloads"


@pytest.fixture(scope="session")
def needs_kvm(husk, payloads):
    """Skips a test where no guest at all can be started."""
    done = subprocess.run([husk, "run", "--kernel", payloads / "poweroff.elf", "--memory", "size=64M"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if done.returncode != 0 and "'/dev/kvm'" in done.stderr:
        pytest.skip("needs a /dev/kvm that runs payloads")
    assert done.returncode == 0, done


@pytest.fixture(params=["build", "build-asan"], scope="module")
def either_build(request):
    """husk-backend in two builds; scripts/build does nothing where it is up to date."""
    if request.param == "build-asan":
        subprocess.run([ROOT / "scripts/build", "build-asan"], check=True, stdin=subprocess.DEVNULL, timeout=600)
        path = str(ROOT / "build-asan" / "husk-backend")
    else:
        path = backends.husk_backend()
    before = os.environ.get("HUSK_BACKEND")
    os.environ["HUSK_BACKEND"] = path
    yield request.param
    if before is None:
        del os.environ["HUSK_BACKEND"]
    else:
        os.environ["HUSK_BACKEND"] = before


@pytest.fixture
def bench(tmp_path):
    """Starts back-ends and drivers on them (backends.Bench), and ends them with the test."""
    made = backends.Bench(tmp_path)
    yield made
    made.close()
