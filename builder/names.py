"""Bytes of names as text for people: one line, whatever the name holds."""

from collections.abc import Sequence

SHOWN = 10


def shown(path: bytes) -> str:
    """Return a path of a tree as text; the root is `/`."""
    return text(path or b"/")


def text(raw: bytes) -> str:
    """Return bytes as printable text, the rest escaped."""
    decoded = raw.decode("utf-8", "backslashreplace")
    if decoded.isprintable():  # nearly all
        return decoded
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in decoded)


def listed(paths: Sequence[bytes]) -> str:
    """Return the first names, and how many more there are."""
    names = ", ".join(shown(path) for path in paths[:SHOWN])
    more = len(paths) - SHOWN
    return f"{names} and {more} more" if more > 0 else names
