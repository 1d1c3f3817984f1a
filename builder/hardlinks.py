"""Which names of a tree are one file, and how many links each entry has. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from builder.tree import Kind, Node, Tree


def with_links(tree: Tree, inodes: Mapping[bytes, object] | None = None) -> Tree:
    """Return a tree whose groups are numbered in tree order and whose links are counted.

    `inodes` tells which names are one file; without it the groups that the nodes have are kept.
    """
    keys: dict[bytes, object] = (
        {node.path: node.group for node in tree if node.group is not None}
        if inodes is None
        else dict(inodes)
    )
    here = [node.path for node in tree if node.path in keys]
    names = Counter(keys[path] for path in here)
    numbers: dict[object, int] = {}
    for path in here:
        if names[keys[path]] > 1:
            numbers.setdefault(keys[path], len(numbers))
    folders = Counter(node.parent for node in tree if node.kind is Kind.DIRECTORY and node.path)
    return Tree(tuple(_linked(node, keys, names, numbers, folders) for node in tree))


def _linked(
    node: Node,
    keys: Mapping[bytes, object],
    names: Counter[object],
    numbers: Mapping[object, int],
    folders: Counter[bytes],
) -> Node:
    if node.kind is Kind.DIRECTORY:
        return replace(node, links=2 + folders[node.path], group=None)
    key = keys.get(node.path)
    group = None if key is None else numbers.get(key)
    links = 1 if group is None else names[key]
    if (node.group, node.links) == (group, links):
        return node
    return replace(node, group=group, links=links)


def first_files(tree: Tree) -> list[Node]:
    """Return the files of a tree, those of several names by their first name alone."""
    seen: set[int] = set()
    files: list[Node] = []
    for node in tree:
        if node.kind is Kind.FILE and node.group not in seen:
            files.append(node)
            if node.group is not None:
                seen.add(node.group)
    return files
