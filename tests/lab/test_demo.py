"""`make demo` as anybody runs it: with a real sshd, with the one inside, and ended half-way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.embedded import NAMES
from tests.lab.frontends import PROJECT

DEMO_TIMEOUT_S = 180


def start_demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab.demo", *arguments],
        cwd=PROJECT, env={**os.environ, "TMPDIR": str(folder)}, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def nothing_is_left(folder: Path) -> None:
    """No file, and no process whose command line names the demo's folder."""
    deadline = time.monotonic() + 5
    while users := processes_naming(str(folder)):
        assert time.monotonic() < deadline, users
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


def processes_naming(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        if entry.parent.name == str(os.getpid()):
            continue
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("arguments", "server"),
    [
        pytest.param((), "started as", marks=pytest.mark.user_sshd, id="sshd"),
        pytest.param(("--embedded-ssh",), "an SSH server inside the demo", id="embedded"),
    ],
)
def test_the_demo_plays_to_its_end(tmp_path: Path, arguments: tuple[str, ...], server: str) -> None:
    demo = start_demo(tmp_path, *arguments)
    said, _ = demo.communicate(timeout=DEMO_TIMEOUT_S)

    assert demo.returncode == 0, said
    if not arguments and "an SSH server inside" in said:
        pytest.skip(next(line for line in said.splitlines() if "inside" in line))
    assert server in said
    answers = [line for line in said.splitlines() if line.startswith("version ")]
    first, second = ["version 1.0"] * len(NAMES), ["version 2.0"] * len(NAMES)
    assert answers == [*first, *second, *first]
    assert "All of it was true." in said
    nothing_is_left(tmp_path)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_demo_that_is_ended_leaves_nothing_behind(tmp_path: Path, ending: signal.Signals) -> None:
    demo = start_demo(tmp_path, "--embedded-ssh")
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("$ deploy"):
            break
    os.killpg(demo.pid, ending)
    said, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, said
    nothing_is_left(tmp_path)
