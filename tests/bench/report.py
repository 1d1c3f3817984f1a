"""Figures → Markdown. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

NOTHING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"

INTRODUCTION = """\
Written by `make bench`; do not edit. Costs are those of whole commands: CPU is user and system time
of all their processes and threads, memory that of the largest process. kB, MB and GB are powers of
1,000."""


class Verdict(StrEnum):
    """How a figure stands to its aim."""

    MET = "met"
    MISSED = "**missed**"
    OPEN = "not measured"
    NO_AIM = NOTHING


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    figure: str
    ours: str
    peer: str
    ratio: str
    aim: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Part:
    """The lines of one measure, and under which conditions they came about."""

    lines: Sequence[Line]
    conditions: str


def against(
    figure: str, ours: float, peer: float, aim: float | None, *, show: str, peer_name: str
) -> Line:
    """Return a line that holds our figure against a peer's: at most `aim` times as much, if any."""
    ratio = ours / peer if peer else float("inf")
    verdict = Verdict.MET if aim is None or ratio <= aim else Verdict.MISSED
    return Line(
        figure,
        show.format(ours),
        f"{peer_name}: {show.format(peer)}",
        f"{ratio:.3f} {TIMES}",
        NOTHING if aim is None else f"≤ {aim:g} {TIMES}",
        Verdict.NO_AIM if aim is None else verdict,
    )


def below(figure: str, ours: float, aim: float, *, show: str, peer: str = NOTHING) -> Line:
    """Return a line that holds our figure against a bound."""
    met = Verdict.MET if ours <= aim else Verdict.MISSED
    return Line(figure, show.format(ours), peer, NOTHING, f"≤ {show.format(aim)}", met)


def missing(figure: str, reason: str) -> Line:
    """Return a line that says why there is no figure."""
    return Line(figure, NOTHING, NOTHING, NOTHING, reason, Verdict.OPEN)


def render(facts: Mapping[str, str], parts: Mapping[str, Part], guide: str) -> str:
    """Return the page."""
    head = [
        "# Benchmarks",
        "",
        INTRODUCTION,
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "| figure | flipslot | peer | ratio | aim | |",
        "|---|---|---|---|---|---|",
    ]
    rows = [_row(line) for part in parts.values() for line in part.lines]
    notes = ["", "Measured:", *(f"- {name}: {part.conditions}" for name, part in parts.items())]
    return "\n".join([*head, *rows, *notes, "", guide.strip(), ""])


def _row(line: Line) -> str:
    cells = (line.figure, line.ours, line.peer, line.ratio, line.aim, line.verdict.value)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
