"""System use entries of a directory record, read back (SUSP 1.12, RRIP 1.09). Pure.

Nothing is believed before it is checked: a length that leaves its area, two byte orders that
differ or a number that cannot be end in a ValueError that says so.
"""

import struct
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

_BOTH = struct.Struct("<I")
_BOTH_BIG = struct.Struct(">4xI")
_PX = struct.Struct("<I4xI4xI4xI4x")
_PX_BIG = struct.Struct(">4xI4xI4xI4xI")
_CE = struct.Struct("<I4xI4xI4x")
_CE_BIG = struct.Struct(">4xI4xI4xI")
_PN = struct.Struct("<I4xI4x")
_PN_BIG = struct.Struct(">4xI4xI")

# What our writer begins every record with, and in this order: RR, PX of 44 bytes, TF of 12.
_USUAL_RR, _USUAL_PX_HEAD, _USUAL_TF = slice(0, 4), slice(5, 9), slice(49, 54)
_USUAL_PX, _USUAL_DATE, _USUAL_BYTES = slice(9, 41), slice(54, 61), 61

_CONTINUES = 1
_SPECIAL = {2: b".", 4: b"..", 8: b""}
_MODIFY = 2
_LONG_FORM = 128


@dataclass(slots=True)
class Attributes:
    """What the entries of one record say; `rest` is where they go on: block, offset, length."""

    mode: int = -1  # with the type; -1: no PX
    links: int = 0
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    name: bytes = b""
    name_goes_on: bool = False
    text: bytes | None = None  # of a symlink, so far
    device: tuple[int, int] = (0, 0)
    skip: int | None = None  # of SP
    relocated: bool = False
    rest: tuple[int, int, int] | None = None
    text_goes_on: bool = False  # its last component goes on in the next

    @property
    def target(self) -> bytes:
        """The text of a symlink; `/` alone is written as `/.` (docs/formats/iso9660.md)."""
        return b"/" if self.text == b"/." else self.text or b""


def read(area: bytes, found: Attributes) -> None:
    """Read the entries of one area; raises ValueError."""
    found.rest = None
    at, end = _usual(area, found), len(area)
    while at + 4 <= end and area[at]:
        kind, length = area[at : at + 2], area[at + 2]
        if length < 4 or at + length > end:
            raise ValueError(f"an entry {kind!r} of {length} bytes where {end - at} are left")
        if kind == b"ST":
            return
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(found, area[at + 4 : at + length])
        at += length


def _usual(area: bytes, found: Attributes) -> int:
    """Read the entries that nearly all records begin with; return where the others do."""
    if (
        area[_USUAL_TF] != b"TF\x0c\x01\x02"
        or area[_USUAL_PX_HEAD] != b"PX\x2c\x01"
        or area[_USUAL_RR] != b"RR\x05\x01"
        or len(area) < _USUAL_BYTES
    ):
        return 0
    found.mode, found.links, found.uid, found.gid = _stat(area[_USUAL_PX])
    found.mtime_s = seconds(area[_USUAL_DATE])
    return _USUAL_BYTES


def both(data: bytes, what: str) -> int:
    """Read a number that stands in both byte orders."""
    (little,), (big,) = _BOTH.unpack_from(data), _BOTH_BIG.unpack_from(data)
    if little != big:
        raise ValueError(f"{what} is {little} in one byte order and {big} in the other")
    return int(little)


def _numbers(little: struct.Struct, big: struct.Struct, body: bytes, kind: str) -> tuple[int, ...]:
    if len(body) < little.size:
        raise ValueError(f"an entry {kind} of {len(body)} bytes")
    numbers = little.unpack_from(body)
    if numbers != big.unpack_from(body):
        raise ValueError(f"the two byte orders of {kind} differ")
    return numbers


def _px(found: Attributes, body: bytes) -> None:
    found.mode, found.links, found.uid, found.gid = _numbers(_PX, _PX_BIG, body, "PX")


@lru_cache(maxsize=65_536)
def _stat(body: bytes) -> tuple[int, int, int, int]:
    """Read mode, links and owners: few records differ in them."""
    mode, links, uid, gid = _numbers(_PX, _PX_BIG, body, "PX")
    return mode, links, uid, gid


def _tf(found: Attributes, body: bytes) -> None:
    flags = body[0] if body else 0
    if not flags & _MODIFY:
        return
    if flags & _LONG_FORM:
        raise ValueError("times in the long form")
    at = 1 + 7 * (flags & 1)
    found.mtime_s = seconds(body[at : at + 7])


def _nm(found: Attributes, body: bytes) -> None:
    if not body:
        raise ValueError("a name without flags")
    found.name += body[1:]
    found.name_goes_on = bool(body[0] & _CONTINUES)


def _sl(found: Attributes, body: bytes) -> None:
    at = 1
    while at < len(body):
        if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
            raise ValueError("a component of a symlink leaves its entry")
        flags, length = body[at], body[at + 1]
        if flags & ~_CONTINUES and flags not in _SPECIAL:
            raise ValueError(f"a component of a symlink with flags {flags}")
        joint = b"" if found.text is None or found.text_goes_on else b"/"
        component = _SPECIAL.get(flags, body[at + 2 : at + 2 + length])
        found.text = (found.text or b"") + joint + component
        found.text_goes_on = bool(flags & _CONTINUES)
        at += 2 + length


def _pn(found: Attributes, body: bytes) -> None:
    major, minor = _numbers(_PN, _PN_BIG, body, "PN")
    found.device = (major, minor)


def _ce(found: Attributes, body: bytes) -> None:
    block, offset, length = _numbers(_CE, _CE_BIG, body, "CE")
    found.rest = (block, offset, length)


def _sp(found: Attributes, body: bytes) -> None:
    if body[:2] != b"\xbe\xef" or len(body) < 3:
        raise ValueError("SP without its check bytes")
    found.skip = body[2]


def _moved(found: Attributes, _body: bytes) -> None:
    found.relocated = True


_HANDLERS: dict[bytes, Callable[[Attributes, bytes], None]] = {
    b"PX": _px,
    b"TF": _tf,
    b"NM": _nm,
    b"SL": _sl,
    b"PN": _pn,
    b"CE": _ce,
    b"SP": _sp,
    b"CL": _moved,
    b"RE": _moved,
}


@lru_cache(maxsize=65_536)
def seconds(date: bytes) -> int:
    """Read a date of seven bytes (ECMA-119, 9.1.5) as seconds since 1970."""
    if len(date) != 7:
        raise ValueError("a time that is cut")
    year, month, day, hour, minute, second = date[:6]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 62):
        raise ValueError(f"a time that cannot be: {date.hex()}")
    zone = int.from_bytes(date[6:], signed=True)
    return timegm((1900 + year, month, day, hour, minute, second)) - zone * 15 * 60
