"""A minimal reader of ISO 9660 with Rock Ridge as cd9660 reads it, that names broken rules.

Written from ECMA-119, SUSP and RRIP and the steps of cd9660_rrip.c, without a line of
builder/iso9660.
"""

import calendar
import re
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 2048
KINDS = {
    stat.S_IFDIR: "dir",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
RR_FLAGS = {b"PX": 1, b"PN": 2, b"SL": 4, b"NM": 8, b"TF": 0x80}
UNDERSTOOD = {b"SP", b"CE", b"ER", b"RR", b"ST", *RR_FLAGS}
Read = Callable[[int, int], bytes]


@dataclass
class Entry:
    """What stat(2) and readlink(2) would say of a name, and where its data lies."""

    path: bytes
    kind: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    links: int = 0
    mtime_s: int = 0
    size: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    block: int = 0
    identifier: bytes = b""
    name: bytes = b""
    entries: set[bytes] = field(default_factory=set)


@dataclass
class _Record:
    at: int
    raw: bytes
    block: int
    size: int
    directory: bool
    identifier: bytes
    use: bytes


class Volume:
    """A mounted volume. `violations` grows while it is walked."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self.violations: list[str] = []
        self.extents: list[tuple[int, int, str]] = []  # first block, blocks, whose
        primary = read(16 * BLOCK, BLOCK)
        if primary[:7] != b"\x01CD001\x01":
            raise ValueError("no primary volume descriptor")
        if read(17 * BLOCK, 7) != b"\xffCD001\x01":
            self._break("no terminator")
        self.primary = primary
        self.blocks = self._both32(primary, 80, "volume size")
        self.label = primary[40:72].rstrip(b" ").decode("latin-1")
        if not re.fullmatch("[A-Z0-9_]{1,32}", self.label):
            self._break(f"a label {self.label!r} that /dev/iso9660 does not show")
        if self.blocks * BLOCK > size_bytes:
            self._break("the volume is larger than what holds it")
        for offset, value in ((120, 1), (124, 1), (128, BLOCK)):
            little, big = struct.unpack_from("<H", primary, offset)[0], primary[offset + 2 :]
            if little != value or struct.unpack_from(">H", big)[0] != value:
                self._break(f"descriptor byte {offset} is not {value} in both orders")
        self.root = self._record(156 + 16 * BLOCK, primary[156:190])
        self._use_extent(0, 18, "descriptors")

    def _break(self, rule: str) -> None:
        self.violations.append(rule)

    def _use_extent(self, block: int, blocks: int, whose: str) -> None:
        if blocks and block + blocks > self.blocks:
            self._break(f"{whose}: outside the volume")
        if blocks:
            self.extents.append((block, blocks, whose))

    def _both32(self, data: bytes, offset: int, what: str) -> int:
        little = int(struct.unpack_from("<I", data, offset)[0])
        if struct.unpack_from(">I", data, offset + 4)[0] != little:
            self._break(f"{what}: the two byte orders differ")
        return little

    def _record(self, at: int, raw: bytes) -> _Record:
        length = raw[32]
        end = 33 + length + (1 - length % 2)
        return _Record(
            at,
            raw,
            self._both32(raw, 2, f"record at {at}"),
            self._both32(raw, 10, f"record at {at}"),
            bool(raw[25] & 2),
            raw[33 : 33 + length],
            raw[end : raw[0]],
        )

    def _records(self, block: int, size: int, whose: str) -> Iterator[_Record]:
        if size % BLOCK:
            self._break(f"{whose}: a table of {size} bytes")
        for start in range(block * BLOCK, block * BLOCK + size, BLOCK):
            data, at = self._read(start, BLOCK), 0
            while at < BLOCK and data[at]:
                if at + data[at] > BLOCK:
                    self._break(f"{whose}: a record crosses a block")
                    break
                if data[at] % 2 or data[at] < 34 + data[at + 32] - 1:
                    self._break(f"{whose}: a record of {data[at]} bytes")
                yield self._record(start + at, data[at : at + data[at]])
                at += data[at]
            if any(data[at:]):
                self._break(f"{whose}: bytes behind the last record of a block")

    def _uses(self, use: bytes, whose: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield type and body of each system use entry, and follow CE."""
        while True:
            following: tuple[int, int, int] | None = None
            at = 0
            while at + 4 <= len(use):
                length = use[at + 2]
                if length < 4 or at + length > len(use) or use[at + 3] != 1:
                    self._break(f"{whose}: a bad system use entry {use[at : at + 4]!r}")
                    return
                kind, body = use[at : at + 2], use[at + 4 : at + length]
                if kind == b"CE":
                    where = [self._both32(body, offset, f"{whose}: CE") for offset in (0, 8, 16)]
                    following = (where[0], where[1], where[2])
                yield kind, body
                at += length
            if any(use[at:]):
                self._break(f"{whose}: bytes behind the last system use entry")
            if following is None:
                return
            block, offset, length = following
            if offset + length > BLOCK or block >= self.blocks:
                self._break(f"{whose}: a continuation leaves its block or the volume")
                return
            self.extents.append((block, 0, f"{whose}: continuation"))
            use = self._read(block * BLOCK + offset, length)

    def _check_sp_er(self, dot: _Record) -> None:
        kinds = [(kind, body) for kind, body in self._uses(dot.use, "root")]
        if not kinds or kinds[0] != (b"SP", b"\xbe\xef\x00"):
            self._break("SP is not the first entry of the root's own record")
        names = [body[4 : 4 + body[0]] for kind, body in kinds if kind == b"ER"]
        if not set(names) & {b"RRIP_1991A", b"IEEE_P1282", b"IEEE_1282"}:
            self._break("no ER that names Rock Ridge")

    def _entry(self, record: _Record, parent: bytes) -> Entry:
        whose = (parent + b"/" + record.identifier).decode("utf-8", "backslashreplace")
        entry = Entry(b"", block=record.block, identifier=record.identifier)
        links: list[bytes] = []
        name, more, cont = b"", False, True
        uses = list(self._uses(record.use, whose))
        for kind, body in uses:
            entry.entries.add(kind)
            match kind:
                case b"PX":
                    mode, entry.links, entry.uid, entry.gid = (
                        self._both32(body, at, f"{whose}: PX") for at in (0, 8, 16, 24)
                    )
                    entry.kind, entry.mode = KINDS.get(stat.S_IFMT(mode), "?"), mode & 0o7777
                case b"TF":
                    entry.mtime_s = self._modified(body, whose)
                case b"NM":
                    name, more = name + body[1:], bool(body[0] & 1)
                case b"PN":
                    entry.device = (
                        self._both32(body, 0, f"{whose}: PN"),
                        self._both32(body, 8, f"{whose}: PN"),
                    )
                case b"SL":
                    cont = _components(body[1:], links, cont)
                case _:
                    pass
        if more:
            self._break(f"{whose}: a name that does not end")
        entry.name, entry.target = name, b"".join(links)
        self._check_uses(uses, whose)
        self._check_entry(entry, record, whose)
        if not {b"PX", b"TF"} <= entry.entries:
            self._break(f"{whose}: PX or TF is missing")
        if record.directory != (entry.kind == "dir"):
            self._break(f"{whose}: flag and PX disagree")
        entry.size = record.size if entry.kind == "file" else 0
        return entry

    def _check_uses(self, uses: list[tuple[bytes, bytes]], whose: str) -> None:
        """Hold the flags of system use entries against what the kernels know."""
        there = sum(RR_FLAGS.get(kind, 0) for kind in {kind for kind, _ in uses})
        for kind, body in uses:
            if kind == b"RR" and body[0] != there:
                self._break(f"{whose}: RR indicates {body[0]:#x}, there is {there:#x}")
            if kind == b"NM" and body[0] & ~1:
                self._break(f"{whose}: a name with flags {body[0]}")
            if kind == b"SL" and not _component_flags(body[1:]) <= {0, 1, 2, 4, 8}:
                self._break(f"{whose}: a symlink component of a volume or a host")

    def _check_entry(self, entry: Entry, record: _Record, whose: str) -> None:
        """Hold what an entry says against what the kernels can do with it."""
        is_named = record.identifier not in {b"\0", b"\1"}
        is_device = entry.kind in {"char", "block"}
        for rule, is_so in {
            "an entry that no kernel wants": bool(entry.entries - UNDERSTOOD),
            "flags of several extents, or others": bool(record.raw[25] & ~2),
            "of no known type": entry.kind == "?",
            f"{entry.links} links": not 0 < entry.links < 32_768,
            f"a name of {len(entry.name)} bytes": is_named and not 0 < len(entry.name) <= 255,
            "a name with a slash or a zero byte": b"/" in entry.name or b"\0" in entry.name,
            "a symlink target that reads as nothing, or is too long": entry.kind == "link"
            and not 0 < len(entry.target) <= 1023,
            "device numbers missing, or not of a device": is_device is not (b"PN" in entry.entries),
            "data that is not of a file or a directory": bool(record.size)
            and entry.kind not in {"file", "dir"},
        }.items():
            if is_so:
                self._break(f"{whose}: {rule}")

    def _modified(self, body: bytes, whose: str) -> int:
        if body[0] & 0x80:
            self._break(f"{whose}: 17-byte times")
            return 0
        if not body[0] & 2:
            self._break(f"{whose}: no time of modification: it would be 0")
            return 0
        seconds = _seconds(body[1 + 7 * (body[0] & 1) :])
        if not 0 <= seconds < 2**31:
            self._break(f"{whose}: a time that kernels wrap")
        return seconds

    def walk(self) -> Iterator[Entry]:
        """Yield every entry, the root first; directories know nothing of depth here."""
        todo = [(b"", self.root, self.root)]
        blocks: list[int] = []
        while todo:
            path, record, above = todo.pop()
            blocks.append(record.block)
            yield from self._directory(path, record, above, todo)
        self._check_path_tables(sorted(blocks))

    def _check_path_tables(self, blocks: list[int]) -> None:
        rows = self.path_table(big=False)
        if rows != self.path_table(big=True):
            self._break("the two path tables differ")
        if sorted(row[1] for row in rows) not in (blocks, [self.root.block]):
            self._break("the path tables list other directories than there are")
        if any(parent > number for number, (*_, parent) in enumerate(rows, start=1)):
            self._break("a path table names a parent behind its child")

    def _directory(
        self,
        path: bytes,
        record: _Record,
        above: _Record,
        todo: list[tuple[bytes, _Record, _Record]],
    ) -> Iterator[Entry]:
        whose = path.decode("utf-8", "backslashreplace") or "/"
        self._use_extent(record.block, record.size // BLOCK, whose)
        records = list(self._records(record.block, record.size, whose))
        if [one.identifier for one in records[:2]] != [b"\0", b"\1"]:
            self._break(f"{whose}: does not begin with itself and its parent")
        for one, other in zip(records[:2], (record, above), strict=False):
            if (one.block, one.size) != (other.block, other.size):
                self._break(f"{whose}: {one.identifier!r} points elsewhere")
        if path == b"" and records:
            self._check_sp_er(records[0])
            root = self._entry(records[0], path)
            root.path = b""
            yield root
        keys = [_sort_key(one.identifier) for one in records[2:]]
        if keys != sorted(keys) or len(keys) != len(set(keys)):
            self._break(f"{whose}: identifiers are not in order, or not unique")
        names: set[bytes] = set()
        for one in records[2:]:
            entry = self._entry(one, path)
            if entry.name in names:
                self._break(f"{whose}: a name twice")
            names.add(entry.name)
            entry.path = path + b"/" + entry.name
            if entry.kind == "file" and entry.size:
                self._use_extent(one.block, -(-entry.size // BLOCK), "a file")
            if one.directory:
                todo.append((entry.path, one, record))
            yield entry

    def dotdot(self, record_block: int, size: int) -> Entry:
        """Return what the second record of a directory says of its parent."""
        return self._entry(list(self._records(record_block, size, ".."))[1], b"")

    def content(self, entry: Entry) -> bytes:
        return self._read(entry.block * BLOCK, entry.size)

    def path_table(self, big: bool) -> list[tuple[bytes, int, int]]:
        """Return identifier, first block and parent number of each row."""
        size = self._both32(self.primary, 132, "path table size")
        order, where = (">", 148) if big else ("<", 140)
        block = struct.unpack_from(f"{order}I", self.primary, where)[0]
        self._use_extent(block, -(-size // BLOCK), f"path table {order}")
        data, at, rows = self._read(block * BLOCK, size), 0, []
        first: int
        parent: int
        while at < size:
            length, _, first, parent = struct.unpack_from(f"{order}BBIH", data, at)
            rows.append((data[at + 8 : at + 8 + length], first, parent))
            at += 8 + length + length % 2
        return rows

    def overlaps(self) -> list[str]:
        """Name extents that overlap; names of one hard-linked file share theirs."""
        found, end, owner = [], 0, ""
        for block, blocks, whose in sorted(set(self.extents)):
            if block < end and blocks:
                found.append(f"{block}: {whose} and {owner} overlap")
            end, owner = max(end, block + blocks), whose
        return found


def _seconds(times: bytes) -> int:
    year, month, day, hour, minute, second = times[:6]
    zone = int.from_bytes(times[6:7], signed=True)
    moment = (year + 1900, month, day, hour, minute, second)
    return calendar.timegm(moment) - zone * 900


def _components(body: bytes, out: list[bytes], cont: bool) -> bool:
    """cd9660_rrip_slink(): join components with a slash unless the last one goes on."""
    at = 0
    while at < len(body):
        flags, length = body[at], body[at + 1]
        text = body[at + 2 : at + 2 + length]
        at += 2 + length
        if not cont:
            out.append(b"/")
        cont = flags == 1
        out.append({2: b".", 4: b"..", 8: b""}.get(flags, text))
    return cont


def _component_flags(body: bytes) -> set[int]:
    at, found = 0, set[int]()
    while at < len(body):
        found.add(body[at])
        at += 2 + body[at + 1]
    return found


def _sort_key(identifier: bytes) -> tuple[bytes, bytes]:
    name, _, extension = identifier.partition(b";")[0].partition(b".")
    return name.ljust(30), extension.ljust(30)
