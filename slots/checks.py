"""What is asked of a frontend itself behind a flip: commands that must succeed there, as data."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a failing check means."""

    REQUIRED = "required"  # the new image is taken back
    WANTED = "wanted"  # it is told


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """Run a command on the host until it ends with status 0, or the deadline passes."""

    command: tuple[str, ...]
    deadline_s: float = 30.0
    level: Level = Level.REQUIRED
