"""The builder as an ordinary user: run as root these tests become nobody in a child."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import browse
from builder.build import build
from builder.verify import verify
from slots.manifest import Format, Release
from tests.builder.conftest import order

NOBODY = 65_534


# The interpreter may lie where nobody may not look: everything is imported before the change.
AS_USER = """
import os, sys
import _strptime, email.parser, grp, importlib.metadata, pwd, tempfile, traceback
import rich.console, typer.rich_utils
importlib.metadata.version("flipslot")
from builder.cli import main
user = int(sys.argv.pop(1))
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
main()
"""


def image(*arguments: str | Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command `image`, as another user if one is given."""
    return subprocess.run(
        [sys.executable, "-c", AS_USER, str(user), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that nobody may pass; that of pytest is closed to others."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    with tempfile.TemporaryDirectory(prefix="flipslot-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def open_place(tmp_path: Path) -> Path:
    """A folder that nobody may write to."""
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    return place


@pytest.mark.parametrize("format_", ["uzip", "iso9660", "squashfs"])
def test_root_and_an_ordinary_user_build_the_same_bytes(
    chroot: Path, open_place: Path, format_: str
) -> None:
    (chroot / "etc").chmod(0o755)
    (chroot / "etc/shadow").chmod(0o644)
    os.chown(chroot, 12, 13)
    ours, theirs = open_place.parent / "ours", open_place / "theirs"
    words = ("build", "--source", chroot, "--format", format_, "--output")
    assert image(*words, ours).returncode == 0
    done = image(*words, theirs, user=NOBODY)
    assert done.returncode == 0, done.stderr
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("format_", ["uzip", "squashfs"])
def test_an_ordinary_user_builds_with_the_owners_of_an_mtree_file(
    chroot: Path, open_place: Path, format_: str
) -> None:
    os.mknod(chroot / "usr/lib/null", 0o020666, os.makedev(1, 300))
    os.chown(chroot / "etc/passwd", 80, 70_000)
    built = image(
        "build", "--source", chroot, "--format", format_, "--output", open_place.parent / "ours"
    )
    assert built.returncode == 0
    copy = open_place / chroot.name
    subprocess.run(["cp", "-a", str(chroot), str(copy)], check=True)
    (copy / "usr/lib/null").unlink()  # no user could make it: the mtree file does
    subprocess.run(["chown", "-Rh", f"{NOBODY}:{NOBODY}", str(copy)], check=True)
    spec = open_place.parent / "ours.mtree"
    words = ("build", "--source", copy, "--format", format_, "--mtree", spec)
    done = image(*words, "--output", open_place / "theirs", user=NOBODY)
    assert done.returncode == 0, done.stderr
    assert (open_place / "theirs").read_bytes() == (open_place.parent / "ours").read_bytes()


def test_unreadable_files_are_all_named_and_nothing_is_made(chroot: Path, open_place: Path) -> None:
    for number in range(12):
        (chroot / f"usr/lib/secret{number:02}").touch(mode=0o600)
    out = open_place / "image"
    done = image("build", "--source", chroot, "--output", out, user=NOBODY)
    assert done.returncode == 9
    assert "cannot read 13 of" in done.stderr
    assert "/etc, /usr/lib/secret00" in done.stderr
    assert "and 3 more" in done.stderr
    assert list(open_place.iterdir()) == []


@pytest.mark.parametrize("format_", ["uzip", "squashfs", "erofs"])
def test_an_ordinary_user_extracts_and_is_told_that_owners_are_left_out(
    chroot: Path, open_place: Path, format_: str
) -> None:
    os.mknod(chroot / "usr/lib/null", 0o020666, os.makedev(1, 3))
    os.chown(chroot / "etc/passwd", 80, 80)
    file = open_place.parent / "image"
    assert image("build", "--source", chroot, "--format", format_, "--output", file).returncode == 0
    done = image("extract", file, open_place / "out", user=NOBODY)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines()]
    notices = [one["message"] for one in said if one["event"] == "notice"]
    assert notices == [
        "owners are left out: only root can set them",
        "devices are left out: /usr/lib/null",
    ]
    status = (open_place / "out/etc/passwd").stat()
    assert (status.st_uid, int(status.st_mtime)) == (
        NOBODY,
        int((chroot / "etc/passwd").stat().st_mtime),
    )
    assert stat.S_IMODE((open_place / "out/bin/sh").stat().st_mode) == 0o4755
    assert (open_place / "out/bin/sh").stat().st_nlink == 2


def test_root_restores_owners_and_devices(chroot: Path, open_place: Path) -> None:
    os.mknod(chroot / "usr/lib/null", 0o020666, os.makedev(5, 300))
    os.chown(chroot / "etc/passwd", 80, 70_000)
    os.chown(chroot / "bin/also", 81, 81, follow_symlinks=False)
    formats: tuple[Format, ...] = ("uzip", "squashfs", "erofs")
    for format_ in formats:
        file, out = open_place / format_, open_place / f"out-{format_}"
        build(order(chroot, file, format_), lambda _event: None)
        with browse.opened(file) as one:
            browse.extract(one, out, lambda _event: None)
        assert (out / "usr/lib/null").stat().st_rdev == os.makedev(5, 300)
        assert (out / "etc/passwd").stat().st_gid == 70_000
        assert (out / "bin/also").lstat().st_uid == 81
        verify(file, lambda _event: None)


def test_erofs_with_other_owners_is_written_from_a_copy_by_root_alone(
    chroot: Path, open_place: Path
) -> None:
    (chroot / "etc").chmod(0o755)
    (chroot / "etc/shadow").chmod(0o644)
    recipe = open_place / "other.toml"
    recipe.write_text(f'source = "{chroot}"\nformats = ["erofs"]\nmount_points = ["dev"]\n')
    done = image("build", recipe, "--output", open_place / "image")
    assert done.returncode == 0, done.stderr
    listed = json.loads(image("ls", "--json", open_place / "image").stdout)["entries"]
    assert "/dev" in {entry["path"] for entry in listed}
    assert [path.name for path in open_place.iterdir() if path.is_dir()] == []
    assert Release.from_json((open_place / "image.release.json").read_bytes()).name == "other"
