"""Answers: what a script printed between its two marker lines, and the error that it stands for."""

import re
from dataclasses import dataclass
from io import BytesIO

from slots.errors import (
    HostError,
    LockedError,
    LockLostError,
    ProductError,
    Refused,
    RolledBackError,
    VerificationError,
)

ANSWER_MAX_BYTES = 1 << 20

DID = ("did", "yes")  # the line between the answers of a trip
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_.]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script printed. Without its end marker it is not complete, and no success."""

    status: int  # of the verb; -1 if the answer is not complete
    values: tuple[tuple[str, str], ...]
    complete: bool

    def first(self, key: str, default: str = "") -> str:
        """Return the first value of this key."""
        return next((value for name, value in self.values if name == key), default)

    def all(self, key: str) -> tuple[str, ...]:
        """Return the values of this key, in order."""
        return tuple(value for name, value in self.values if name == key)


def answer(stdout: bytes, nonce: str) -> Answer:
    """Return the answer in what a host printed; HostError if its inside is not one."""
    if len(stdout) > ANSWER_MAX_BYTES:
        raise HostError(f"the host answered more than {ANSWER_MAX_BYTES} bytes")
    lines = _Lines(nonce)
    values: list[tuple[str, str]] = []
    for line in BytesIO(stdout):
        match lines.take(line):
            case None:
                pass
            case int(status):
                return Answer(status, tuple(values), complete=True)
            case value:
                values.append(value)
    return Answer(-1, tuple(values), complete=False)


class Hearing:
    """The answers of a trip, heard line by line: one for each of its calls, in turn."""

    def __init__(self, nonce: str) -> None:
        """Listen for the answers of this nonce."""
        self._lines = _Lines(nonce)
        self._values: list[tuple[str, str]] = []

    def hear(self, line: bytes) -> Answer | tuple[str, str] | None:
        """Take a line; return the answer of the call that has ended with it, or a value of one."""
        match self._lines.take(line):
            case None:
                return None
            case int(status):
                return self._taken(status)
            case value if value == DID:
                return self._taken(0)
            case value:
                self._values.append(value)
                return value

    def _taken(self, status: int) -> Answer:
        values, self._values = tuple(self._values), []
        return Answer(status, values, complete=True)


def error_of(answer: Answer, host: str) -> ProductError | None:
    """Return the error that an answer stands for, or None if the verb did its work."""
    if not answer.complete:
        return HostError(f"{host}: the connection ended before the verb did")
    text = (answer.all("error") or ("no reason given",))[-1]
    message = f"{host}: {text}"
    hint = answer.first("hint")
    if answer.status == 0:
        return None
    return _ERRORS.get(answer.status, HostError)(message, hint=hint)


_ERRORS: dict[int, type[ProductError]] = {
    20: Refused,
    22: LockedError,
    23: VerificationError,
    24: LockLostError,
    25: RolledBackError,
}


class _Lines:
    """What the lines of a script's output mean: noise, then values, then its end."""

    def __init__(self, nonce: str) -> None:
        self._begin = f"flipslot {nonce} begin"
        self._end = re.compile(rf"flipslot {re.escape(nonce)} end ([0-9]+)")
        self._begun = False

    def take(self, line: bytes) -> tuple[str, str] | int | None:
        """Return the value of a line, or the status of the end; None: it says nothing."""
        if not line.endswith(b"\n"):
            return None  # cut off: it may be half of what was said
        text = line.decode("utf-8", "replace")[:-1]
        if not self._begun:
            self._begun = text == self._begin
            return None
        ended = self._end.fullmatch(text)
        return int(ended[1]) if ended else _value(text)


def _value(line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise HostError(f"the host answered {_printable(line)[:80]!r}, which is not key=value")
    return found[1], _printable(found[2])


def _printable(text: str) -> str:
    """Return the text without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
