"""`image diff`: two images or releases as entries, from where they are had fastest.

A release, and an image that is the one its release.json describes (size and digest), are taken at
the word of their tree.mtree, whose own digest is checked. Any other image is read, and of its files
those contents that nothing else tells apart. Two uzip or iso9660 images are held against each
other cluster by cluster, as they are stored; only clusters that differ are decoded.
"""

import gzip
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from builder import browse, mtree, places
from builder.description import description, index_of, needed, specification_text
from builder.diff import Difference, Sizes, Travel, diff, travel
from builder.opened.image import OpenedImage
from builder.opened.iso9660 import Iso9660Image
from builder.opened.same import unequal
from builder.tree import Kind, Node
from slots.errors import Refused, VerificationError
from slots.manifest import HEAD_BYTES, Artefact, Format
from slots.pack import packed, packed_head
from slots.patch import patch, unit_of

_HARD_LINKED = " inode="


@dataclass(slots=True)
class _Side:
    """One of the two: the text of a specification, or an opened image."""

    path: Path
    lines: list[str] = field(default_factory=list)
    image: OpenedImage | None = None
    nodes: dict[bytes, Node] = field(default_factory=dict)

    def digests(self, paths: Sequence[bytes]) -> Mapping[bytes, str]:
        """Read the content of files; one of several names is read once."""
        if self.image is None:
            return {}
        firsts: dict[bytes | int, bytes] = {}
        for path in paths:
            node = self.nodes[path]
            firsts.setdefault(path if node.group is None else node.group, path)
        found: dict[bytes, str] = {}
        for node, chunks in self.image.contents([self.nodes[path] for path in firsts.values()]):
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
            found[node.path] = digest.hexdigest()
        keys = {path: self.nodes[path].group for path in paths}
        return {path: found[firsts[path if key is None else key]] for path, key in keys.items()}


def compare(old: Path, new: Path, *, read: bool) -> Difference:
    """Return how two images or releases differ; `read`: from the images themselves."""
    with ExitStack() as stack:
        left, right = _side(old, stack, read=read), _side(new, stack, read=read)
        if isinstance(left.image, Iso9660Image) and isinstance(right.image, Iso9660Image):
            return _volumes(left, left.image, right, right.image)
        shared = frozenset(
            line for line in set(left.lines).intersection(right.lines) if _HARD_LINKED not in line
        )
        return diff(_entries(left, shared), _entries(right, shared), left.digests, right.digests)


def _volumes(left: _Side, one: Iso9660Image, right: _Side, other: Iso9660Image) -> Difference:
    """Compare what is stored alike first: entries that are the same need no description."""
    both = [(left.nodes[path], node) for path, node in right.nodes.items() if path in left.nodes]
    file = Kind.FILE
    files = [pair for pair in both if pair[0].kind is pair[1].kind is file]
    files = [pair for pair in files if pair[0].size == pair[1].size]
    differ = unequal(one, other, files)
    equal = frozenset(node.path for _, node in files if node.path not in differ)
    told = frozenset(
        node.path
        for was, node in both
        if was == node and node.group is None and node.path not in differ
    )
    before, after = _described(left, told), _described(right, told)
    return diff(before, after, left.digests, right.digests, equal)


def _described(side: _Side, but: frozenset[bytes]) -> dict[bytes, dict[str, str]]:
    """Describe entries; of hard-linked names all are, so that both sides find the same first."""
    nodes = (node for node in side.nodes.values() if node.path not in but)
    return mtree.with_first_names({node.path: dict(mtree.keywords(node)) for node in nodes})


def _side(path: Path, stack: ExitStack, *, read: bool) -> _Side:
    found = description(path)
    if path.is_dir():
        if found is None:
            raise Refused(f"no release.json in {path}", hint="name an image, or a release's folder")
        if not read:
            return _Side(path, specification_text(found).splitlines())
        path = found.folder / found.artefacts[0].file
    elif found is not None and not read and _is_described(path, found.artefacts[0]):
        return _Side(path, specification_text(found).splitlines())
    image = stack.enter_context(browse.opened(path))
    return _Side(path, image=image, nodes={node.path: node for node in image.tree()})


def _is_described(path: Path, artefact: Artefact) -> bool:
    """Tell whether an image is the described one: all of it.

    The head does not tell: in an image of the same length that differs in bytes which do not
    compress, the table of contents is the same.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return (
        path.stat().st_size == artefact.size_bytes
        and hashlib.sha256(head).hexdigest() == artefact.head_sha256
        and places.sha256_of(path) == artefact.sha256
    )


def _entries(side: _Side, shared: frozenset[str]) -> dict[bytes, dict[str, str]]:
    """Return the entries of one side, but those whose lines are the same in the other."""
    if side.image is not None:
        # Both have the tree's own order, so that the first of hard-linked names is the same.
        return _described(side, frozenset())
    lines = (line for line in side.lines if line not in shared)
    return mtree.with_first_names(
        {entry.path: entry.keywords for entry in mtree.parse(lines, str(side.path))}
    )


_BESIDE = "--bytes wants the indexes beside it, as `image build` leaves them"


def travels(old: Path, new: Path) -> dict[Format, Travel]:
    """Return what would travel to a holder of the old one, for each format that both have."""
    left, right = needed(old, _BESIDE), needed(new, _BESIDE)
    before = {one.format: one for one in left.artefacts}
    found = {
        one.format: _travel(left.folder, before[one.format], right.folder, one)
        for one in right.artefacts
        if one.format in before
    }
    if not found:
        raise Refused(
            f"{old} and {new} have no format in common",
            hint=f"{_formats(left.artefacts)} and {_formats(right.artefacts)}",
        )
    return found


def _formats(artefacts: Iterable[Artefact]) -> str:
    return ", ".join(one.format for one in artefacts)


def _travel(old_folder: Path, old: Artefact, new_folder: Path, new: Artefact) -> Travel:
    before, after = index_of(old_folder, old), index_of(new_folder, new)
    made = patch(before, after, unit_of(old.format, new.format))
    path = new_folder / new.file
    try:
        with path.open("rb") as file:
            pack = packed(made, lambda offset, length: os.pread(file.fileno(), length, offset))
            pack_bytes = sum(map(len, pack))
            head_bytes = len(packed_head(file.read(HEAD_BYTES)))
            file.seek(0)
            table = file.read(after.pieces[0].length) if new.format == "uzip" else None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise VerificationError(f"{path} is not what its index says: {error}") from error
    table_bytes = None if table is None else len(gzip.compress(table, 9, mtime=0))
    sizes = Sizes(pack_bytes, head_bytes, table_bytes)
    return travel(before, after, made, sizes)
