"""`make demo`: the main job, shown as an admin sees it, on three embedded frontends without root.

Builds an image, deploys it to slot B of the frontends, deploys a second version to slot A and rolls
back. Every step's truth is asked from the frontends over HTTP; a lie ends the demo with status 1.
"""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.lab.embedded import TOOLS, EmbeddedFrontend, Fleet, embedded_fleet
from tests.lab.frontends import PROJECT
from tests.lab.processes import LabError

CGI = Path("usr/lib/cgi-bin/version")
COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays: the admin's working folder."""

    folder: Path

    def say(self, text: str) -> None:
        """Tell the reader what comes."""
        print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)

    def run(self, *command: str) -> None:
        """Run one command of the admin and show what it says."""
        print(f"$ {shlex.join(command)}", flush=True)
        # Progress is a live table on a terminal; elsewhere it is JSON lines, told only on failure.
        progress = None if sys.stderr.isatty() else subprocess.PIPE
        began = time.monotonic()
        done = subprocess.run(
            [str(TOOLS / command[0]), *command[1:]],
            cwd=self.folder, stdin=subprocess.DEVNULL, stderr=progress, text=True, check=False,
            env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
            timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            said = (done.stderr or "").strip()
            raise LabError(f"{shlex.join(command)}: exit {done.returncode}\n{said}".strip())
        print(f"[{time.monotonic() - began:.1f} s]", flush=True)

    def ask(self, fleet: Fleet, version: str, slot: str) -> None:
        """Ask every frontend what it serves; it must be this version, from this slot."""
        for frontend in fleet.frontends:
            url = f"http://{frontend.address}:{frontend.http_port}/cgi-bin/version"
            print(f"$ curl {url}", flush=True)
            answer = _get(url)
            print(answer.rstrip(), flush=True)
            if version not in answer.split():
                raise LabError(f"{frontend.name} should serve {version}, not {answer!r}")
            if (linked := _linked(frontend)) != slot:
                raise LabError(f"{frontend.name} should be linked to {slot}, not {linked}")


def _get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        with error:
            raise LabError(f"{url}: {error.code} {error.read().decode()}") from error
    except OSError as error:
        raise LabError(f"{url}: {error}") from error


def _linked(frontend: EmbeddedFrontend) -> str:
    target = (frontend.folder / "webroot" / "cgi").readlink().name
    return {"cgi1": "A", "cgi2": "B"}.get(target, target)


def play(folder: Path, *, want_sshd: bool) -> None:
    """Play the demo in this folder."""
    stage = Stage(folder)
    source = _sample(folder)
    with embedded_fleet(folder, source, want_sshd=want_sshd) as fleet:
        print(f"Three frontends run, each with {fleet.ssh}, and a web server")
        print(f"whose CGIs run from its slot{', chrooted' if fleet.chroot else ''}.")
        stage.say("Build an image of the sample chroot")
        stage.run("image", "build", "images/sample.toml", "--version", "1.0")
        stage.say("Deploy it to slot B of the fleet: written, proven, mounted, flipped, checked")
        stage.run("deploy", "--slot", "B", "--yes")
        stage.ask(fleet, "1.0", "B")
        stage.say("A second version; the slot that is not active is chosen")
        _set_version(source, "2.0")
        stage.run("image", "build", "images/sample.toml", "--version", "2.0")
        stage.run("deploy", "--yes")
        stage.ask(fleet, "2.0", "A")
        stage.say("Roll back: the other slot still holds the first version")
        stage.run("deploy", "rollback", "--yes")
        stage.ask(fleet, "1.0", "B")
        stage.say("What the frontends say of themselves")
        stage.run("deploy", "status")


def _sample(folder: Path) -> Path:
    """Copy the sample's recipe and chroot; its CGIs get a shell of their own if there is one."""
    images = folder / "images"
    images.mkdir()
    shutil.copy(PROJECT / "images" / "sample.toml", images)
    source = images / "sample"
    shutil.copytree(PROJECT / "images" / "sample", source, symlinks=True)
    busybox = shutil.which("busybox")
    if busybox is not None and not (source / "bin" / "sh").exists():
        (source / "bin").mkdir(exist_ok=True)
        shutil.copy(busybox, source / "bin" / "busybox")
        for name in ("sh", "cat", "hostname"):
            (source / "bin" / name).symlink_to("busybox")
    _set_version(source, "1.0")
    return source


def _set_version(source: Path, version: str) -> None:
    cgi = source / CGI
    text, times = re.subn(r"(?m)^VERSION=.*$", f"VERSION={version}", cgi.read_text())
    if times != 1:
        raise LabError(f"{cgi} holds no VERSION= line")
    cgi.write_text(text)


@contextlib.contextmanager
def _ended_politely() -> Iterator[None]:
    """Let a termination unwind as Ctrl-C does, so that nothing is left running."""

    def unwind(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        raise KeyboardInterrupt

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    """Play the demo in a folder of its own, which goes with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    parser.add_argument("--embedded-ssh", action="store_true", help="no sshd, even if there is one")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        with (
            _ended_politely(),
            tempfile.TemporaryDirectory(prefix="flipslot-demo-") as name,
        ):
            play(Path(name), want_sshd=not arguments.embedded_ssh)
    except (LabError, subprocess.TimeoutExpired) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nthe demo was ended; nothing is left running", file=sys.stderr)
        return 130
    print(f"\nAll of it was true. {time.monotonic() - began:.0f} s, nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
