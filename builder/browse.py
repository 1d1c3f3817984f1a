"""An image as a tree again: info, ls, cat, extract and verify, whatever its format."""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from builder import mtree, places, restore
from builder.hardlinks import first_files
from builder.names import SHOWN, listed, shown, text
from builder.opened import iso9660
from builder.opened.erofs import MAGIC, SUPERBLOCK_AT, ErofsImage
from builder.opened.image import Facts, OpenedImage
from builder.opened.squashfs import SquashfsImage
from builder.progress import Meter
from builder.tree import Kind, Node, Tree
from builder.uzip.reader import UzipReader, is_uzip
from slots.errors import ConfigError, ProductError, Refused, VerificationError
from slots.events import Emit, Notice, step
from slots.index import Index, from_lines, piece_digest
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.settings import config_error

_SAME_TARGETS = {"/", "/."}
"""ISO 9660 has one form for both (docs/formats/iso9660.md)."""


@contextmanager
def opened(path: Path) -> Iterator[OpenedImage]:
    """Open an image by what it holds, not by its name."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            head = file.read(40_000)
        except OSError as error:
            raise ConfigError(f"cannot read the image {path}: {error.strerror}") from error
        yield _opened(path, file, head, stack)


def _opened(path: Path, file: BinaryIO, head: bytes, stack: ExitStack) -> OpenedImage:
    if is_uzip(head[:128]):
        return _uzip(file, path.name)
    if head[32_769:32_774] == b"CD001":
        return iso9660.plain(file, path.name)
    if head[:4] == b"hsqs":
        return SquashfsImage(path)
    if head[SUPERBLOCK_AT : SUPERBLOCK_AT + 4] == MAGIC:
        return ErofsImage(path, file, stack)
    raise Refused(f"{path} is no image that is known", hint="uzip, iso9660, squashfs and erofs are")


def _uzip(file: BinaryIO, name: str) -> OpenedImage:
    reader = UzipReader(file, name)
    facts = Facts(
        "uzip",
        reader.codec.name,
        reader.cluster_bytes,
        reader.size_bytes,
        (("clusters", f"{reader.cluster_count:,}"), ("end", f"{reader.end_bytes:,} bytes")),
    )
    return iso9660.Iso9660Image(io.BufferedReader(reader), name, facts, reader)


def below(tree: Tree, path: str) -> list[Node]:
    """Return an entry and all below it."""
    wanted = _wanted(path)
    found = [node for node in tree if node.path == wanted or node.path.startswith(wanted + b"/")]
    if not found:
        raise Refused(f"no such entry in the image: {text(wanted)}")
    return found


def _wanted(path: str) -> bytes:
    parts = [part for part in os.fsencode(path).split(b"/") if part and part != b"."]
    return b"".join(b"/" + part for part in parts)


def cat(image: OpenedImage, path: str, out: BinaryIO) -> None:
    """Write the bytes of one file."""
    node = next((one for one in image.tree() if one.path == _wanted(path)), None)
    if node is None:
        raise Refused(f"no such entry in the image: {path}")
    if node.kind is Kind.SYMLINK:
        raise Refused(f"{shown(node.path)} is a symlink to {text(node.target)}")
    if node.kind is not Kind.FILE:
        raise Refused(f"{shown(node.path)} is no file but of type {node.kind}")
    for _, chunks in image.contents([node]):
        out.writelines(chunks)


def extract(image: OpenedImage, folder: Path, emit: Emit) -> Tree:
    """Unpack an image into a new or empty folder; as an ordinary user without its owners."""
    privilege = restore.Privilege.ROOT if os.geteuid() == 0 else restore.Privilege.USER
    tree = image.tree()
    restore.refuse_escapes(tree)
    files = first_files(tree)
    with (
        _filled(folder),
        step(emit, "extract", str(folder), sum(node.size for node in files)) as detail,
    ):
        meter = Meter(emit, "extract", str(folder))
        contents = ((node, _counted(chunks, meter)) for node, chunks in image.contents(files))
        with places.disk_errors(folder, "free some, or name a folder elsewhere"):
            left_out = restore.restore(tree, contents, folder, privilege)
        detail.append(f"{len(tree)} entries")
    if privilege is restore.Privilege.USER:
        emit(Notice("owners are left out: only root can set them"))
    if left_out:
        emit(Notice(f"devices are left out: {listed(left_out)}"))
    return tree


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Give a new or empty folder, which is as it was again if it is not filled to the end."""
    was_there = folder.is_dir()
    _make_empty(folder)
    try:
        yield
    except BaseException as error:
        left = restore.emptied(folder)
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        if left and isinstance(error, ProductError):
            error.message = f"{error.message}; {folder} holds a part of the image"
        raise


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Refused(f"{folder} is not empty", hint="name a new folder")
    except OSError as error:
        raise Refused(f"cannot make {folder}: {error.strerror}") from error


def _counted(chunks: Iterator[bytes], meter: Meter) -> Iterator[bytes]:
    for chunk in chunks:
        meter.add(len(chunk))
        yield chunk


@dataclass(frozen=True, slots=True)
class Description:
    """A release beside its files."""

    release: Release
    folder: Path
    artefacts: tuple[Artefact, ...]


def description(path: Path) -> Description | None:
    """Return the release of a folder, or of the artefact in a file."""
    if path.is_dir():
        release = _release(path / places.MANIFEST)
        return None if release is None else Description(release, path, release.artefacts)
    for manifest in (
        path.with_name(f"{path.name}.{places.MANIFEST}"),
        path.with_name(places.MANIFEST),
    ):
        release = _release(manifest)
        mine = [one for one in release.artefacts if one.file == path.name] if release else []
        if release is not None and mine:
            return Description(release, path.parent, tuple(mine))
    return None


def _release(path: Path) -> Release | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return Release.from_json(data)
    except ValidationError as error:
        raise config_error(error, Release, str(path)) from error


def verify(path: Path, emit: Emit) -> Description:
    """Hold every byte of an image, or of all images of a release, against its description."""
    found = description(path)
    if found is None:
        raise Refused(
            f"no release.json describes {path}",
            hint="verify wants it beside the image, as `image build` leaves it",
        )
    specification = specification_text(found).splitlines()
    for artefact in found.artefacts:
        _verify_bytes(found.folder, artefact, emit)
        _verify_entries(found.folder / artefact.file, specification, emit)
    return found


def specification_text(found: Description) -> str:
    """Return the text of a release's specification, held against its description."""
    path = found.folder / found.release.mtree
    data = _bytes_of(path)
    if hashlib.sha256(data).hexdigest() != found.release.mtree_sha256:
        raise VerificationError(f"{path} is not the one that {places.MANIFEST} describes")
    return data.decode("utf-8", "surrogateescape")


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(f"cannot read {path}: {error.strerror}") from error


def _verify_bytes(folder: Path, artefact: Artefact, emit: Emit) -> None:
    """Check the size, the digests and every piece of an artefact in one pass."""
    path = folder / artefact.file
    index = index_of(folder, artefact)
    digest, head = hashlib.sha256(), b""
    with step(emit, "verify", artefact.file, artefact.size_bytes) as detail:
        meter = Meter(emit, "verify", artefact.file)
        size_bytes = path.stat().st_size if path.exists() else -1
        if size_bytes != artefact.size_bytes:
            raise VerificationError(
                f"{path} has {size_bytes:,} bytes, not {artefact.size_bytes:,}"
                if size_bytes >= 0
                else f"{path} is missing"
            )
        with path.open("rb") as file:
            for piece in index.pieces:
                data = file.read(piece.length)
                if piece_digest(data) != piece.digest:
                    raise VerificationError(f"{path} is damaged in its bytes from {piece.offset:,}")
                head += data[: HEAD_BYTES - len(head)]
                digest.update(data)
                meter.add(len(data))
        if digest.hexdigest() != artefact.sha256:
            raise VerificationError(f"{path} is not the one that {places.MANIFEST} describes")
        if hashlib.sha256(head).hexdigest() != artefact.head_sha256:
            raise VerificationError(f"the head of {path} is not as {places.MANIFEST} says")
        detail.append(f"{len(index.pieces)} pieces")


def index_of(folder: Path, artefact: Artefact) -> Index:
    """Return the index of an artefact, held against its description."""
    path = folder / artefact.index
    data = _bytes_of(path)
    if hashlib.sha256(data).hexdigest() != artefact.index_sha256:
        raise VerificationError(f"{path} is not the one that {places.MANIFEST} describes")
    try:
        index = from_lines(data.decode().splitlines())
    except ValueError as error:
        raise VerificationError(f"{path} is no index: {error}") from error
    if (index.sha256, index.size_bytes) != (artefact.sha256, artefact.size_bytes):
        raise VerificationError(f"{path} belongs to another image")
    return index


def _verify_entries(path: Path, specification: list[str], emit: Emit) -> None:
    """Read every entry back, and hold it against the specification."""
    with opened(path) as image:
        tree = image.tree()
        files = first_files(tree)
        with step(
            emit, "verify", f"{path.name} contents", sum(node.size for node in files)
        ) as said:
            meter = Meter(emit, "verify", f"{path.name} contents")
            image.check(apart_from=files)
            digests: dict[bytes, str] = {}
            for node, chunks in image.contents(files):
                digest = hashlib.sha256()
                for chunk in _counted(chunks, meter):
                    digest.update(chunk)
                digests[node.path] = digest.hexdigest()
            _compare(path, specification, _described(tree, digests))
            said.append(f"{len(tree)} entries")
        if isinstance(image, iso9660.Iso9660Image):
            with step(emit, "verify", f"{path.name} through pycdlib"):
                from builder.opened import witness  # noqa: PLC0415 - pycdlib is slow to import

                second = witness.tree(image.volume, path.name)
                _compare(path, specification, _described(second, digests))


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
