"""`deploy publish`: what a mirror serves, laid out by digest. Objects never change, once there.

Artefacts of a release, and the packs that lead to them from older releases. A web server, or a
stick, needs nothing else; hosts check every object by its digest.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deployer import packs, releases
from deployer.durable import partial_of, settle, written
from deployer.packs import Pack
from deployer.releases import FoundRelease
from slots.errors import ConfigError, VerificationError
from slots.events import Emit, Notice, step

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Object:
    """A file that a mirror serves under its digest."""

    sha256: str
    size_bytes: int
    what: str
    path: Path


@dataclass(frozen=True, slots=True)
class Published:
    """An object that lies in the folder of a mirror; `was_there`: nothing was written."""

    object: Object
    was_there: bool


def older(out: Path, new: FoundRelease) -> tuple[FoundRelease, ...]:
    """Return the releases of the same name that were there before this one, the newest first."""
    same = [one for one in releases.found(out) if one.release.name == new.release.name]
    ids = [one.release.id for one in same]
    return tuple(same[ids.index(new.release.id) + 1 :] if new.release.id in ids else same)


def publish(
    new: FoundRelease, olds: Iterable[FoundRelease], out: Path, to: Path, emit: Emit
) -> tuple[Published, ...]:
    """Lay the artefacts and the packs into a folder; what is there and whole stays as it is."""
    if to.exists() and not to.is_dir():
        raise ConfigError(f"{to} is a file", hint="name the folder of a mirror")
    try:
        to.mkdir(parents=True, exist_ok=True)
        laid = tuple(_lay(one, to, emit) for one in _objects(new, olds, out, emit))
        settle(to)
    except OSError as error:
        raise ConfigError(f"cannot publish to {to}: {error.strerror}") from error
    return laid


def _objects(
    new: FoundRelease, olds: Iterable[FoundRelease], out: Path, emit: Emit
) -> Iterator[Object]:
    label = new.release.label
    for artefact in new.artefacts:
        what = f"{label} as {artefact.format}"
        yield Object(artefact.sha256, artefact.size_bytes, what, new.path(artefact))
    for old in olds:
        for artefact in new.artefacts:
            held = old.release.artefact(artefact.format)
            if held is None or held.sha256 == artefact.sha256:
                continue
            what = f"from {old.release.label} to {label} as {artefact.format}"
            pack = packs.provide(out, held.sha256, new, artefact, emit)
            if isinstance(pack, Pack):
                yield Object(pack.facts.sha256, pack.facts.size_bytes, what, pack.path)
            else:
                emit(Notice(f"no pack {what}: {pack.why}"))


def _lay(one: Object, to: Path, emit: Emit) -> Published:
    path = to / one.sha256
    with step(emit, "publish", one.what, one.size_bytes) as detail:
        if path.is_file() and path.stat().st_size == one.size_bytes and _is_whole(path, one):
            detail.append("was there")
            return Published(one, was_there=True)
        if not _linked(one, path):
            _copy(one, path)
        detail.append(one.sha256)
    return Published(one, was_there=False)


def _is_whole(path: Path, one: Object) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == one.sha256


def _linked(one: Object, path: Path) -> bool:
    """Give the file a second name; a mirror on another disk, or on a stick, needs a copy."""
    partial = partial_of(path)
    try:
        os.link(one.path, partial, follow_symlinks=True)
    except OSError:
        return False
    partial.replace(path)
    partial.unlink(missing_ok=True)  # where both are one file already, a rename does nothing
    return True


def _copy(one: Object, path: Path) -> None:
    digest = hashlib.sha256()
    with one.path.open("rb") as source, written(path) as file:
        while data := source.read(READ_BYTES):
            digest.update(data)
            file.write(data)
        if digest.hexdigest() != one.sha256:
            raise VerificationError(f"{one.path} is not what its release says")
