"""The admin at the lab's admin box: runs `deploy`, reads its events, breaks it off."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slots.manifest import Artefact, Release
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import PROJECT, Lab
from tests.lab.heard import Heard

DEPLOY = PROJECT / ".venv" / "bin" / "deploy"
DEPLOY_TIMEOUT_S = 120.0
HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """How a `deploy` ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaints(self) -> list[str]:
        """The lines for a human on stderr: those that are no event."""
        return [line for line in self.stderr.splitlines() if line and not line.startswith("{")]

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.stdout}\n{self.stderr}"


@dataclass(frozen=True, slots=True)
class Admin:
    """An admin with a folder of releases, a home of its own and the lab's inventory."""

    lab: Lab
    folder: Path

    def command(self, *arguments: str, fleet: Path | None = None) -> list[str]:
        """Return the command line of a `deploy` on the admin box."""
        inventory = ("--inventory", str(fleet or self.lab.fleet))
        return self.lab.in_admin_box(str(DEPLOY), *arguments, *inventory)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the user who runs the tests: no agent, no ~/.ssh."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"}

    def deploy(self, *arguments: str, fleet: Path | None = None) -> Answer:
        """Run a `deploy` to its end."""
        return self._run(self.command(*arguments, fleet=fleet))

    def publish(self, folder: str, *arguments: str) -> Answer:
        """Lay out what a mirror is to have: no inventory is needed for that."""
        answer = self._run([str(DEPLOY), "publish", "--to", folder, *arguments])
        assert answer.code == 0, answer
        return answer

    def _run(self, command: list[str]) -> Answer:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL, timeout=DEPLOY_TIMEOUT_S,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)

    def deploy_well(self, *arguments: str) -> Answer:
        """Run a `deploy` that has to succeed."""
        answer = self.deploy(*arguments)
        assert answer.code == 0, answer
        return answer

    def start(self, *arguments: str, fleet: Path | None = None) -> "RunningDeploy":
        """Start a `deploy` to break it off, or to hear when it does what."""
        process = subprocess.Popen(
            self.command(*arguments, fleet=fleet),
            cwd=self.folder, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return RunningDeploy(process)


class RunningDeploy:
    """A `deploy` on its way; its events are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._heard = Heard(process.stderr)

    @property
    def lines(self) -> list[str]:
        """What it has said so far."""
        return self._heard.lines

    def await_start(self, step: str, host: str, within_s: float = 60) -> bool:
        """Wait until a step begins on a host; False if the deploy ended without it."""
        return self._heard.wait_for(
            lambda: any(_starts(line, step, host) for line in self.lines), within_s
        )

    def step_seconds(self) -> dict[str, float]:
        """Return how long each step took, on the host where it took longest."""
        began: dict[tuple[str, str], float] = {}
        longest: dict[str, float] = {}
        for line, moment in zip(self.lines, self._heard.at, strict=True):
            event = json.loads(line) if line.startswith("{") else {}
            key = (event.get("step", ""), event.get("subject", ""))
            if event.get("event") == "started":
                began[key] = moment
            elif event.get("event") == "finished":
                longest[key[0]] = max(longest.get(key[0], 0.0), moment - began[key])
        return longest

    def last_end_s(self, step: str) -> float | None:
        """Return when the last host was through with a step, by the monotonic clock."""
        ends = [
            moment
            for line, moment in zip(self.lines, self._heard.at, strict=True)
            if line.startswith("{")
            and (event := json.loads(line))["event"] == "finished"
            and event["step"] == step
        ]
        return max(ends, default=None)

    def kill(self) -> None:
        """End it as a crash or an impatient admin would: no chance to tidy up."""
        os.killpg(self.process.pid, signal.SIGKILL)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold it where it is, its connections open."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def end(self, within_s: float = DEPLOY_TIMEOUT_S) -> Answer:
        """Wait for its end."""
        code = self.process.wait(timeout=within_s)
        self._heard.close()
        return Answer(code, "", "".join(self.lines))


def _starts(line: str, step: str, host: str) -> bool:
    if not line.startswith("{"):
        return False
    event = json.loads(line)
    return (event.get("event"), event.get("step"), event.get("subject")) == ("started", step, host)


def artefact(release: BuiltRelease, format_: str = "squashfs") -> Artefact:
    """Return an artefact of a release, as its manifest describes it."""
    manifest = Release.from_json((release.folder / "release.json").read_text())
    found = manifest.artefact(format_)
    assert found is not None
    return found


def served(lab: Lab, name: str) -> str:
    """Return the version that a frontend serves over HTTP, and nothing but a version."""
    status, body = lab.fetch(name, "/cgi-bin/version")
    assert status == 200, f"{name} answers {status}: {body!r}"
    word, version = body.split()
    assert word == "version"
    return version


def linked(lab: Lab, name: str) -> str:
    """Return the slot that the link names."""
    return {"cgi1": "A", "cgi2": "B"}[lab.on(name, "readlink /webroot/cgi")]


def slot_digest(lab: Lab, name: str, slot: str, size_bytes: int) -> str:
    """Return the digest of an image in a slot, read from the device around every cache."""
    device = f"/dev/disk/by-partlabel/cgi{slot}"
    script = f"dd if={device} bs=1M iflag=direct,count_bytes count={size_bytes} 2>/dev/null"
    return lab.on(name, f"{script} | sha256sum").split()[0]


def snapshot(lab: Lab, name: str) -> str:
    """Return all that a refused deploy must leave as it is."""
    return lab.on(
        name,
        "ls -l /webroot; ls -l /dev/disk/by-partlabel; grep -c . /proc/self/mountinfo;"
        "(cd /var/db && find . -type f -exec md5sum {} +);"
        f"for slot in A B; do dd if=/dev/disk/by-partlabel/cgi$slot bs={HEAD_BYTES} count=1 "
        "2>/dev/null | md5sum; done",
    )


def copy_fleet(lab: Lab, folder: Path, replaced: Mapping[str, str]) -> Path:
    """Copy the lab's inventory with some of its text replaced."""
    text = lab.fleet.read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    target = folder / "other-fleet.toml"
    target.write_text(text)
    return target
