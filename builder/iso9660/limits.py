"""What ISO 9660 with Rock Ridge cannot hold, as cd9660 reads it. Pure."""

from collections.abc import Iterator

from builder.tree import Kind, Node, Tree

MAX_FILE_BYTES = 2**32 - 1
MAX_TARGET_BYTES = 1023
MAX_NAME_BYTES = 255
MAX_LINKS = 2**15 - 1
MAX_NUMBER = 2**32 - 1
"""Owners and device numbers are of 32 bits."""


def node_refusals(tree: Tree) -> Iterator[str]:
    """Name every node that cannot be written, and why."""
    file, folder = Kind.FILE, Kind.DIRECTORY
    for node in tree:
        if (
            (node.kind is file or node.kind is folder)
            and len(node.path) <= MAX_NAME_BYTES
            and node.links <= MAX_LINKS
            and node.size <= MAX_FILE_BYTES
            and 0 <= node.uid <= MAX_NUMBER
            and 0 <= node.gid <= MAX_NUMBER
        ):
            continue  # nearly all
        if reason := _refusal(node):
            yield f"{show_path(node.path)}: {reason}"


def _refusal(node: Node) -> str:
    reason = ""
    if len(node.name) > MAX_NAME_BYTES:
        reason = f"a name of {len(node.name)} bytes (at most {MAX_NAME_BYTES})"
    elif node.links > MAX_LINKS:
        reason = f"{node.links} links (at most {MAX_LINKS})"
    elif not (0 <= node.uid <= MAX_NUMBER and 0 <= node.gid <= MAX_NUMBER):
        reason = f"owner {node.uid}:{node.gid} is not a number of 32 bits"
    elif node.kind is Kind.FILE and node.size > MAX_FILE_BYTES:
        reason = f"a file of {node.size} bytes (at most {MAX_FILE_BYTES})"
    elif node.kind is Kind.SYMLINK and not 1 <= len(node.target) <= MAX_TARGET_BYTES:
        reason = f"a symlink target of {len(node.target)} bytes (1 to {MAX_TARGET_BYTES})"
    elif node.kind in {Kind.CHARACTER, Kind.BLOCK} and max(node.major, node.minor) > MAX_NUMBER:
        reason = f"device numbers {node.major},{node.minor} of more than 32 bits"
    return reason


def show_path(path: bytes) -> str:
    """Return a path as a user reads it."""
    return (path or b"/").decode("utf-8", "backslashreplace")
