"""mtree(5) specifications: the description of a tree beside its image, and owners for a build.

Written: one line per entry in tree order, `./path keyword=value …`, names and targets escaped as
vis(3) does in octal. Keywords: type mode uid gid size time nlink sha256digest link device inode
(`inode` is a number that the names of one hard-linked file share; only they have it). A device is
`device=native,MAJOR,MINOR`, as FreeBSD's and NetBSD's mtree and libarchive read it.

Read: that, FreeBSD's METALOG of `make installworld -DNO_ROOT`, and what `mtree -c` prints, with
/set, /unset and directories that are left by `..`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from builder.names import shown
from builder.normalise import Override
from builder.tree import SHA256_BYTES, Digests, Kind, Node, Tree
from slots.errors import ConfigError

_Value = TypeVar("_Value")

USERS, GROUPS = {"root": 0}, {"root": 0, "wheel": 0}
"""Names that every chroot means alike, whether its own files say so or not."""

_TELLING = frozenset(
    [
        "type",
        "mode",
        "uid",
        "gid",
        "uname",
        "gname",
        "time",
        "link",
        "device",
        "inode",
        "optional",
        "nochange",
    ]
)
"""Keywords that change something of an entry."""

_LINES_AT_ONCE = 4096

_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!$%&()+,-./:;<>@^_`{|}~'\""
)
_PLAIN_BYTES = bytes(sorted(_PLAIN))
_ESCAPE = re.compile(rb"\\([0-7]{3}|M\^.|M-.|\^.|.)", re.DOTALL)
_SPACES = re.compile(r"[ \t]+")
"""What stands between words; str.split() would also divide names at blanks of other scripts."""
_METALOG = re.compile(r"#\S*mtree 2\.0\s*\n")
_NAMED = {b"n": b"\n", b"t": b"\t", b"s": b" ", b"r": b"\r", b"a": b"\a", b"b": b"\b",
          b"v": b"\v", b"f": b"\f", b"0": b"\0", b"E": b"\x1b"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """One entry as a specification describes it."""

    path: bytes
    keywords: Mapping[str, str]

    @property
    def sha256(self) -> str | None:
        """The digest of a file's content."""
        return self.keywords.get("sha256digest", self.keywords.get("sha256"))


def to_lines(tree: Tree, digests: Mapping[bytes, str]) -> Iterator[str]:
    """Write a specification. `digests` holds the SHA-256 of files by their path."""
    return _lines(tree, (digests.get(node.path, "") for node in tree))


def write(tree: Tree, digests: Digests, path: Path) -> str:
    """Write a specification to a file, and return its digest: the text is nowhere in memory."""
    sha256, packed = hashlib.sha256(), digests.packed.hex()
    width = 2 * SHA256_BYTES
    hexes = (packed[at : at + width] for at in range(0, len(packed), width))
    with path.open("wb") as file:
        lines = _lines(tree, hexes)
        while some := "".join(islice(lines, _LINES_AT_ONCE)).encode():
            sha256.update(some)
            file.write(some)
    return sha256.hexdigest()


def _lines(tree: Tree, digests: Iterable[str]) -> Iterator[str]:
    yield "#mtree\n"
    for node, digest in zip(tree, digests, strict=True):
        yield f"{escaped(b'.' + node.path)} {words(node, digest)}\n"


def described(tree: Tree, digests: Mapping[bytes, str]) -> dict[bytes, dict[str, str]]:
    """Describe a tree as a specification does, without its text."""
    return {node.path: dict(keywords(node, digests.get(node.path, ""))) for node in tree}


def with_first_names(entries: Mapping[bytes, Mapping[str, str]]) -> dict[bytes, dict[str, str]]:
    """Say of hard-linked names which name is their first, instead of a number.

    Names without content of their own are left apart: ISO 9660 cannot tell that they are one.
    """
    firsts: dict[str, str] = {}
    told: dict[bytes, dict[str, str]] = {}
    for name, keywords in entries.items():
        told[name] = dict(keywords)
        number = told[name].pop("inode", None)
        if number is not None and int(keywords.get("size", "0")):
            told[name]["inode"] = firsts.setdefault(number, shown(name))
    return told


def keywords(node: Node, digest: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keywords of an entry, as a specification has them."""
    for word in words(node, digest).split(" "):
        name, _, value = word.partition("=")
        yield name, value


def words(node: Node, digest: str = "") -> str:
    """Write the keywords of an entry; no value holds a space. `digest` is that of a file."""
    size = further = ""
    match node.kind:
        case Kind.FILE:
            size = f" size={node.size}"
            further = f" sha256digest={digest}" if digest else ""
        case Kind.SYMLINK:
            further = f" link={escaped(node.target)}"
        case Kind.CHARACTER | Kind.BLOCK:
            further = f" device=native,{node.major},{node.minor}"
        case Kind.DIRECTORY | Kind.FIFO:
            pass
    inode = "" if node.group is None else f" inode={node.group + 1}"
    return (
        f"type={node.kind.value} mode={node.mode:04o} uid={node.uid} gid={node.gid}{size}"
        f" time={node.mtime_s}.0 nlink={node.links}{further}{inode}"
    )


def escaped(raw: bytes) -> str:
    """Write bytes as one word of a specification."""
    if not raw.translate(None, _PLAIN_BYTES):  # nearly all
        return raw.decode("ascii")
    return "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in raw)


def unescaped(word: str) -> bytes:
    """Read one word of a specification."""
    raw = word.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescape, raw)


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found.group(1)
    if code.isdigit() and len(code) == 3:
        return bytes([int(code, 8) & 0xFF])
    if len(code) == 1:
        return _NAMED.get(code, code)
    high = 0x80 if code.startswith(b"M") else 0
    return bytes([high | (code[-1] if code[-2:-1] == b"-" else _control(code[-1]))])


def _control(letter: int) -> int:
    """Return the byte that vis(3) writes as `^` and a letter."""
    return 0x7F if letter == ord("?") else letter & 0x1F


def parse(lines: Iterable[str], where: str) -> list[Described]:
    """Read a specification; a line that is none is an error that names it."""
    entries: list[Described] = []
    defaults: dict[str, str] = {}
    here: list[bytes] = []
    for number, line in _joined(lines):
        words = line.split() if line.isascii() else _SPACES.split(line.strip(" \t"))
        if not words or words[0].startswith("#"):
            continue
        match words[0]:
            case "/set":
                defaults |= _pairs(words[1:])
            case "/unset":
                for name in words[1:]:
                    defaults.pop(name, None)
            case "..":
                if not here:
                    raise ConfigError(f"{where}, line {number}: .. leaves the root")
                here.pop()
            case name if name.startswith("/"):
                raise ConfigError(f"{where}, line {number}: {name} is not known")
            case name:
                keywords = defaults | _pairs(words[1:])
                path = _path(name, here, f"{where}, line {number}")
                entries.append(Described(path, keywords))
                if "/" not in name and keywords.get("type") == "dir":
                    here.append(path.rpartition(b"/")[2])
    return entries


def _joined(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    r"""Yield lines with their number, a `\` at the end joined to the next."""
    held, first = "", 0
    for number, line in enumerate(lines, start=1):
        first = first or number
        text = held + line.rstrip("\n")
        if text.endswith("\\") and not text.endswith("\\\\"):
            held = text[:-1] + " "
            continue
        yield first, text
        held, first = "", 0
    if held:
        yield first, held


def _pairs(words: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _path(word: str, here: list[bytes], where: str) -> bytes:
    """Return where an entry lies: from the root if it has a `/`, else in the directory around."""
    raw = unescaped(word)
    if "/" in word:
        parts = [part for part in raw.split(b"/") if part and part != b"."]
    else:
        parts = [part for part in [*here, raw] if part not in {b"", b"."}]
    if any(part == b".." or b"/" in part for part in parts):
        raise ConfigError(f"{where}: {word} leaves the root")
    return b"".join(b"/" + part for part in parts)


def check_tells(entries: Iterable[Described], where: str) -> None:
    """Refuse a file that tells nothing of any entry: any text parses, as names without keywords."""
    if not any(_TELLING & entry.keywords.keys() for entry in entries):
        raise ConfigError(
            f"{where} is no mtree specification: it tells owner, mode, time or type of no entry",
            hint="give a METALOG, what `mtree -c` prints, or the tree.mtree of a release",
        )


def is_metalog(text: str) -> bool:
    """Tell whether a specification is one that FreeBSD's `make` wrote for makefs(8)."""
    return _METALOG.match(text) is not None


def overrides(
    entries: Iterable[Described],
    where: str,
    uids: Mapping[str, int],
    gids: Mapping[str, int],
    *,
    root_is_assumed: bool = False,
) -> dict[bytes, Override]:
    """Return what a specification changes of a tree; names of owners are those of the chroot.

    Of an entry that is told several times, later keywords win. Sockets are in no image.
    `root_is_assumed`: what has no owner is root's, as makefs(8) takes it; install(1) logs none for
    symlinks and for hard links.
    """
    told: dict[bytes, Described] = {}
    for entry in entries:
        before = told.get(entry.path)
        if before is not None and before.keywords.get("type") == entry.keywords.get("type"):
            entry = replace(entry, keywords={**before.keywords, **entry.keywords})  # noqa: PLW2901
        told[entry.path] = entry
    found = {
        path: _override(entry, where, uids, gids)
        for path, entry in told.items()
        if entry.keywords.get("type") != "socket"
    }
    if root_is_assumed:
        for path, one in found.items():
            if one.uid is None and one.gid is None:
                found[path] = replace(one, uid=0, gid=0, owner_is_assumed=True)
    return found


def _override(
    entry: Described, where: str, uids: Mapping[str, int], gids: Mapping[str, int]
) -> Override:
    words = entry.keywords
    place = f"{where}: {shown(entry.path)}"

    def read(name: str, convert: Callable[[str], _Value]) -> _Value | None:
        if name not in words:
            return None
        try:
            return convert(words[name])
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{place}: {name}={words[name]} is not understood") from error

    kind = read("type", Kind)
    uid, gid = read("uid", int), read("gid", int)
    return Override(
        kind=kind,
        mode=read("mode", lambda text: int(text, 8) & 0o7777),
        uid=read("uname", uids.__getitem__) if uid is None else uid,
        gid=read("gname", gids.__getitem__) if gid is None else gid,
        mtime_s=read("time", lambda text: int(text.partition(".")[0])),
        target=read("link", unescaped) if kind is Kind.SYMLINK else None,
        device=read("device", _device),
        inode=read("inode", int),
        is_optional="optional" in words or "nochange" in words,
    )


def _device(text: str) -> tuple[int, int]:
    """Read `format,major,minor`, or FreeBSD's single number (14.x: dev_t of 64 bits)."""
    match text.split(","):
        case [_, major, minor]:
            return int(major, 0), int(minor, 0)
        case [number]:
            value = int(number, 0)
            return (
                (value >> 32) & 0xFFFFFF00 | (value >> 8) & 0xFF,
                (value >> 24) & 0xFF00 | value & 0xFFFF00FF,
            )
        case _:
            raise ValueError(text)


def owners_of(passwd: str, column: int = 2) -> dict[str, int]:
    """Return the numbers of the names in a passwd or group file."""
    fields = (line.split(":") for line in passwd.splitlines() if not line.startswith("#"))
    return {
        one[0]: int(one[column]) for one in fields if len(one) > column and one[column].isdigit()
    }
