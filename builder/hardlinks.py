"""Which names of a tree are one file, and how many links each entry has. Pure."""

from array import array
from collections import Counter
from collections.abc import Mapping

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
    here = [node.path for node in tree if node.path in keys] if keys else []
    names = Counter(keys[path] for path in here)
    numbers: dict[object, int] = {}
    for path in here:
        if names[keys[path]] > 1:
            numbers.setdefault(keys[path], len(numbers))
    folder = Kind.DIRECTORY
    folders = Counter(node.parent for node in tree if node.kind is folder and node.path)

    def linked(node: Node) -> Node:
        if node.kind is folder:
            group, links = None, 2 + folders[node.path]
        else:
            key = keys.get(node.path)
            group = None if key is None else numbers.get(key)
            links = 1 if group is None else names[key]
        if node.links == links and node.group == group:
            return node  # nearly all: a copy is dear
        return node._replace(group=group, links=links)

    return Tree(tuple([linked(node) for node in tree]))


def first_files(tree: Tree) -> list[Node]:
    """Return the files of a tree, those of several names by their first name alone."""
    nodes = tree.nodes
    return [nodes[number] for number in first_numbers(tree)]


def first_numbers(tree: Tree) -> "array[int]":
    """Return the places of these files in the tree."""
    file, seen = Kind.FILE, set[int]()
    numbers = array("Q")
    for number, node in enumerate(tree):
        if node.kind is file and node.group not in seen:
            numbers.append(number)
            if node.group is not None:
                seen.add(node.group)
    return numbers
