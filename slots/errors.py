"""The errors a user may meet, each with its exit code.

    ProductError                 1   (never raised itself)
    ├── Refused                  2   refused before anything was touched
    │   └── ConfigError          2   a recipe, an inventory, an argument
    ├── HostError                3   one frontend failed, its old image serves
    │   ├── LockLostError        3   the lock was taken away, or its holder died
    │   └── StragglersError      3   the new image serves; processes still use the old one
    ├── RolledBackError          5   a new image was taken back
    ├── UnreachableError         6   a frontend does not answer
    ├── LockedError              7   someone else is at work on a frontend
    ├── VerificationError        8   bytes are not what their description says
    └── BuildError               9   an image could not be built

Anything else that is raised is a bug and keeps its traceback. 4 (too many hosts failed) and 10
(`plan --check`: something would change) are what a command as a whole comes to, and no error.
"""

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of `image` and `deploy`."""

    DONE = 0
    INTERNAL = 1
    REFUSED = 2
    SOME_FAILED = 3
    BUDGET = 4
    ROLLED_BACK = 5
    UNREACHABLE = 6
    LOCKED = 7
    VERIFICATION = 8
    BUILD = 9
    WOULD_CHANGE = 10


# Several outcomes in one rollout: the first that occurs in this order is the exit code.
SEVERITY = (
    Exit.INTERNAL,
    Exit.REFUSED,
    Exit.LOCKED,
    Exit.VERIFICATION,
    Exit.ROLLED_BACK,
    Exit.BUDGET,
    Exit.SOME_FAILED,
    Exit.UNREACHABLE,
)


def worst(outcomes: Iterable[Exit]) -> Exit:
    """Return the exit code of a rollout whose hosts ended with these."""
    seen = set(outcomes)
    return next((code for code in SEVERITY if code in seen), Exit.DONE)


class ProductError(Exception):
    """An expected failure: one line that names the thing and the rule, and the next step."""

    exit_code = Exit.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Refused(ProductError):  # noqa: N818 - a refusal is an answer, not a fault
    """Refused before anything was touched."""

    exit_code = Exit.REFUSED


class ConfigError(Refused):
    """A recipe, an inventory or an argument that does not fit."""


class HostError(ProductError):
    """One frontend failed; what served before still serves."""

    exit_code = Exit.SOME_FAILED


class LockLostError(HostError):
    """The lock under which the work was done is gone: someone took it away, or its holder died."""


class StragglersError(HostError):
    """The new image serves, and processes that still use the old one had their time."""


class RolledBackError(ProductError):
    """The new image failed its checks and the old one serves again."""

    exit_code = Exit.ROLLED_BACK


class UnreachableError(ProductError):
    """A frontend does not answer, or is not the host it should be."""

    exit_code = Exit.UNREACHABLE


class LockedError(ProductError):
    """Someone else is at work on a frontend."""

    exit_code = Exit.LOCKED


class VerificationError(ProductError):
    """Bytes are not what their description says."""

    exit_code = Exit.VERIFICATION


class BuildError(ProductError):
    """An image could not be built; nothing is left under its final name."""

    exit_code = Exit.BUILD
