"""Find a release on the admin box, and hold its artefacts against what release.json says."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from deployer import memory
from slots import pack
from slots.errors import ConfigError, VerificationError
from slots.index import Index, from_lines
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.settings import document_error
from slots.words import unknown_release

MANIFEST = "release.json"
READ_BYTES = 1 << 20
AGAIN = "build or copy it again"


@dataclass(frozen=True, slots=True)
class FoundRelease:
    """A release and where its artefacts lie; `only` is the format of a single named file."""

    release: Release
    folder: Path
    only: str | None = None
    file: Path | None = None  # the single named file

    def path(self, artefact: Artefact) -> Path:
        """Return the file of an artefact."""
        return self.file or self.folder / artefact.file

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """The artefacts that are meant: all, or that of the single named file."""
        return tuple(one for one in self.release.artefacts if self.only in {None, one.format})


def find(wanted: str | None, out: Path, name: str | None = None) -> FoundRelease:
    """Return the release that is asked for, by default the newest below `out`.

    `name` is the releases' name that the set of slots names; without it only one may be there.
    """
    if wanted is None:
        return _newest(out, name)
    if not wanted.strip():
        raise ConfigError("--image is empty", hint=f"leave it out for the newest in {out}")
    path = _described(Path(wanted))
    if path.is_dir():  # also one without a name of its own: `.`
        return FoundRelease(_read(path / MANIFEST), path)
    beside = path.with_name(path.name + f".{MANIFEST}")
    if path.is_file() and path.name == MANIFEST:
        return FoundRelease(_read(path), path.parent)
    if path.is_file() and beside.is_file():
        return _single(path, beside)
    if path.is_file():
        return _within(path)
    return _by_name(wanted, out)


def _described(path: Path) -> Path:
    """Return the file that a description lies beside: of a symlink its own, else its target's."""
    names = (f"{path.name}.{MANIFEST}", MANIFEST)
    if not (path.is_symlink() and path.is_file()):
        return path
    if path.name == MANIFEST or any(path.with_name(one).is_file() for one in names):
        return path
    return path.resolve()


def _by_name(wanted: str, out: Path) -> FoundRelease:
    """Return a release by NAME-VERSION, the newest by NAME, or one by its id."""
    if "/" not in wanted and (out / wanted / MANIFEST).is_file():
        return FoundRelease(_read(out / wanted / MANIFEST), out / wanted)
    if any(release.name == wanted for release in known(out)):
        return _newest(out, wanted)
    for one in found(out):
        if one.release.id == wanted:
            return one
    raise unknown_release(wanted, out)


def known(out: Path) -> tuple[Release, ...]:
    """Return all readable releases below `out`, the newest first."""
    return tuple(_readable(_manifests(out)))


def verify(found: FoundRelease, formats: frozenset[str], out: Path | None = None) -> None:
    """Read the artefacts of these formats whole; raises VerificationError if one is not itself.

    With `out`, where notes are kept, one that was read and has not changed is not read again.
    """
    for artefact in found.release.artefacts:
        path = found.path(artefact)
        digests = (artefact.sha256, artefact.head_sha256)
        note = memory.note_path(out, path, *digests) if out else None
        if artefact.format in formats and not memory.is_noted(note):
            _verify(path, artefact)
            if out and note == memory.note_path(out, path, *digests):
                memory.remember(note)


def index_of(found: FoundRelease, artefact: Artefact) -> Index:
    """Read the index of an artefact; raises VerificationError if it is not the described one."""
    path = found.folder / artefact.index
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError(
            f"there is no {path}, which its release names", hint=AGAIN
        ) from error
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != artefact.index_sha256:
        raise VerificationError(f"{path} is not what its release says")
    try:
        index = from_lines(data.decode("ascii").splitlines())
    except ValueError as error:
        raise VerificationError(f"{path} is no index: {error}") from error
    if (index.sha256, index.size_bytes) != (artefact.sha256, artefact.size_bytes):
        raise VerificationError(f"{path} belongs to another image")
    return index


def found(out: Path) -> Iterator[FoundRelease]:
    """Yield all readable releases below `out` with their folders, the newest first."""
    for path in _manifests(out):
        for release in _readable([path]):
            yield FoundRelease(release, path.parent)


def holding(out: Path, sha256: str) -> tuple[FoundRelease, Artefact] | None:
    """Return a release below `out` that describes the image with this digest."""
    for path in _manifests(out, "*/*{}", "*{}"):
        for release in _readable([path]):
            for artefact in release.artefacts:
                if artefact.sha256 == sha256:
                    return FoundRelease(release, path.parent), artefact
    return None


def packed_head(found: FoundRelease, artefact: Artefact) -> bytes:
    """Return the head of an artefact as it travels; raises VerificationError."""
    path = found.path(artefact)
    try:
        with path.open("rb") as file:
            return pack.packed_head(file.read(HEAD_BYTES))
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}") from error


def _verify(path: Path, artefact: Artefact) -> None:
    whole, head, size = hashlib.sha256(), hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            first = file.read(HEAD_BYTES)
            head.update(first)
            piece = first
            while piece:
                whole.update(piece)
                size += len(piece)
                piece = file.read(READ_BYTES)
    except FileNotFoundError as error:
        raise VerificationError(
            f"there is no {path}, which its release names", hint=AGAIN
        ) from error
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}") from error
    if size != artefact.size_bytes:
        raise VerificationError(
            f"{path} has {size} bytes, its release says {artefact.size_bytes}",
            hint=AGAIN,
        )
    if whole.hexdigest() != artefact.sha256 or head.hexdigest() != artefact.head_sha256:
        raise VerificationError(
            f"{path} is not what its release says: its SHA-256 is {whole.hexdigest()[:16]}…, "
            f"not {artefact.sha256[:16]}…",
            hint=AGAIN,
        )


def _newest(out: Path, name: str | None) -> FoundRelease:
    manifests = _manifests(out)
    if not manifests:
        raise ConfigError(
            f"there is no release in {_whole(out)}", hint="`image build` makes one there"
        )
    if name is None:
        _refuse_several_names(out)
        return FoundRelease(_read(manifests[0]), manifests[0].parent)
    for path in manifests:
        try:
            release = _read(path)
        except ConfigError:
            if path.parent.name.startswith(f"{name}-"):
                raise  # it may be the newest of that name: an older one must not stand in for it
            continue
        if release.name == name:
            return FoundRelease(release, path.parent)
    raise ConfigError(
        f"there is no release of {name} in {_whole(out)}", hint="name one with --image"
    )


def _whole(out: Path) -> Path:
    try:
        return out.absolute()
    except FileNotFoundError as error:  # so says os.getcwd()
        raise ConfigError("the folder in which this runs is gone") from error


def _refuse_several_names(out: Path) -> None:
    names = sorted({release.name for release in known(out)})
    if len(names) > 1:
        raise ConfigError(
            f"{out} holds releases of {', '.join(names[:-1])} and {names[-1]}",
            hint="name one with --image, or give the set of slots its image, such as "
            f'image = "{names[0]}"',
        )


def _manifests(out: Path, *patterns: str) -> list[Path]:
    """Return the releases' descriptions below `out`, the one written last first."""
    globs = (pattern.format(MANIFEST) for pattern in patterns or ("*/{}",))
    found = {path for glob in globs for path in out.glob(glob) if path.is_file()}
    # A folder whose name begins with a dot is what a build that was killed left.
    paths = [one for one in found if not one.relative_to(out).parts[0].startswith(".")]
    return sorted(paths, key=lambda one: (one.stat().st_mtime_ns, one), reverse=True)


def _readable(manifests: list[Path]) -> Iterator[Release]:
    for path in manifests:
        try:
            yield _read(path)
        except ConfigError:
            continue  # only the newest must be readable; this one merely helps to name a slot


def _single(path: Path, manifest: Path) -> FoundRelease:
    """Return the release of one named file, whose own description may name it otherwise."""
    release = _read(manifest)
    own = manifest.name != MANIFEST and len(release.artefacts) == 1
    named = next((one for one in release.artefacts if own or one.file == path.name), None)
    if named is None:
        raise ConfigError(f"{manifest} does not speak of {path.name}")
    return FoundRelease(release, path.parent, named.format, path)


def _within(path: Path) -> FoundRelease:
    """Return the release of an artefact that lies in its release's folder."""
    manifest = path.with_name(MANIFEST)
    if not manifest.is_file():
        raise ConfigError(
            f"{path} has no {path.name}.{MANIFEST} beside it",
            hint="an image is deployed with the description that its build wrote",
        )
    return _single(path, manifest)


def _read(path: Path) -> Release:
    try:
        return Release.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}", hint="is that the folder of a release?") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise document_error(error, Release, str(path)) from error
