"""What differs between two trees, and what of an image would travel. Pure.

An entry is described by the keywords of mtree(5), as a release's tree.mtree holds them; an entry
read out of an image lacks the digest of its content until somebody asks for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from builder.tree import order_key
from slots.index import Index
from slots.patch import Patch

Keywords = Mapping[str, str]
Entries = Mapping[bytes, Keywords]
Digests = Callable[[Sequence[bytes]], Mapping[bytes, str]]
"""Returns the digests of the content of these files."""

CHANGES: Mapping[str, str] = {
    "type": "type",
    "sha256digest": "content",
    "size": "size",
    "mode": "mode",
    "uid": "owner",
    "gid": "group",
    "time": "time",
    "link": "target",
    "device": "device",
    "nlink": "links",
    "inode": "links",
}
"""Which keyword tells which change."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An entry of both trees that differs: for each change what it was and what it is."""

    path: bytes
    changes: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """How two trees differ, each list in tree order."""

    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    changed: tuple[Changed, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the trees are equal."""
        return not (self.added or self.removed or self.changed)


def diff(
    old: Entries,
    new: Entries,
    old_digests: Digests,
    new_digests: Digests,
    equal: AbstractSet[bytes] = frozenset(),
) -> Difference:
    """Compare two trees; contents are asked for only where nothing else tells them apart.

    `equal` are files whose contents are known to be the same.
    """
    here = [path for path in new if path in old]
    asked = [
        path for path in here if path not in equal and _may_differ_in_content(old[path], new[path])
    ]
    lacking = [path for path in asked if "sha256digest" not in old[path]]
    found_old = old_digests(lacking) if lacking else {}
    lacking = [path for path in asked if "sha256digest" not in new[path]]
    found_new = new_digests(lacking) if lacking else {}
    changed = (
        Changed(
            path,
            _changes(
                _with_digest(old[path], found_old.get(path)),
                _with_digest(new[path], found_new.get(path)),
            ),
        )
        for path in here
        if old[path] != new[path] or path in found_old or path in found_new
    )
    return Difference(
        _sorted(path for path in new if path not in old),
        _sorted(path for path in old if path not in new),
        tuple(sorted((one for one in changed if one.changes), key=lambda one: order_key(one.path))),
    )


def _sorted(paths: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(paths, key=order_key))


def _may_differ_in_content(old: Keywords, new: Keywords) -> bool:
    """Whether only the content itself can tell: two files of one size without both digests."""
    if old["type"] != "file" or new["type"] != "file" or old["size"] != new["size"]:
        return False
    return "sha256digest" not in old or "sha256digest" not in new


def _with_digest(keywords: Keywords, digest: str | None) -> Keywords:
    return keywords if digest is None else {**keywords, "sha256digest": digest}


def _changes(old: Keywords, new: Keywords) -> dict[str, tuple[str, str]]:
    """Return the changes of an entry; another size is another content, whatever the digests."""
    changes = {
        name: (old.get(keyword, ""), new.get(keyword, ""))
        for keyword, name in CHANGES.items()
        if old.get(keyword) != new.get(keyword)
        and (keyword != "sha256digest" or (keyword in old and keyword in new))
    }
    if "size" in changes and "type" not in changes and "content" not in changes:
        changes["content"] = (old.get("sha256digest", ""), new.get("sha256digest", ""))
    if "type" in changes:
        kept = ("type", "mode", "owner", "group", "time")
        changes = {name: pair for name, pair in changes.items() if name in kept}
    return changes


@dataclass(frozen=True, slots=True)
class Travel:
    """What of a new image a holder of the old one lacks, and what a pack makes of that."""

    new_pieces: int
    piece_bytes: int  # of them, each once
    table_bytes: int  # the table of contents as gzip packs it; 0 where there is none
    moves: int
    copies: int  # of the moves, those out of the old image
    copied_bytes: int
    literal_bytes: int  # what a pack holds, before it is packed
    pack_bytes: int
    head_bytes: int  # gzipped, as it travels
    image_bytes: int  # the whole new image

    @property
    def total_bytes(self) -> int:
        """What would travel: the pack, and the head, which is in no pack."""
        return self.pack_bytes + self.head_bytes


@dataclass(frozen=True, slots=True)
class Sizes:
    """What gzip makes of the parts of a new image."""

    pack_bytes: int
    head_bytes: int
    table_bytes: int | None  # the first piece, if that is a table of contents


def travel(old: Index, new: Index, made: Patch, sizes: Sizes) -> Travel:
    """Hold two indexes against each other; `made` is their patch."""
    known = {piece.digest for piece in old.pieces}
    pieces = new.pieces if sizes.table_bytes is None else new.pieces[1:]
    lacking = {piece.digest: piece.length for piece in pieces if piece.digest not in known}
    return Travel(
        len(lacking),
        sum(lacking.values()),
        sizes.table_bytes or 0,
        len(made.moves),
        len(made.copies),
        made.copied_bytes,
        made.literal_bytes,
        sizes.pack_bytes,
        sizes.head_bytes,
        new.size_bytes,
    )
