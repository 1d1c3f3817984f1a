"""`make bench`: makes the trees if they are missing, takes the measures, writes the page."""

import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from tests.bench import peers, rows, trees
from tests.bench.report import Line, Part, Verdict, render

PAGE = Path("docs/benchmarks.md")
GUIDE = Path(__file__).with_name("guide.md")
WORK = Path("/var/tmp/flipslot-bench")
SMALL_SOURCE = Path(sysconfig.get_path("purelib")) / "mypy"


def main(arguments: Sequence[str]) -> int:
    """Run the bench."""
    asked = _asked(arguments)
    folder = Path(os.environ.get("FLIPSLOT_BENCH_WORK", WORK))
    held = _alone(folder)
    found = _trees(asked, folder)
    results = folder / ("results-small.json" if asked.small else "results.json")
    parts = _parts(results) if asked.only else {}
    facts = _facts(found)
    peers.compile_modules()
    bench = _bench(asked, folder, found)
    for name in asked.only or rows.MEASURES:
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", file=sys.stderr, flush=True)
        parts[name] = Part(rows.take(name, bench), _conditions(asked))
        _keep(results, parts)  # what was measured stays, whatever befalls the next measure
        page = render(facts, _ordered(parts), GUIDE.read_text())
        (folder / "small.md" if asked.small else PAGE).write_text(page)
    shutil.rmtree(bench.work)
    held.close()
    print(page if asked.small else f"{PAGE}: {_summary(parts)}")
    return 0


def _alone(folder: Path) -> TextIO:
    """Refuse to run beside another bench: both would work in one folder, and slow each other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise SystemExit(f"another bench works in {folder}") from None
    return lock


def with_cleanup_on(*signals: signal.Signals) -> None:
    """Turn signals into an exit that unmounts and removes on its way."""
    for number in signals:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small trees, to try the bench")
    parser.add_argument("--full", action="store_true", help="also a million files")
    parser.add_argument("--runs", type=int, default=1, help="of each pair of commands")
    parser.add_argument("--places", type=int, default=3, help="where each edit is tried")
    parser.add_argument("--only", action="append", choices=rows.MEASURES, help="these measures")
    return parser.parse_args(arguments)


def _trees(asked: argparse.Namespace, folder: Path) -> trees.Trees:
    if asked.small:
        return trees.small(folder / "small", SMALL_SOURCE)
    return trees.given(os.environ) or trees.made(folder / "trees")


def _bench(asked: argparse.Namespace, folder: Path, found: trees.Trees) -> rows.Bench:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return rows.Bench(work, found, asked.runs, asked.places, asked.full)


def _facts(found: trees.Trees) -> dict[str, str]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "machine": f"{len(os.sched_getaffinity(0))} processors ({_processor()}), "
        f"{memory_gb:.0f} GB of memory, {platform.system()} {platform.release()}",
        "programs": peers.versions(),
        "trees": found.origin,
        "v1": trees.counted(found.v1),  # reads all of it, so that every build finds it in memory
        "v2": trees.counted(found.v2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _conditions(asked: argparse.Namespace) -> str:
    load = os.getloadavg()[1]
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{when}, commit {peers.commit()}, runs: {asked.runs}, load {load:.1f}"


def _parts(results: Path) -> dict[str, Part]:
    """Read the figures that an earlier run kept."""
    if not results.exists():
        return {}
    return {
        name: Part(
            [Line(**{**line, "verdict": Verdict(line["verdict"])}) for line in part["lines"]],
            part["conditions"],
        )
        for name, part in json.loads(results.read_text()).items()
    }


def _keep(results: Path, parts: dict[str, Part]) -> None:
    results.write_text(json.dumps({name: asdict(part) for name, part in parts.items()}, indent=1))


def _ordered(parts: dict[str, Part]) -> dict[str, Part]:
    return {name: parts[name] for name in rows.MEASURES if name in parts}


def _summary(parts: dict[str, Part]) -> str:
    verdicts = [line.verdict for part in parts.values() for line in part.lines]
    return ", ".join(f"{verdicts.count(one)} {one.value}" for one in Verdict if one in verdicts)


if __name__ == "__main__":
    with_cleanup_on(signal.SIGTERM, signal.SIGHUP)
    sys.exit(main(sys.argv[1:]))
