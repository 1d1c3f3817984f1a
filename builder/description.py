"""What lies beside an image: its release.json, its tree.mtree and its index, held against that."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from builder import places
from slots.errors import ConfigError, Refused, VerificationError
from slots.index import Index, from_lines
from slots.manifest import Artefact, Release
from slots.settings import document_error


@dataclass(frozen=True, slots=True)
class Description:
    """A release beside its files."""

    release: Release
    folder: Path
    artefacts: tuple[Artefact, ...]


def description(path: Path) -> Description | None:
    """Return the release of a folder, or of the artefact in a file, also behind a symlink."""
    if path.name == places.MANIFEST and path.is_file():
        path = path.parent
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
    is_link = path.is_symlink() and path.is_file()
    return description(path.resolve()) if is_link else None


def needed(path: Path, hint: str) -> Description:
    """Return what describes a path; raises Refused, with this hint if it is there undescribed."""
    found = description(path)
    if found is not None:
        return found
    if not path.exists():
        raise Refused(f"there is no {path}", hint="name an image, or the folder of a release")
    raise Refused(f"no release.json describes {path}", hint=hint)


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
        raise document_error(error, Release, str(path)) from error


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
