"""An erofs image, read by fsck.erofs: unpacked into a private folder on first need.

Simple: a listing costs an unpacking, and fsck.erofs before 1.8 does not tell hard links.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from builder.contents import pieces
from builder.globs import matcher
from builder.opened.image import Contents, Facts
from builder.scan import scan
from builder.tools import Tool, run
from builder.tree import Node, Tree

FSCK_EROFS = Tool("fsck.erofs", "erofs-utils", "erofs-utils")
_OWNERS = frozenset({"uid", "gid"})
_MODES = frozenset({"mode"})


@dataclass(slots=True)
class ErofsImage:
    """An erofs image in a file; `folders` holds what was unpacked until it is closed."""

    path: Path
    folders: ExitStack
    unknown: frozenset[str] = field(
        default_factory=lambda: (
            frozenset({"nlink", "inode"}) | (frozenset() if os.geteuid() == 0 else _OWNERS | _MODES)
        )
    )
    _tree: Tree | None = None

    def facts(self) -> Facts:
        """Return what the superblock says."""
        with self.path.open("rb") as file:
            file.seek(1024)
            head = file.read(128)
        block_bytes = 1 << head[12]
        volume_bytes = block_bytes * int.from_bytes(head[36:40], "little")
        return Facts("erofs", "as its files say", 0, volume_bytes)

    def tree(self) -> Tree:
        """Return all entries."""
        if self._tree is None:
            folder = Path(self.folders.enter_context(TemporaryDirectory(prefix="image-"))) / "root"
            run(
                FSCK_EROFS,
                [f"--extract={folder}", str(self.path)],
                {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
            found = scan(folder, matcher(()), lambda _event: None)
            self._tree = Tree(tuple(replace(node, stamp=None) for node in found))
        return self._tree

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files."""
        for node in nodes:
            yield node, pieces(node)

    def check(self) -> None:
        """Nothing beyond unpacking it."""
