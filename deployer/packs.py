"""Packs on the admin box: made once for two images, kept, and read whole before they are used.

They are kept in `.packs` beside the releases; that folder may be deleted at any time.
"""

import gzip
import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from deployer import memory, releases
from deployer.choice import NoPack
from deployer.durable import PARTIAL, written
from deployer.releases import FoundRelease, holding, index_of
from deployer.wording import counted
from slots.errors import ConfigError, ProductError, VerificationError
from slots.events import Emit, Progress, step
from slots.garbage import uncollected
from slots.manifest import HEAD_BYTES, Artefact
from slots.pack import READ_BYTES, SUFFIX, PackFacts, Read, packed, parse_head
from slots.patch import Patch, patch, unit_of

FOLDER = ".packs"
KEPT = 32
ABANDONED_S = 86_400
UNCOMMON = 0.9
"""Where so much of the new image is not in the old one, a pack is not worth its making."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that lies on the admin box."""

    facts: PackFacts
    path: Path


def provide(
    out: Path, old_sha256: str, new: FoundRelease, artefact: Artefact, emit: Emit
) -> Pack | NoPack:
    """Return the pack between two images: a kept one, or one made now and kept.

    Whatever stands in the way is a reason to send the whole image, and no more.
    """
    path = _place(out, old_sha256, artefact.sha256)
    with suppress(ProductError, OSError):
        kept = _kept(out, path)
        if (kept.facts.old.sha256, kept.facts.new.sha256) == (old_sha256, artefact.sha256):
            return kept
    try:
        found = holding(out, old_sha256)
        if found is None:
            return NoPack(f"{out} has no index of the image {old_sha256[:12]}…")
        made = difference(*found, new, artefact)
        if made.literal_bytes > UNCOMMON * (artefact.size_bytes - HEAD_BYTES):
            return NoPack("the two images have little in common")
        pack = make(made, new.path(artefact), kept_at(out, made), emit)
        _tidy(path.parent)
    except ProductError as error:
        return NoPack(error.message)
    except OSError as error:
        return NoPack(f"a pack cannot be kept in {path.parent}: {error.strerror}")
    return pack


def between(
    old: FoundRelease,
    new: FoundRelease,
    format_: str | None,
    out: Path,
    emit: Emit,
    *,
    place: Path | None = None,
) -> Pack:
    """Make the pack between two releases of a format that both have; without a place it is kept."""
    held, artefact = in_common(old, new, format_)
    releases.verify(new, frozenset({artefact.format}))
    made = difference(old, held, new, artefact)
    return make(made, new.path(artefact), place or _keeping(out, made), emit)


def _keeping(out: Path, made: Patch) -> Path:
    try:
        return kept_at(out, made)
    except OSError as error:
        raise ConfigError(
            f"cannot make {out / FOLDER}: {error.strerror}", hint="name a file with -o"
        ) from error


def kept_at(out: Path, patch_: Patch) -> Path:
    """Return where the pack of a patch is kept, in a folder that is there."""
    path = _place(out, patch_.old.sha256, patch_.new.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _place(out: Path, old_sha256: str, new_sha256: str) -> Path:
    return out / FOLDER / f"{old_sha256}-{new_sha256}{SUFFIX}"


def difference(old: FoundRelease, held: Artefact, new: FoundRelease, artefact: Artefact) -> Patch:
    """Return the patch between two artefacts; raises VerificationError if an index is wrong."""
    unit = unit_of(held.format, artefact.format)
    with uncollected():
        return patch(index_of(old, held), index_of(new, artefact), unit)


def in_common(
    old: FoundRelease, new: FoundRelease, wanted: str | None
) -> tuple[Artefact, Artefact]:
    """Return the two artefacts, old and new, that a pack is between: those of one format."""
    before = {one.format: one for one in old.artefacts}
    pairs = [(before[one.format], one) for one in new.artefacts if one.format in before]
    chosen = [pair for pair in pairs if wanted in {None, pair[1].format}]
    labels = f"{old.release.label} and {new.release.label}"
    if not chosen:
        what = f"no artefact of format {wanted}" if wanted else "no format"
        raise ConfigError(f"{labels} have {what} in common")
    if len(chosen) > 1:
        formats = ", ".join(after.format for _, after in chosen)
        raise ConfigError(
            f"{labels} have {formats} in common", hint="name one of them with --format"
        )
    return chosen[0]


def make(made: Patch, image: Path, out: Path, emit: Emit) -> Pack:
    """Write the pack of a patch; the literals come from the new image, piece by piece."""
    with step(emit, "pack", image.name, made.literal_bytes) as detail:
        try:
            facts = _write(made, image, out, emit)
        except OSError as error:
            raise ConfigError(f"cannot write {out}: {error.strerror}") from error
        except ValueError as error:
            raise VerificationError(f"{image} is not what its index says: {error}") from error
        detail.append(f"{facts.size_bytes} bytes, {counted(facts.moves, 'move')}")
    return Pack(facts, out)


def _write(made: Patch, image: Path, out: Path, emit: Emit) -> PackFacts:
    digest, size = hashlib.sha256(), 0
    with _reader(image, emit) as read_image, written(out) as file:
        for data in packed(made, read_image):
            digest.update(data)
            size += file.write(data)
    return PackFacts.of(made, digest.hexdigest(), size)


def _kept(out: Path, path: Path) -> Pack:
    """Return a kept pack; of one that was read whole before, and has not changed, the head."""
    note = memory.note_path(out, path, "pack")
    kept = read(path, memory.found(note))
    if note == memory.note_path(out, path, "pack"):
        memory.remember(note, kept.facts.sha256)
    return kept


def read(path: Path, known_sha256: str = "") -> Pack:
    """Read a pack whole: is it one, and all there? Raises VerificationError.

    Of one whose digest is known, only the head is read.
    """
    try:
        with path.open("rb") as file:
            digest = known_sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                found = parse_head(lambda: unpacked.readline(READ_BYTES))
                literals = (
                    found.literal_bytes
                    if known_sha256
                    else sum(map(len, iter(lambda: unpacked.read(READ_BYTES), b"")))
                )
    except FileNotFoundError as error:
        raise VerificationError(f"there is no pack {path}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise VerificationError(f"{path} is no whole pack: {error}") from error
    if literals != found.literal_bytes:
        raise VerificationError(
            f"{path} is no whole pack: it has {literals} bytes of literals, "
            f"not {found.literal_bytes}"
        )
    return Pack(PackFacts.of(found, digest, size), path)


@contextmanager
def _reader(image: Path, emit: Emit) -> Iterator[Read]:
    """Open an image to be read from, and tell how much was."""
    done = 0

    def read_(offset: int, length: int) -> bytes:
        nonlocal done
        try:
            data = os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise VerificationError(f"{image} cannot be read: {error.strerror}") from error
        done += len(data)
        emit(Progress("pack", done, image.name))
        return data

    try:
        file = image.open("rb")
    except OSError as error:
        raise VerificationError(f"{image} cannot be read: {error.strerror}") from error
    with file:
        yield read_


def _tidy(folder: Path) -> None:
    """Keep the packs that were made last, and nothing that a killed run left."""
    packs = sorted(folder.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
    dead = time.time() - ABANDONED_S
    left = (one for one in folder.glob(f".*{PARTIAL}") if one.stat().st_mtime < dead)
    for one in chain(packs[KEPT:], left):
        one.unlink(missing_ok=True)
