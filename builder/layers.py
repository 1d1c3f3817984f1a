"""Several sources laid over one another: one tree, as if they had been copied in their order.

A later entry takes the place of an earlier one of the same name, with its owner, mode and time; of
two directories the contents are laid over one another. Where a directory meets anything else the
build is refused: what lies below would be lost, or lie behind a link.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.globs import Matcher
from builder.hardlinks import with_links
from builder.lint import Code
from builder.names import shown, text
from builder.scan import Scanned, recheck, scanned
from builder.tree import Kind, Node, Tree
from builder.walk import Seen, walk
from slots.errors import BuildError


@dataclass(frozen=True, slots=True)
class Source:
    """A directory, and what of it is left out."""

    path: Path
    excluded: Matcher


@dataclass(frozen=True, slots=True)
class Laid:
    """The tree of all sources, and what each of them held."""

    tree: Tree
    layers: tuple[Scanned, ...]

    @property
    def equal_source(self) -> Path | None:
        """The directory that holds this very tree, if there is one."""
        match self.layers:
            case [only] if only.is_whole:
                return only.source
            case _:
                return None

    @property
    def left_out(self) -> dict[Code, Sequence[bytes]]:
        """What the sources hold and the tree does not, by the rule that tells it."""
        return {
            "unreadable": self._all(one.unreadable for one in self.layers),
            "socket": self._all(one.sockets for one in self.layers),
            "mounted-inside": self._all(one.mounts for one in self.layers),
        }

    @staticmethod
    def _all(paths: Iterable[Sequence[bytes]]) -> list[bytes]:
        return sorted({path for each in paths for path in each})

    def recheck(self) -> None:
        """Compare every entry of every source with what was scanned."""
        for one in self.layers:
            recheck(one.source, one.tree)


def lay(sources: Sequence[Source]) -> Laid:
    """Read the sources, and lay each over those before it."""
    return laid([walk(one.path, one.excluded) for one in sources])


def laid(seen: Sequence[Seen]) -> Laid:
    """Make a tree of each source as it was seen, and lay it over those before it."""
    layers = tuple(map(scanned, seen))
    return Laid(layers[0].tree if len(layers) == 1 else overlay(layers), layers)


def overlay(layers: Sequence[Scanned]) -> Tree:
    """Return one tree of several, the later over the earlier."""
    nodes: dict[bytes, Node] = {}
    origin: dict[bytes, Path] = {}
    keys: dict[bytes, object] = {}
    for layer in layers:
        for node in layer.tree:
            _refuse_clash(nodes.get(node.path), node, origin.get(node.path), layer.source)
            nodes[node.path], origin[node.path] = node, layer.source
            keys.pop(node.path, None)
            if node.group is not None:
                keys[node.path] = (layer.source, node.group)
    return with_links(Tree.of(nodes.values()), keys)


def _refuse_clash(below: Node | None, above: Node, first: Path | None, second: Path) -> None:
    if below is None or (below.kind is Kind.DIRECTORY) == (above.kind is Kind.DIRECTORY):
        return
    behind = next((one for one in (below, above) if one.kind is Kind.SYMLINK), None)
    raise BuildError(
        f"{shown(above.path)} is {_a(below)} in {first} and {_a(above)} in {second}",
        hint=f"move what lies in the directory to {text(behind.target)}"
        if behind is not None
        else "leave one of them out with `exclude` of its source",
    )


def _a(node: Node) -> str:
    words = {Kind.DIRECTORY: "a directory", Kind.SYMLINK: f"a symlink to {text(node.target)}"}
    return words.get(node.kind, f"of type {node.kind}")
