"""A tree by its directories: which entries each of them holds. Pure."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from builder.tree import Kind, Node


class Children(NamedTuple):
    """A directory: its node, the number of its parent, its entries in byte order of their names."""

    node: int
    parent: int
    held: "array[int]"


def children_of(nodes: Sequence[Node]) -> list[Children]:
    """List the directories in tree order."""
    directory = Kind.DIRECTORY
    found = [Children(0, 0, array("Q"))]
    numbers = {b"": 0}
    for index, node in enumerate(nodes):
        path = node.path
        if not path:
            continue
        parent = numbers[path[: path.rfind(b"/")]]
        found[parent].held.append(index)
        if node.kind is directory:
            numbers[path] = len(found)
            found.append(Children(index, parent, array("Q")))
    return found
