"""A tree and its contents → a directory: what `image extract` leaves, and copies made for tools.

The directory is empty at the start and every name is made anew and never followed, so that no
image can write outside it.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum
from pathlib import Path

from builder.names import shown
from builder.tree import Kind, Node, Tree
from slots.errors import VerificationError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Contents = Iterable[tuple[Node, Iterator[bytes]]]


class Privilege(Enum):
    """What a user may restore: an ordinary one no owners and no devices."""

    ROOT = "root"
    USER = "user"


def refuse_escapes(tree: Tree) -> None:
    """Refuse a tree whose names would leave the directory, or stand on one another."""
    folders: set[bytes] = set()
    seen: set[bytes] = set()
    for node in tree:
        if node.path and node.name in {b"", b".", b".."}:
            raise VerificationError(f"the image holds a name that leaves it: {shown(node.path)}")
        if b"\0" in node.path or node.path in seen:
            raise VerificationError(f"the image holds a name twice: {shown(node.path)}")
        if node.path and node.parent not in folders:
            raise VerificationError(f"{shown(node.path)} in the image lies in no directory")
        seen.add(node.path)
        if node.kind is Kind.DIRECTORY:
            folders.add(node.path)


def restore(tree: Tree, contents: Contents, folder: Path, privilege: Privilege) -> list[bytes]:
    """Make the entries of a tree in an empty directory; return those that could not be made."""
    refuse_escapes(tree)
    top = os.fsencode(folder)
    firsts = _firsts(tree)
    owns = [node for node in tree if firsts.get(node.group, node) is node]
    refused = {node.path for node in owns if not _make(top, node, privilege)}
    left_out = [node.path for node in tree if firsts.get(node.group, node).path in refused]
    _write_contents(top, contents, privilege)
    _make_links(top, tree, firsts, refused)
    passed = {*left_out, *(node.path for node in tree if node.kind is Kind.FILE)}
    for node in reversed(tree.nodes):
        if node.path not in passed:
            _settle(top + node.path, node, privilege)
    return left_out


def emptied(folder: Path) -> bool:
    """Remove all that lies in a folder; return whether something is left."""
    with suppress(OSError):
        for one in os.scandir(os.fsencode(folder)):
            if one.is_dir(follow_symlinks=False):
                shutil.rmtree(one.path, ignore_errors=True)
            else:
                os.unlink(one.path)  # noqa: PTH108 - bytes
        return any(folder.iterdir())
    return folder.exists()


def _firsts(tree: Tree) -> dict[int | None, Node]:
    """Return the first name of each hard-linked entry: it is made, the others are linked to it."""
    firsts: dict[int | None, Node] = {}
    for node in tree:
        if node.group is not None:
            firsts.setdefault(node.group, node)
    return firsts


def _make(top: bytes, node: Node, privilege: Privilege) -> bool:
    full = top + node.path
    match node.kind:
        case Kind.DIRECTORY:
            if node.path:
                os.mkdir(full, 0o700)  # noqa: PTH102 - bytes
        case Kind.SYMLINK:
            os.symlink(node.target, full)  # noqa: PTH211 - bytes
        case Kind.FIFO:
            os.mkfifo(full, 0o600)
        case Kind.CHARACTER | Kind.BLOCK:
            return privilege is Privilege.ROOT and _make_device(full, node)
        case Kind.FILE:
            pass  # its bytes come in the image's order
    return True


def _make_device(full: bytes, node: Node) -> bool:
    kind = 0o020000 if node.kind is Kind.CHARACTER else 0o060000
    try:
        os.mknod(full, kind | 0o600, os.makedev(node.major, node.minor))
    except PermissionError:
        return False  # root in a container
    return True


def _write_contents(top: bytes, contents: Contents, privilege: Privilege) -> None:
    """Write files and settle them while they are open, which costs no look at their path."""
    for node, chunks in contents:
        descriptor = os.open(top + node.path, _NEW, 0o600)
        try:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(descriptor, left) :]
            if privilege is Privilege.ROOT:
                os.fchown(descriptor, node.uid, node.gid)
            os.fchmod(descriptor, node.mode)
            os.utime(descriptor, (node.mtime_s, node.mtime_s))
        finally:
            os.close(descriptor)


def _make_links(
    top: bytes, tree: Tree, firsts: Mapping[int | None, Node], refused: AbstractSet[bytes]
) -> None:
    """Give hard-linked names their one entry."""
    for node in tree:
        first = firsts.get(node.group, node)
        if first is not node and first.path not in refused:
            os.link(top + first.path, top + node.path, follow_symlinks=False)


def _settle(full: bytes, node: Node, privilege: Privilege) -> None:
    """Set owner, mode and time, in this order: a change of owner clears set-id bits."""
    if privilege is Privilege.ROOT:
        os.chown(full, node.uid, node.gid, follow_symlinks=False)
    if node.kind is not Kind.SYMLINK:
        os.chmod(full, node.mode)  # noqa: PTH101 - bytes
    os.utime(full, (node.mtime_s, node.mtime_s), follow_symlinks=False)
