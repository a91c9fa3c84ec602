"""husk run of SEV-SNP guests under the simulator."""

import json
import subprocess

import igvm_tools

# The first entry ends as a triple fault: the launch is done then.
TRIPLE_FAULT = 4
MEMORY = ["--memory", "size=512M"]


class Outcome:
    """What one run of husk under the simulator left."""

    def __init__(self, done, report, events):
        self.status, self.stderr, self.report, self.events = done.returncode, done.stderr, report, events

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

    def run(self, *words, sim=("--exit", "shutdown"), platform=""):
        """husk run --platform sev_snp=on with words."""
        report, events = self.folder / "report.json", self.folder / "events"
        report.unlink(missing_ok=True)
        events.unlink(missing_ok=True)
        command = [self.husk, "sim", "--json", report, *sim, "--", self.husk, "run", "--platform", f"sev_snp=on{platform}",
                   *MEMORY, "--serial", "off", "--event-monitor", f"path={events}", *words]
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120, check=False)
        lines = events.read_text().splitlines() if events.exists() else []
        return Outcome(done, json.loads(report.read_text()), [json.loads(line) for line in lines])

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
