"""System use entries: what ISO 9660 has no field for (SUSP 1.12; RRIP 1.09, "RRIP_1991A").

| entry | bytes | holds |
|---|---|---|
| SP | 7 | "SUSP is in use": first in the root's own record |
| CE | 28 | where the entries go on: block, offset in it, length |
| ER | 237 | which extension is used: in the continuation of the root's own record |
| RR | 5 | which of the entries below are there |
| PX | 44 | mode with the type, links, owner, group, serial number |
| TF | 12 | the time of modification; the others follow it |
| NM | 5 + n | the name; a long one goes on in a second NM |
| PN | 20 | major and minor number of a device |
| SL | 5 + n | the target of a symlink in components; a long one goes on in further SL |
"""

import stat
import struct
import time
from collections.abc import Sequence
from functools import lru_cache

from builder.tree import TYPE_BITS, Kind, Node

BLOCK_BYTES = 2048
CE_BYTES = 28
MAX_ENTRY = 255
MAX_TIME = 2**31 - 1
MAX_NM_TEXT = MAX_ENTRY - 5
MAX_SL_TEXT = MAX_ENTRY - 5

RR_PX, RR_PN, RR_SL, RR_NM, RR_TF = 0x01, 0x02, 0x04, 0x08, 0x80
CONTINUES = 0x01
SL_CURRENT, SL_PARENT, SL_ROOT = 0x02, 0x04, 0x08
TF_MODIFY = 0x02

SP = b"SP\x07\x01\xbe\xef\x00"
_ER_ID = b"RRIP_1991A"
_ER_DESCRIPTION = (
    b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
)
_ER_SOURCE = (
    b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN "
    b"PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION."
)
ER = (
    bytes((*b"ER", 8 + len(_ER_ID + _ER_DESCRIPTION + _ER_SOURCE), 1))
    + bytes((len(_ER_ID), len(_ER_DESCRIPTION), len(_ER_SOURCE), 1))
    + _ER_ID
    + _ER_DESCRIPTION
    + _ER_SOURCE
)

RR_BYTES = 5
ATTRIBUTES_BYTES = RR_BYTES + 44 + 12
"""RR, PX and TF: what every record has but that of a parent."""

OWN_ENTRIES_OFFSET = 34
"""Where the entries of a directory's own record begin in its table."""

PARENT_BYTES = RR_BYTES + CE_BYTES
"""RR and CE: what the record of a parent has."""


_little, _big = struct.Struct("<I").pack, struct.Struct(">I").pack


def both32(value: int) -> bytes:
    """Return a number in both byte orders (ECMA-119, 7.3.3)."""
    return _little(value) + _big(value)


@lru_cache(maxsize=65_536)
def short_time(seconds: int) -> bytes:
    """Return a time as seven bytes (ECMA-119, 9.1.5), held within what kernels can show."""
    at = time.gmtime(min(max(seconds, 0), MAX_TIME))
    return bytes((at.tm_year - 1900, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec, 0))


def ce(block: int, offset: int, length: int) -> bytes:
    """Return the entry that points to where the entries go on."""
    return b"CE\x1c\x01" + both32(block) + both32(offset) + both32(length)


@lru_cache(maxsize=65_536)
def _rr_px(further: int, mode: int, links: int, uid: int, gid: int) -> bytes:
    """Return RR, and PX up to the serial number: few differ from one another."""
    rr = bytes((*b"RR\x05\x01", RR_PX | RR_TF | further))
    return rr + b"PX\x2c\x01" + both32(mode) + both32(links) + both32(uid) + both32(gid)


def kind_bits(kind: Kind) -> int:
    """Return the bits of a mode that tell the type."""
    return stat.S_IFREG if kind is Kind.FILE else TYPE_BITS[kind]  # hashing a member takes long


_TF = bytes((*b"TF\x0c\x01", TF_MODIFY))


def attributes(node: Node, further: int, serial: int = 0) -> bytes:
    """Return RR, PX and TF of a node that has `further` entries (RR_ flags) besides."""
    mode = kind_bits(node.kind) | node.mode
    return (
        _rr_px(further, mode, node.links, node.uid, node.gid)
        + _little(serial)
        + _big(serial)
        + _TF
        + short_time(node.mtime_s)
    )


def of_parent(block: int, *, is_root: bool) -> bytes:
    """Return the entries of the record of a parent whose table begins at `block`.

    They go on in the parent's own record, behind its RR: so they are always its true ones, and
    what changes of a directory changes no table of those in it. RR stands here for cd9660, which
    then reads no other block for a name.
    """
    flags = bytes((*b"RR\x05\x01", RR_PX | RR_TF))
    offset = OWN_ENTRIES_OFFSET + (len(SP) if is_root else 0) + RR_BYTES
    return flags + ce(block, offset, ATTRIBUTES_BYTES - RR_BYTES)


def entries(node: Node, name: bytes, serial: int = 0) -> list[bytes]:
    """Return all entries of a node that is recorded under this name."""
    match node.kind:
        case Kind.DIRECTORY | Kind.FILE | Kind.FIFO:
            return [attributes(node, RR_NM, serial), *nm(name)]
        case Kind.SYMLINK:
            return [attributes(node, RR_NM | RR_SL, serial), *nm(name), *sl(node.target)]
        case Kind.CHARACTER | Kind.BLOCK:
            return [attributes(node, RR_NM | RR_PN, serial), *nm(name), pn(node.major, node.minor)]


def nm(name: bytes) -> list[bytes]:
    """Return the name in as many entries as it needs."""
    if 0 < len(name) <= MAX_NM_TEXT:
        return [b"NM%c\1\0%b" % (5 + len(name), name)]
    parts = [name[at : at + MAX_NM_TEXT] for at in range(0, len(name), MAX_NM_TEXT)]
    return [
        bytes((*b"NM", 5 + len(part), 1, CONTINUES if number < len(parts) else 0)) + part
        for number, part in enumerate(parts, start=1)
    ]


def pn(major: int, minor: int) -> bytes:
    """Return the numbers of a device."""
    return b"PN\x14\x01" + both32(major) + both32(minor)


def sl(target: bytes) -> list[bytes]:
    """Return the target of a symlink in as many entries as it needs.

    Readers join components with "/", so doubled and trailing slashes are empty components. Two
    things cannot be said: "/" alone, which reads as empty and is written "/.", and a component
    that goes on in the next entry is marked so.
    """
    areas, area = [], bytearray()
    for flags, text in _components(target):
        rest = text
        while True:
            room = MAX_SL_TEXT - len(area) - 2
            if room < min(len(rest), 1):
                areas.append(bytes(area))
                area.clear()
                continue
            part, rest = rest[:room], rest[room:]
            area += bytes((flags | (CONTINUES if rest else 0), len(part))) + part
            if not rest:
                break
    areas.append(bytes(area))
    return [
        bytes((*b"SL", 5 + len(one), 1, CONTINUES if number < len(areas) else 0)) + one
        for number, one in enumerate(areas, start=1)
    ]


def _components(target: bytes) -> list[tuple[int, bytes]]:
    special = {b".": (SL_CURRENT, b""), b"..": (SL_PARENT, b"")}
    if target == b"/":
        return [(SL_ROOT, b""), (SL_CURRENT, b"")]
    parts = target.split(b"/")
    components = [special.get(part, (0, part)) for part in parts]
    if target.startswith(b"/"):
        components[0] = (SL_ROOT, b"")
    return components


def split(all_entries: Sequence[bytes], room: int) -> list[bytes]:
    """Divide entries between a record with `room` for them and continuation areas.

    Every part but the last leaves room for the CE that leads to the next. No part is larger than
    a block, which a continuation area may not leave.
    """
    if sum(map(len, all_entries)) <= room:
        return [b"".join(all_entries)]
    parts, part, limit = [], bytearray(), room
    for position, entry in enumerate(all_entries):
        left = sum(map(len, all_entries[position:]))
        if len(part) + left > limit and len(part) + len(entry) + CE_BYTES > limit:
            parts.append(bytes(part))
            part.clear()
            limit = BLOCK_BYTES
        part += entry
    return [*parts, bytes(part)]


def part_sizes(parts: Sequence[bytes]) -> list[int]:
    """Return how long each part is together with the CE that leads to the next."""
    last = len(parts) - 1
    return [len(part) + (CE_BYTES if at < last else 0) for at, part in enumerate(parts)]


def fit(offset: int, length: int) -> int:
    """Return where a thing of this length goes, at or after `offset`, within one block."""
    used = offset % BLOCK_BYTES
    return offset if used + length <= BLOCK_BYTES else offset + BLOCK_BYTES - used


def next_block(offset: int) -> int:
    """Return where the next block begins, or this one if nothing is in it."""
    return offset + -offset % BLOCK_BYTES
