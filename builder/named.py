"""What a command line names: an image, or a release by its folder or by what images/out calls it.

A path that is there wins; the rest is found as `deploy --image` finds it (deployer/releases.py).
"""

from pathlib import Path

from builder.description import description
from builder.places import MANIFEST
from builder.releases import described_at
from slots.words import unknown_release


def place(wanted: str, out: Path) -> Path:
    """Return the path of what is wanted: its own, or that of a release's folder below `out`."""
    path = Path(wanted)
    if _is_there(path):
        return path
    folder = None if "/" in wanted else _release_folder(wanted, out)
    if folder is None:
        raise unknown_release(wanted, out)
    return folder


def image(wanted: str, out: Path) -> Path:
    """Return the image that is wanted; of a release its first, for all hold the same tree."""
    return first_image(place(wanted, out))


def first_image(path: Path) -> Path:
    """Return the first image of a release's folder or description; any other path as it is."""
    if path.is_dir() or path.name == MANIFEST:
        found = description(path)
        if found is not None:
            return found.folder / found.artefacts[0].file
    return path


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # or cannot be looked at: who opens it says why
    return True


def _release_folder(wanted: str, out: Path) -> Path | None:
    """Return the folder of a release: NAME-VERSION, the newest of NAME, or that of an id."""
    if (out / wanted / MANIFEST).is_file():
        return out / wanted
    found = [(path.parent, described_at(path)) for path in _manifests(out)]
    for folder, release in found:
        # One that cannot be read may be the newest of that name: no older one stands in for it.
        if folder.name.startswith(f"{wanted}-") if release is None else release.name == wanted:
            return folder
    return next((folder for folder, one in found if one is not None and one.id == wanted), None)


def _manifests(out: Path) -> list[Path]:
    """Return the descriptions of releases below `out`, the one written last first."""
    paths = [one for one in out.glob(f"*/{MANIFEST}") if one.is_file()]
    ours = [one for one in paths if not one.parent.name.startswith(".")]  # a killed build's
    return sorted(ours, key=lambda one: (one.stat().st_mtime_ns, one), reverse=True)
