"""Running the machine's own tools, and finding processes by namespace."""

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class LabError(Exception):
    """The lab cannot do what was asked: one line."""


def tool(*command: str, stdin: str = "", timeout_s: float = 60) -> str:
    """Run one tool of the machine and return what it says; its complaint is the error."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().replace("\n", "; ")
        raise LabError(f"{' '.join(command)}: exit {done.returncode}: {said}")
    return done.stdout


def until(what: str, ready: Callable[[], object], *, within_s: float) -> None:
    """Wait until `ready` answers something true."""
    deadline = time.monotonic() + within_s
    pause_s = 0.005
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {within_s:g} s")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)


def child_of(pid: int) -> int | None:
    """Return the first child of a process."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(listed[0]) if listed else None


def in_network(inodes: Iterable[int]) -> list[int]:
    """Return the processes that live in these network namespaces."""
    wanted = set(inodes)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            namespace = (entry / "ns" / "net").stat().st_ino
        except OSError:
            continue
        if namespace in wanted:
            found.append(int(entry.name))
    return found


def listens(pid: int, ports: Sequence[int]) -> bool:
    """Tell whether all these TCP ports are listened on, in the network of this process."""
    listening = 0x0A
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    columns = [line.split() for line in lines]
    there = {int(c[1].rpartition(":")[2], 16) for c in columns if int(c[3], 16) == listening}
    return there.issuperset(ports)
