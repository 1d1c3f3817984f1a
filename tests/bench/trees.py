"""The two trees of the bench: a Debian chroot, and the same one after a real upgrade.

Made as root with debootstrap and apt, from the mirror that this machine uses; kept in a folder and
taken from there the next time. FLIPSLOT_BENCH_TREES=DIR names a folder that has v1 and v2 already.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import edits, scratch

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
NEWER = (
    f"deb {MIRROR} {SUITE} main\n"
    f"deb {MIRROR} {SUITE}-updates main\n"
    f"deb http://deb.debian.org/debian-security {SUITE}-security main\n"
)
PACKAGES = Path(__file__).with_name("packages.txt")
INSTALLED = ("jq", "ripgrep", "lua5.4", "tcl")
REMOVED = ("sqlite3",)
UPGRADES = 42
EDITED_FILES = 10
TOUCHED_FILES = 200
NO_SERVICES = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True, slots=True)
class Trees:
    """Two versions of one tree, read only, and how they came about."""

    v1: Path
    v2: Path
    origin: str


def given(environment: Mapping[str, str]) -> Trees | None:
    """Return the trees that the environment names."""
    named = environment.get("FLIPSLOT_BENCH_TREES")
    if not named:
        return None
    folder = Path(named)
    for version in ("v1", "v2"):
        if not (folder / version).is_dir():
            raise SystemExit(f"FLIPSLOT_BENCH_TREES={folder} has no {version}")
    return Trees(folder / "v1", folder / "v2", "given by FLIPSLOT_BENCH_TREES")


def made(folder: Path, packages: Path = PACKAGES) -> Trees:
    """Make the two trees, or take them from the folder where an earlier run made them."""
    trees = Trees(folder / "v1", folder / "v2", f"debootstrap {SUITE} and apt from {MIRROR}")
    if not trees.v1.exists():
        _require_root()
        with _partial(trees.v1) as root:
            _bootstrap(root, packages.read_text().split())
    if not trees.v2.exists():
        _require_root()
        with _partial(trees.v2) as root:
            scratch.copy(trees.v1, root)
            _upgrade(root)
    return trees


def small(folder: Path, source: Path) -> Trees:
    """Make two small trees out of any folder, to try the bench itself."""
    trees = Trees(folder / "v1", folder / "v2", f"a copy of {source} and made-up changes")
    shutil.rmtree(folder, ignore_errors=True)
    for version in (trees.v1, trees.v2):
        version.mkdir(parents=True)
        scratch.copy(source, version)
    files = _files(trees.v2)
    for path in files[5 :: max(1, len(files) // 30)]:
        path.write_bytes(path.read_bytes()[::-1] + b"changed")
    for path in files[9 :: max(1, len(files) // 20)]:
        path.touch()
    edits.add_package(trees.v2, b"added")
    return trees


def _require_root() -> None:
    missing = [tool for tool in ("debootstrap", "chroot") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        raise SystemExit(
            "the trees of the bench are made by root with debootstrap; "
            "or name a folder with v1 and v2: FLIPSLOT_BENCH_TREES=DIR"
        )


@contextlib.contextmanager
def _partial(final: Path) -> Iterator[Path]:
    """Give a folder that gets its final name when all of it is there."""
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(final)


def _bootstrap(root: Path, packages: Sequence[str]) -> None:
    subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(root), MIRROR], check=True)
    guard = root / "usr/sbin/policy-rc.d"  # no service starts in a chroot
    guard.write_text(NO_SERVICES)
    guard.chmod(0o755)
    (root / "usr/share/man/man1").mkdir(parents=True, exist_ok=True)  # openjdk's links go there
    _like_this_machine(root)
    with _proc(root):
        _apt(root, "install", "--no-install-recommends", *packages)
        _clean(root)


def _upgrade(root: Path) -> None:
    """Upgrade about 40 packages, install some, remove one; edit and touch files."""
    (root / "etc/apt/sources.list").write_text(NEWER)
    with _proc(root):
        _apt(root, "update")
        _apt(root, "install", "--no-install-recommends", "--only-upgrade", *_upgradable(root))
        _apt(root, "install", "--no-install-recommends", *INSTALLED)
        _apt(root, "remove", *REMOVED)
        _clean(root)
    for path in [one for one in _files(root / "etc") if one.suffix == ".conf"][:EDITED_FILES]:
        with path.open("a") as file:
            file.write("# edited\n")
    files = _files(root / "usr")
    for path in files[7 :: max(1, len(files) // TOUCHED_FILES)][:TOUCHED_FILES]:
        path.touch()


def _upgradable(root: Path) -> list[str]:
    done = subprocess.run(
        ["chroot", str(root), "apt-get", "-s", "upgrade"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst "))
    if not names:
        raise SystemExit(f"nothing of {root} can be upgraded: there is no second version")
    return names[:UPGRADES]


def _like_this_machine(root: Path) -> None:
    """Let apt in the chroot reach the mirror in the way that apt here does."""
    if (resolv := Path("/etc/resolv.conf")).exists():
        shutil.copyfile(resolv, root / "etc/resolv.conf")
    for proxy in Path("/etc/apt/apt.conf.d").glob("*proxy*"):
        shutil.copyfile(proxy, root / "etc/apt/apt.conf.d" / proxy.name)


def _apt(root: Path, *arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    command = ["chroot", str(root), "apt-get", "-y", "-q", *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def _clean(root: Path) -> None:
    """Remove what apt would load again, as builders of images do."""
    _apt(root, "clean")
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists").mkdir()


@contextlib.contextmanager
def _proc(root: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)


def _files(root: Path) -> list[Path]:
    """Return the files below a folder, sorted; symlinks are not followed."""
    return sorted(
        path
        for folder, _, names in os.walk(root)
        for path in (Path(folder) / name for name in names)
        if path.is_file() and not path.is_symlink()
    )


def counted(root: Path) -> str:
    """Read a tree, and say how big it is."""
    files, size_bytes, directories = 0, 0, 0
    seen: set[int] = set()
    for folder, _, names in os.walk(root):
        directories += 1
        for name in names:
            files += 1
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                seen.add(status.st_ino)
                size_bytes += status.st_size
                path.read_bytes()
    return f"{files:,} files and {directories:,} directories, {size_bytes / 1e9:.2f} GB"
