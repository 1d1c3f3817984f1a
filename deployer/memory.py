"""Which files were read and found right: a file is known by its stamp, and not read again.

A note is a file whose name is the digest of the stamp and of what the file was held against; it
holds what reading found, if that was not known before. Notes may be deleted at any time.
"""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

FOLDER = ".verified"
KEPT = 100
RACY_S = 2.0  # a file that changed so lately may change again within the same tick of its clock


def note_path(out: Path, path: Path, *held_against: str) -> Path | None:
    """Return the note of a file as it is now; None: it cannot be told, or it has just changed."""
    try:
        stamp = path.stat()
    except OSError:
        return None
    if time.time() - max(stamp.st_mtime, stamp.st_ctime) < RACY_S:
        return None
    parts = (stamp.st_dev, stamp.st_ino, stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns)
    text = "\0".join(map(str, (path.resolve(), *parts, *held_against)))
    return out / FOLDER / hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def is_noted(note: Path | None) -> bool:
    """Tell whether this very file was found right before."""
    return note is not None and note.is_file()


def found(note: Path | None) -> str:
    """Return what reading this very file found before; empty: it is not known."""
    try:
        return note.read_text("ascii") if note is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def remember(note: Path | None, found: str = "") -> None:
    """Note it, if that is possible: without a note the file is read again, no more."""
    if note is None:
        return
    with suppress(OSError):
        note.parent.mkdir(exist_ok=True)
        note.write_text(found, "ascii")
        notes = sorted(note.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns)
        for old in notes[:-KEPT]:
            old.unlink()
