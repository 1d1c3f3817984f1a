"""`image verify`: every byte of an image, and every entry in it, against what lies beside it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from builder import browse, mtree, places
from builder.description import Description, index_of, needed, specification_text
from builder.hardlinks import first_files
from builder.names import SHOWN, shown
from builder.opened.image import OpenedImage
from builder.opened.iso9660 import Iso9660Image
from builder.progress import Meter, counted
from builder.tree import Kind, Tree
from slots.errors import VerificationError
from slots.events import Emit, step
from slots.index import Index, Piece, piece_digest
from slots.manifest import HEAD_BYTES, Artefact

_READ_BYTES = 1 << 20
_SAME_TARGETS = {"/", "/."}
"""ISO 9660 has one form for both (docs/formats/iso9660.md)."""


def verify(path: Path, emit: Emit, *, witness: bool = False) -> Description:
    """Hold every byte of an image, or of all images of a release, against its description.

    `witness`: let pycdlib read the entries of ISO 9660 too (builder/opened/witness.py).
    """
    found = needed(path, "verify wants it beside the image, as `image build` leaves it")
    specification = specification_text(found).splitlines()
    for artefact in found.artefacts:
        _verify_bytes(found.folder, artefact, emit)
        _verify_entries(found.folder / artefact.file, specification, emit, witness=witness)
    return found


def _verify_bytes(folder: Path, artefact: Artefact, emit: Emit) -> None:
    """Check the size, the digests and every piece of an artefact in one pass."""
    path = folder / artefact.file
    index = index_of(folder, artefact)
    with step(emit, "verify", artefact.file, artefact.size_bytes) as detail:
        size_bytes = path.stat().st_size if path.exists() else -1
        if size_bytes != artefact.size_bytes:
            raise VerificationError(
                f"{path} has {size_bytes:,} bytes, not {artefact.size_bytes:,}"
                if size_bytes >= 0
                else f"{path} is missing"
            )
        if _digest_of_pieces(path, index, Meter(emit, "verify", artefact.file)) != artefact.sha256:
            raise VerificationError(f"{path} is not the one that {places.MANIFEST} describes")
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
        if head != artefact.head_sha256:
            raise VerificationError(f"the head of {path} is not as {places.MANIFEST} says")
        detail.append(f"{len(index.pieces)} pieces")


def _digest_of_pieces(path: Path, index: Index, meter: Meter) -> str:
    """Check every piece, and return the digest of all of them."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for run in _runs(index.pieces):
            data = memoryview(file.read(sum(piece.length for piece in run)))
            start = run[0].offset
            for piece in run:
                at = piece.offset - start
                if piece_digest(data[at : at + piece.length]) != piece.digest:
                    raise VerificationError(f"{path} is damaged in its bytes from {piece.offset:,}")
            digest.update(data)
            meter.add(len(data))
    return digest.hexdigest()


def _runs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces that are read together: those of squashfs and erofs are small."""
    run, length = list[Piece](), 0
    for piece in pieces:
        run.append(piece)
        length += piece.length
        if length >= _READ_BYTES:
            yield run
            run, length = [], 0
    if run:
        yield run


def _verify_entries(path: Path, specification: list[str], emit: Emit, *, witness: bool) -> None:
    """Read every entry back, and hold it against the specification."""
    with browse.opened(path) as image:
        tree = image.tree()
        digests = _digests(image, tree, f"{path.name} contents", emit)
        _compare(path, specification, _described(tree, digests))
        if witness and isinstance(image, Iso9660Image):
            with step(emit, "verify", f"{path.name} through pycdlib"):
                from builder.opened import witness as other  # noqa: PLC0415 - slow to import

                second = other.tree(image.volume, path.name)
                _compare(path, specification, _described(second, digests))


def _digests(image: OpenedImage, tree: Tree, subject: str, emit: Emit) -> dict[bytes, str]:
    """Read all contents, and what holds none, so that all of the image is seen to decode."""
    files = first_files(tree)
    digests: dict[bytes, str] = {}
    with step(emit, "verify", subject, sum(node.size for node in files)) as said:
        image.check(apart_from=files)
        meter = Meter(emit, "verify", subject)
        for node, chunks in counted(image.contents(files), meter):
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
            digests[node.path] = digest.hexdigest()
        said.append(f"{len(tree)} entries")
    return digests


def _described(tree: Tree, digests: dict[bytes, str]) -> list[str]:
    """Describe what was read as a specification does."""
    groups = {node.group: digests[node.path] for node in tree if node.path in digests}
    whole = {
        node.path: digests.get(node.path) or groups[node.group]
        for node in tree
        if node.kind is Kind.FILE
    }
    return [line.removesuffix("\n") for line in mtree.to_lines(tree, whole)]


def _entries(lines: list[str], but: AbstractSet[str], path: Path) -> dict[bytes, Mapping[str, str]]:
    parsed = mtree.parse((line for line in lines if line not in but), str(path))
    return {entry.path: entry.keywords for entry in parsed}


def _compare(path: Path, specification: list[str], found: list[str]) -> None:
    """Hold lines against lines: those that both have say the same, but for numbers of links."""
    same = {line for line in set(specification).intersection(found) if " inode=" not in line}
    wanted, read = _entries(specification, same, path), _entries(found, same, path)
    faults = [f"{shown(name)} is missing" for name in sorted(wanted.keys() - read.keys())]
    faults += [f"{shown(name)} is not described" for name in sorted(read.keys() - wanted.keys())]
    left, right = mtree.with_first_names(read), mtree.with_first_names(wanted)
    for name in sorted(wanted.keys() & read.keys()):
        for keyword in sorted(left[name].keys() | right[name].keys()):
            here, there = left[name].get(keyword), right[name].get(keyword)
            if here != there and {here, there} != _SAME_TARGETS:
                faults.append(f"{shown(name)} has {keyword} {here}, not {there}")
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise VerificationError(f"{path}: " + "; ".join(faults[:SHOWN]) + more)
