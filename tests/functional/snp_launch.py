"""husk run of SEV-SNP guests under the simulator."""

import json
import subprocess
import time

import igvm_tools

# The first entry ends as a triple fault: the launch is done then.
TRIPLE_FAULT = 4
PATIENCE = 120
MEMORY = ["--memory", "size=512M"]


class Outcome:
    """What one run of husk under the simulator left."""

    def __init__(self, status, stderr, report, events):
        self.status, self.stderr, self.report, self.events = status, stderr, report, events

    def event(self, name):
        """The properties of the one event of that name."""
        found, = [event for event in self.events if event["event"] == name]
        return found["properties"]

    def launched(self, vcpus=1):
        """The one launch, which broke no rule."""
        assert self.status == TRIPLE_FAULT, self.stderr
        assert self.report["violations"] == [], self.stderr
        one, = self.report["launches"]
        assert one["finished"] and one["vcpus"] == vcpus
        assert self.event("snp-launched")["digest"] == one["digest"]
        return one


class Launcher:
    """husk run under husk sim, with files in a folder."""

    def __init__(self, husk, folder):
        self.husk, self.folder = husk, folder

    def start(self, *words, sim=(), platform=""):
        """husk run --platform sev_snp=on with words, as it runs."""
        for name in ("report.json", "events"):
            (self.folder / name).unlink(missing_ok=True)
        command = [self.husk, "sim", "--json", self.folder / "report.json", *sim, "--",
                   self.husk, "run", "--platform", f"sev_snp=on{platform}", *MEMORY, "--serial", "off",
                   "--event-monitor", f"path={self.folder / 'events'}", *words]
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def events(self):
        """Those that it has told of so far."""
        path = self.folder / "events"
        return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")] if path.exists() else []

    def wait_for(self, name):
        """Until it tells of an event."""
        deadline = time.monotonic() + PATIENCE
        while name not in [event["event"] for event in self.events()]:
            assert time.monotonic() < deadline, f"no event {name}"
            time.sleep(0.01)

    def end(self, process):
        """The Outcome of what was started."""
        _, said = process.communicate(timeout=PATIENCE)
        return Outcome(process.returncode, said, json.loads((self.folder / "report.json").read_text()), self.events())

    def run(self, *words, sim=("--exit", "shutdown"), platform=""):
        """start() to its end."""
        return self.end(self.start(*words, sim=sim, platform=platform))

    def measure(self, *words, platform=""):
        """What husk measure says with the same words."""
        return igvm_tools.run(self.husk, "measure", "--platform", f"sev_snp=on{platform}", *MEMORY, *words).stdout.strip()

    def file(self, name, data):
        """A file with these bytes."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def igvm(self, firmware, *words):
        """An IGVM file of firmware, in the usual layout."""
        path = self.folder / "guest.igvm"
        igvm_tools.run(self.husk, "igvm", "build", "--firmware", firmware, "--output", path, *words)
        return path
