"""An ISO 9660 image with Rock Ridge, plain or inside a uzip, read by pycdlib."""

import io
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pycdlib import PyCdlib
from pycdlib.pycdlibexception import PyCdlibException

from builder.hardlinks import with_links
from builder.names import shown
from builder.opened.image import KINDS, Contents, Facts
from builder.tree import Kind, Node, Tree
from slots.errors import VerificationError

BLOCK_BYTES = 2048
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class Iso9660Image:
    """An ISO 9660 volume; `volume` is its bytes, in whatever container they lie."""

    volume: BinaryIO
    name: str
    about: Facts
    decode_all: Callable[[], None]
    _extents: dict[bytes, int] | None = None

    def facts(self) -> Facts:
        """Return what the container says of itself."""
        return self.about

    def check(self) -> None:
        """Decode every cluster of the container."""
        self.decode_all()

    def tree(self) -> Tree:
        """Return all entries."""
        iso = PyCdlib()
        try:
            iso.open_fp(self.volume)
            root: Any = iso.get_record(iso_path="/")
            extents: dict[bytes, int] = {}
            keys: dict[bytes, object] = {}
            nodes = [_node(b"", next(one for one in root.children if one.is_dot()), extents, keys)]
            waiting: list[tuple[bytes, Any]] = [(b"", root)]
            while waiting:
                folder, record = waiting.pop()
                for child in record.children:
                    if child.is_dot() or child.is_dotdot():
                        continue
                    path = folder + b"/" + child.rock_ridge.name()
                    nodes.append(_node(path, child, extents, keys))
                    if child.is_dir():
                        waiting.append((path, child))
        except PyCdlibException as error:
            raise VerificationError(
                f"{self.name} is not ISO 9660 as it should be: {error}"
            ) from error
        except AttributeError as error:
            raise VerificationError(f"{self.name} holds entries without Rock Ridge") from error
        self._extents = extents
        counted = {node.path: node.links for node in nodes}
        return Tree(
            tuple(
                node if node.group is not None else replace(node, links=counted[node.path])
                for node in with_links(Tree.of(nodes), keys)
            )
        )

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files in the order in which they lie."""
        if self._extents is None:
            self.tree()
        extents = self._extents or {}
        for node in sorted(nodes, key=lambda node: extents[node.path]):
            yield node, self._read(extents[node.path] * BLOCK_BYTES, node)

    def _read(self, offset: int, node: Node) -> Iterator[bytes]:
        left = node.size
        self.volume.seek(offset)
        while left:
            data = self.volume.read(min(left, _READ_BYTES))
            if not data:
                raise VerificationError(f"{self.name} ends within {shown(node.path)}")
            left -= len(data)
            yield data


def plain(file: BinaryIO, name: str) -> Iso9660Image:
    """Open a plain ISO 9660 image."""
    size_bytes = file.seek(0, io.SEEK_END)
    return Iso9660Image(file, name, Facts("iso9660", "none", 0, size_bytes), lambda: None)


def _node(path: bytes, record: Any, extents: dict[bytes, int], keys: dict[bytes, object]) -> Node:
    ridge = record.rock_ridge
    px = _entry(ridge, "px_record")
    kind = KINDS.get(px.posix_file_mode & 0o170000)
    if kind is None:
        raise VerificationError(f"{shown(path)} is of no known type ({px.posix_file_mode:o})")
    size = record.get_data_length() if kind is Kind.FILE else 0
    if kind is Kind.FILE:
        extents[path] = record.extent_location()
        # Names of one file share its extent; empty ones have none, so that they stay apart.
        if px.posix_file_links > 1 and size:
            keys[path] = extents[path]
    pn = _entry(ridge, "pn_record") if kind in {Kind.CHARACTER, Kind.BLOCK} else None
    return Node(
        path=path,
        kind=kind,
        mode=px.posix_file_mode & 0o7777,
        uid=px.posix_user_id,
        gid=px.posix_group_id,
        mtime_s=_mtime_s(_entry(ridge, "tf_record")),
        size=size,
        target=_target(ridge) if kind is Kind.SYMLINK else b"",
        major=_device(pn)[0],
        minor=_device(pn)[1],
        links=px.posix_file_links,
    )


def _entry(ridge: Any, name: str) -> Any:
    """Return an entry of the record, or of its continuation."""
    found = getattr(ridge.dr_entries, name)
    return getattr(ridge.ce_entries, name) if found is None else found


def _mtime_s(tf: Any) -> int:
    # pycdlib (1.22) takes RRIP's bit 1, MODIFY, for the time of access.
    when = None if tf is None else tf.access_time
    if when is None:
        return 0
    local: int = timegm(
        (
            1900 + when.years_since_1900,
            when.month,
            when.day_of_month,
            when.hour,
            when.minute,
            when.second,
        )
    )
    return local - int(when.gmtoffset) * 15 * 60


def _device(pn: Any) -> tuple[int, int]:
    return (0, 0) if pn is None else (pn.dev_t_high, pn.dev_t_low)


def _target(ridge: Any) -> bytes:
    target: bytes = ridge.symlink_path()
    return target
