"""A squashfs image, read by unsquashfs: its pseudo-file form is all entries, then all contents."""

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from builder.hardlinks import with_links
from builder.names import shown
from builder.opened.image import Contents, Facts, damage
from builder.tools import Tool, output, version, words
from builder.tree import Kind, Node, Tree, order_key
from slots.errors import ConfigError, Refused, VerificationError

UNSQUASHFS = Tool("unsquashfs", "squashfs-tools", "squashfs-tools")
_SINCE = (4, 5)
_DATA = b"# START OF DATA - DO NOT MODIFY"
_READ_BYTES = 1 << 20
_NO_TABLE = 2**64 - 1
_IDS = 2**32
_MOST_HELD = 4096  # lines of one entry: no target is longer on Linux
_COMPRESSORS = {1: "zlib", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
# name type time mode uid gid rest; a blank in a name has a backslash before it
_LINE = re.compile(
    rb"((?:\\.|[^\\ ])+) (?:([DRSICB]) (\d+) ([0-7]+) (-?\d+) (-?\d+) ?(.*)|L (.*))", re.DOTALL
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_DEVICES = {b"C": Kind.CHARACTER, b"B": Kind.BLOCK}


@dataclass(frozen=True, slots=True)
class _Listing:
    """All entries, each with where its data lie in the stream or -1, and which names are one."""

    entries: Sequence[tuple[Node, int]]
    keys: Mapping[bytes, object]

    def placed(self, wanted: Iterable[Node]) -> Iterator[tuple[int, Node]]:
        """Yield files and where they lie, in order; one name of each file."""
        firsts: dict[object, Node] = {}
        for node in wanted:
            firsts.setdefault(self.keys.get(node.path, node.path), node)
        files = ((offset, node.path) for node, offset in self.entries if offset >= 0)
        at = 0
        for offset, path in sorted(files):
            asked = firsts.pop(self.keys.get(path, path), None)
            if asked is not None and offset >= at:
                yield offset, asked
                at = offset + asked.size


@dataclass(slots=True)
class SquashfsImage:
    """A squashfs image in a file."""

    path: Path
    _listing: "_Listing | None" = None

    def facts(self) -> Facts:
        """Return what the superblock says."""
        with self.path.open("rb") as file:
            head = file.read(96)
        codec = _COMPRESSORS.get(int.from_bytes(head[20:22], "little"), "unknown")
        block_bytes = int.from_bytes(head[12:16], "little")
        return Facts("squashfs", codec, block_bytes, self.path.stat().st_size)

    def tree(self) -> Tree:
        """Return all entries."""
        if self._listing is None:
            with self._stream() as stream:
                self._listing = _listed(stream, self.path.name)
        return with_links(Tree.of(node for node, _ in self._listing.entries), self._listing.keys)

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files in the order of the stream."""
        wanted = list(nodes)
        with self._stream() as stream:
            if self._listing is None:
                self._listing = _listed(stream, self.path.name)
            else:
                _pass_entries(stream, self.path.name)
            at = 0
            for offset, asked in self._listing.placed(wanted):
                _skip(stream, offset - at)
                yield asked, _read(stream, asked, self.path.name)
                at = offset + asked.size

    def check(self, apart_from: Iterable[Node] = ()) -> None:
        """Nothing beyond its contents."""

    @contextmanager
    def _stream(self) -> Iterator[IO[bytes]]:
        found = version(words(UNSQUASHFS, "-version"))
        if found < _SINCE:
            raise ConfigError(
                f"unsquashfs {'.'.join(map(str, found))} cannot write its pseudo-file form",
                hint="install squashfs-tools 4.5 or newer",
            )
        self._check_superblock()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC0",
        }  # fmt: skip
        with TemporaryDirectory(prefix="image-") as folder:
            # unsquashfs removes its pseudo-file when it fails: as root /dev/stdout itself.
            pseudo = Path(folder) / "stdout"
            pseudo.symlink_to("/dev/stdout")
            arguments = ["-no-progress", "-pf", str(pseudo), str(self.path)]
            with damage(self.path.name), output(UNSQUASHFS, arguments, environment) as stream:
                yield stream

    def _check_superblock(self) -> None:
        """Hold what unsquashfs would believe against the file: it allocates what it is told."""
        size_bytes = self.path.stat().st_size
        with self.path.open("rb") as file:
            head = file.read(96)
        if len(head) < 96:
            raise VerificationError(f"{self.path.name} ends within the superblock")
        inodes, _, block_bytes, fragments, compressor, block_log, _, ids = struct.unpack_from(
            "<IIIIHHHH", head, 4
        )
        used, *tables = struct.unpack_from("<7Q", head, 40)
        reasons = {
            f"blocks of {block_bytes} bytes": not 4096 <= block_bytes <= 1 << 20
            or block_bytes != 1 << (block_log & 63),
            f"compressor {compressor}": compressor not in _COMPRESSORS,
            f"{used:,} bytes used of {size_bytes:,}": not 96 <= used <= size_bytes,
            f"{inodes:,} inodes, {fragments:,} fragments, {ids:,} owners": max(inodes, fragments)
            > size_bytes
            or not ids,
            "a table outside the image": any(
                one != _NO_TABLE and not 96 <= one <= used for one in tables
            ),
        }
        for reason, is_so in reasons.items():
            if is_so:
                raise VerificationError(
                    f"{self.path.name}: the superblock says {reason}", hint="not a good image"
                )


def _pass_entries(stream: IO[bytes], name: str) -> None:
    """Go on to the data; the entries are known."""
    for _ in _lines(stream, name):
        pass


def _listed(stream: IO[bytes], name: str) -> _Listing:
    try:
        return _Listing(*_entries(stream, name))
    except (ValueError, LookupError) as error:
        raise VerificationError(
            f"{name}: unsquashfs lists what is no entry: {error}", hint="not a good image"
        ) from error


def _entries(stream: IO[bytes], name: str) -> tuple[list[tuple[Node, int]], dict[bytes, object]]:
    """Read the first half of the stream: entries with where their data lie, names of one file."""
    entries: list[tuple[Node, int]] = []
    known: dict[bytes, int] = {}
    keys: dict[bytes, object] = {}
    held: list[bytes] = []  # unsquashfs does not escape newlines: no entry begins or ends one
    for line in _lines(stream, name):
        found = _going_on(held, line, entries, known, name) if held else _LINE.fullmatch(line)
        if found is None or _links_to_nothing(found, known):  # its target may go on
            held.append(line)
            continue
        held = []
        raw, kind, *_, linked_to = found.groups()
        path = _path(raw)
        if kind is None:
            first = _path(linked_to)
            keys[first] = keys[path] = first
            entries.append((entries[known[first]][0]._replace(path=path), -1))
        else:
            known[path] = len(entries)
            entries.append(_entry(path, found))
    _refuse_unclear_links((node.path for node, _ in entries), keys, name)
    if held:
        _continue_target(entries, b"\n".join(held) + b"\n", name)
    return entries, keys


def _refuse_unclear_links(paths: Iterable[bytes], keys: Mapping[bytes, object], name: str) -> None:
    """Refuse a link to `a` where `a`, a newline and more is a name too: it may be either."""
    for path in paths:
        at = path.find(b"\n")
        while at >= 0:
            if path[:at] in keys:
                raise Refused(
                    f"{name}: unsquashfs does not tell links to {shown(path[:at])} from those to"
                    f" {shown(path)}",
                    hint="read the uzip or iso9660 of the release, or its tree.mtree",
                )
            at = path.find(b"\n", at + 1)


def _going_on(
    held: Sequence[bytes],
    line: bytes,
    entries: list[tuple[Node, int]],
    known: Mapping[bytes, int],
    name: str,
) -> re.Match[bytes] | None:
    """Find the entry that ends in this line: lines before it may belong to the last target."""
    if len(held) > _MOST_HELD:
        raise VerificationError(f"{name}: unsquashfs says {held[0][:80]!r}")
    last, is_target = entries[-1][0].path if entries else b"", _is_after_symlink(entries)
    ways: list[tuple[int, re.Match[bytes]]] = []
    for split in range(len(held) + 1 if is_target else 1):
        found = _LINE.fullmatch(b"\n".join([*held[split:], line]))
        if found is not None and (not is_target or _may_follow(found, last, known)):
            ways.append((split, found))
    if len(ways) > 1:
        raise Refused(
            f"{name}: unsquashfs does not tell where the target of {shown(last)} ends, and the next"
            " name begins: one of them holds a newline",
            hint="read the uzip or iso9660 of the release, or its tree.mtree",
        )
    for split, found in ways:
        if split and not _links_to_nothing(found, known):
            _continue_target(entries, b"\n".join(held[:split]) + b"\n", name)
        return found
    return None


def _may_follow(found: re.Match[bytes], last: bytes, known: Mapping[bytes, int]) -> bool:
    """Tell whether an entry may be the next: it has a directory, and they come in tree order."""
    path = _path(found[1])
    folder = path.rpartition(b"/")[0]
    return order_key(path) > order_key(last) and (not folder or folder in known)


def _links_to_nothing(found: re.Match[bytes], known: Mapping[bytes, int]) -> bool:
    return found[8] is not None and _path(found[8]) not in known


def _is_after_symlink(entries: Sequence[tuple[Node, int]]) -> bool:
    return bool(entries) and entries[-1][0].kind is Kind.SYMLINK


def _lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    before = b""
    while line := stream.readline():
        if before == b"#\n" and line.startswith(_DATA):
            stream.readline()  # a last `#`
            return
        if before not in {b"", b"#\n"}:
            yield before.removesuffix(b"\n")
        before = line
    raise VerificationError(f"{name}: unsquashfs lists no entries")


def _continue_target(entries: list[tuple[Node, int]], held: bytes, name: str) -> None:
    """Take lines that are no entry as the further lines of a symlink's target."""
    if not entries or entries[-1][0].kind is not Kind.SYMLINK:
        raise VerificationError(f"{name}: unsquashfs says {held[:80]!r}")
    node, offset = entries[-1]
    target = node.target + b"\n" + held.removesuffix(b"\n")
    entries[-1] = (node._replace(target=target), offset)


def _path(raw: bytes) -> bytes:
    name = _ESCAPED.sub(rb"\1", raw)
    return b"" if name == b"/" else b"/" + name


def _entry(path: bytes, found: re.Match[bytes]) -> tuple[Node, int]:
    _, kind, time, mode, uid, gid, rest, _ = found.groups()
    owner, group = int(uid) % _IDS, int(gid) % _IDS  # unsquashfs writes them with a sign
    node = Node(path, Kind.DIRECTORY, int(mode, 8), owner, group, int(time))
    match kind:
        case b"R":
            size, offset = (int(part) for part in rest.split()[:2])
            return node._replace(kind=Kind.FILE, size=size), offset
        case b"S":
            return node._replace(kind=Kind.SYMLINK, target=rest), -1
        case b"I":
            return node._replace(kind=Kind.FIFO), -1
        case b"C" | b"B":
            major, minor = _device(*(int(part) for part in rest.split()))
            return node._replace(kind=_DEVICES[kind], major=major, minor=minor), -1
        case _:
            return node, -1


def _device(high: int, low: int) -> tuple[int, int]:
    """Put a device together that unsquashfs (4.5) splits at the eighth bit alone."""
    word = high << 8 | low
    return (word & 0xFFF00) >> 8, word & 0xFF | word >> 12 & 0xFFF00


def _skip(stream: IO[bytes], count: int) -> None:
    while count:
        data = stream.read(min(count, _READ_BYTES))
        if not data:
            raise VerificationError("unsquashfs ends too early")
        count -= len(data)


def _read(stream: IO[bytes], node: Node, name: str) -> Iterator[bytes]:
    left = node.size
    while left:
        data = stream.read(min(left, _READ_BYTES))
        if not data:
            raise VerificationError(f"{name} ends within {shown(node.path)}")
        left -= len(data)
        yield data
