"""Where a release goes: made beside its final name, synced, renamed; its description comes last.

A killed build leaves a `.NAME.partial-PID` folder and nothing under a final name. The next build
beside it removes the folders whose builder is gone: each notes its host, pid and start.
"""

import errno
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slots.errors import BuildError, ConfigError
from slots.manifest import Release

MANIFEST = "release.json"
TREE = "tree.mtree"
_BUILDER = ".builder"
_PARTIAL = re.compile(r"\..+\.partial-\d+")


@contextmanager
def partial(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder for what is being built; it is gone afterwards unless it was renamed."""
    folder = parent / f".{name}.partial-{os.getpid()}"
    with disk_errors(parent):
        remove_stale(parent)
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder)
        try:
            (folder / _BUILDER).write_text(_builder(os.getpid()), encoding="utf-8")
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileNotFoundError as error:  # the folder around it is there, and takes none: /proc
        raise ConfigError(
            f"cannot make a folder in {folder.parent}", hint="choose --output elsewhere"
        ) from error


@contextmanager
def disk_errors(place: Path, hint: str = "free some, or choose --output") -> Iterator[None]:
    """Turn what a disk refuses into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise BuildError(f"no space left on the device of {place}", hint=hint) from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}:
            where = os.fsdecode(error.filename) if error.filename else str(place)
            raise BuildError(f"cannot write {where}: {error.strerror}") from error
        raise


def make_parent(parent: Path, sources: Iterable[Path]) -> None:
    """Make the folder that will hold a release, and refuse one inside a source."""
    if (source := source_around(parent, sources)) is not None:
        raise ConfigError(
            f"the output {parent} lies inside the source {source}",
            hint="choose --output elsewhere",
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(
            f"cannot make {parent}: {_in_the_way(parent)}", hint="choose --output elsewhere"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot make {parent}: {error.strerror}") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write to {parent}", hint="choose --output elsewhere")


def source_around(folder: Path, sources: Iterable[Path]) -> Path | None:
    """Return the source in which a folder lies, or would."""
    whole = real(folder)
    return next((one for one in sources if whole.is_relative_to(real(one))), None)


def real(path: Path) -> Path:
    """Return a whole path without symlinks; Path.resolve() survives none that leads to itself."""
    try:
        return Path(os.path.realpath(path))
    except FileNotFoundError as error:  # so says os.getcwd(), of a path that is not whole
        raise ConfigError("the folder in which this runs is gone") from error


def _in_the_way(path: Path) -> str:
    if path.is_symlink():
        return f"it is a symlink to {path.readlink()}, which is no folder or is not there"
    return "a file of that name is in the way"


def remove_stale(parent: Path) -> None:
    """Remove the partial folders of builds on this host that are gone."""
    for folder in parent.iterdir():
        if _PARTIAL.fullmatch(folder.name) and folder.is_dir() and _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)


def publish_folder(folder: Path, final: Path, release: Release) -> bool:
    """Give a finished folder its final name; return False if the same release was there already.

    The same release is not made twice: it becomes the newest again.
    """
    if _is_same(final, release):
        (final / MANIFEST).touch()
        return False
    _write_manifest(folder / MANIFEST, release)
    (folder / _BUILDER).unlink()
    _sync_all(folder)
    replaced = folder.with_name(f".{final.name}.replaced.partial-{os.getpid()}")
    with suppress(FileNotFoundError):
        final.rename(replaced)
    folder.rename(final)
    _sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return True


def publish_files(folder: Path, final: Path, release: Release) -> None:
    """Move a single artefact and what describes it to its final name, the description last."""
    described = final.with_name(f"{final.name}.{MANIFEST}")
    _write_manifest(folder / MANIFEST, release)
    _sync_all(folder)
    described.unlink(missing_ok=True)  # it would describe what is being replaced
    artefact = release.artefacts[0]
    for name in (artefact.index, release.mtree, artefact.file):
        (folder / name).replace(final.with_name(name))
    (folder / MANIFEST).replace(described)
    _sync(final.parent)


def _write_manifest(path: Path, release: Release) -> None:
    path.write_text(release.to_json(), encoding="utf-8")


def _is_same(final: Path, release: Release) -> bool:
    """Tell whether a release stands there with all its files, to the bit."""
    try:
        if (final / MANIFEST).read_text(encoding="utf-8") != release.to_json():
            return False
        return all(sha256_of(final / name) == found for name, found in release.digests.items())
    except (OSError, UnicodeDecodeError):
        return False


def sha256_of(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _builder(pid: int) -> str:
    """Return what tells one process from all others: host, pid, and its start where known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        start = fields.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        start = ""
    return f"{socket.gethostname()} {pid} {start}\n"


def _is_stale(folder: Path) -> bool:
    pid = int(folder.name.rpartition("-")[2])
    try:
        noted = (folder / _BUILDER).read_text(encoding="utf-8")
    except OSError:
        return not _is_alive(pid)
    if noted.split(" ")[0] != socket.gethostname():
        return False
    return not _is_alive(pid) or noted != _builder(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
