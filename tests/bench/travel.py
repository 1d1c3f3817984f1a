"""The bytes that an update sends: ours by the indexes of two images, rsync's by its protocol."""

import gzip
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slots.index import Index, Piece, from_lines

# rsync calls this as it would call ssh: a host, then a command line for a shell there.
LOCAL_SHELL = '#!/bin/sh\nshift\nexec sh -c "$*"\n'
RSYNC = ("rsync", "-a", "-z", "--zc=zstd", "--delete", "--stats", "--no-human-readable")
_TOTAL = re.compile(r"^Total bytes (?:sent|received): ([0-9,]+)$", re.MULTILINE)


def read_index(path: Path) -> Index:
    """Read an index."""
    with path.open(encoding="utf-8") as lines:
        return from_lines(lines)


def new_bytes(old: Sequence[Piece], new: Sequence[Piece]) -> int:
    """Return the bytes of the pieces that only the new image has, each counted once."""
    known = {piece.digest for piece in old}
    lengths = {piece.digest: piece.length for piece in new if piece.digest not in known}
    return sum(lengths.values())


def table_gzipped_bytes(image: Path, index: Index) -> int:
    """Return what the head and table of contents of a uzip image, its first piece, gzip to."""
    with image.open("rb") as file:
        return len(gzip.compress(file.read(index.pieces[0].length), 9, mtime=0))


def rsync_bytes(new: Path, copy_of_old: Path, folder: Path, left_out: Sequence[str]) -> int:
    """Make a copy of the old tree the new one by rsync's protocol; return the bytes both ways.

    `left_out` are patterns of a recipe, from the root: those with a "/" mean the same to rsync.
    """
    shell = local_shell(folder)
    done = subprocess.run(
        [
            *RSYNC, *(f"--exclude=/{pattern}" for pattern in left_out),
            "-e", str(shell), f"{new}/", f"here:{copy_of_old}/",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return totals(done.stdout)


def local_shell(folder: Path) -> Path:
    """Write what rsync calls in place of ssh."""
    shell = folder / "local-shell"
    shell.write_text(LOCAL_SHELL)
    shell.chmod(0o755)
    return shell


def update_in_place(tree: Path, new: Path) -> None:
    """Make a tree the new one as an upgrade does: what did not change keeps its inode."""
    subprocess.run(["rsync", "-aH", "--delete", f"{new}/", f"{tree}/"], check=True)


def totals(stats: str) -> int:
    """Add up what rsync says it sent and received."""
    found = _TOTAL.findall(stats)
    if len(found) != 2:
        raise ValueError(f"rsync --stats does not say what was sent and received: {stats!r}")
    return sum(int(text.replace(",", "")) for text in found)
