"""What a command costs: wall time, CPU of it and all its children, memory of its largest process.

Run as a script this file is the stand between bench and command: the kernel counts the memory of
a process from before its exec, so a command started by a big process would seem as big. It must
import little.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a command cost."""

    wall_s: float
    cpu_s: float  # user and system, of all processes and threads
    peak_bytes: int  # of the largest process


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be measured, and the file that it writes anew in every run."""

    arguments: Sequence[str]
    out: Path | None = None


class CommandError(Exception):
    """A measured command failed: its figures would be worth nothing."""


def run(command: Command) -> Usage:
    """Run a command once and say what it cost."""
    if command.out is not None:
        command.out.unlink(missing_ok=True)
    stand = [sys.executable, "-I", "-S", __file__, *map(str, command.arguments)]
    done = subprocess.run(stand, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-5:])
        raise CommandError(f"{' '.join(map(str, command.arguments))}: {done.returncode}\n{said}")
    wall_s, cpu_s, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return Usage(wall_s, cpu_s, peak_bytes)


def alternate(
    things: Sequence[Sequence[Command]], runs: int, cost: Callable[[Command], Usage] = run
) -> list[Usage]:
    """Run things in turn, A B A B, so that a busy spell meets all; return each one's median.

    Each thing is a row of steps done one after the other.
    """
    seen: list[list[Usage]] = [[] for _ in things]
    for _ in range(runs):
        for steps, usages in zip(things, seen, strict=True):
            usages.append(in_row([cost(step) for step in steps]))
    return [median(usages) for usages in seen]


def in_row(usages: Sequence[Usage]) -> Usage:
    """Return the cost of steps that followed one another."""
    return Usage(
        sum(one.wall_s for one in usages),
        sum(one.cpu_s for one in usages),
        max(one.peak_bytes for one in usages),
    )


def median(usages: Sequence[Usage]) -> Usage:
    """Return the median of each figure."""
    return Usage(
        statistics.median(one.wall_s for one in usages),
        statistics.median(one.cpu_s for one in usages),
        int(statistics.median(one.peak_bytes for one in usages)),
    )


def _stand(arguments: list[str]) -> int:
    """Run a command, its output to stderr; print its cost as JSON."""
    began_s = time.monotonic()
    child = os.posix_spawnp(
        arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )
    _, status, used = os.wait4(child, 0)
    wall_s = time.monotonic() - began_s
    print(json.dumps([wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * KIB]))
    return os.waitstatus_to_exitcode(status) & 255


if __name__ == "__main__":
    sys.exit(_stand(sys.argv[1:]))
