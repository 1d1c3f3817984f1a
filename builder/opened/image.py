"""What an opened image answers, whatever its format."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from builder.tree import Kind, Node, Tree
from slots.errors import BuildError, VerificationError
from slots.manifest import Format

Contents = Iterator[tuple[Node, Iterator[bytes]]]

KINDS = {
    0o040000: Kind.DIRECTORY,
    0o100000: Kind.FILE,
    0o120000: Kind.SYMLINK,
    0o020000: Kind.CHARACTER,
    0o060000: Kind.BLOCK,
    0o010000: Kind.FIFO,
}
"""The type bits of a mode."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the container says of itself."""

    format: Format
    codec: str
    cluster_bytes: int
    volume_bytes: int  # what a frontend sees: uzip decompressed, else the image
    further: tuple[tuple[str, str], ...] = ()


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn the failure of a tool that reads an image into what it says of the image."""
    try:
        yield
    except BuildError as error:
        raise VerificationError(f"{name}: {error.message}", hint="not a good image") from error


class OpenedImage(Protocol):
    """An image opened for reading."""

    def facts(self) -> Facts:
        """Return what the container says of itself."""
        ...

    def tree(self) -> Tree:
        """Return all entries."""
        ...

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files, in the order in which the image is read fastest.

        Of the names of a hard-linked file any one may stand for all. Each file's bytes are read
        before the next is asked for.
        """
        ...

    def check(self, apart_from: Iterable[Node] = ()) -> None:
        """Check what only this format can: that all of it decodes.

        Of files that are read anyway, `apart_from`, the contents need not be decoded for that.
        """
        ...
