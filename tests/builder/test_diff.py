import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from builder import compare
from builder.build import build
from builder.diff import Sizes, Travel, diff, travel
from slots.errors import Refused
from slots.index import Index, Piece, from_lines
from slots.manifest import Format
from slots.pack import packed_head
from slots.patch import Copy, Identity, Literal, Patch
from tests.builder import readers
from tests.builder.command import image
from tests.builder.conftest import order

FORMATS: tuple[Format, ...] = ("uzip", "iso9660", "squashfs", "erofs")
NOTHING: dict[bytes, str] = {}
FILE = {"type": "file", "mode": "0644", "uid": "0", "gid": "0", "size": "3", "time": "1.0"}


def test_contents_are_asked_for_only_where_nothing_else_tells_them_apart() -> None:
    asked: list[bytes] = []

    def digests(paths: object) -> dict[bytes, str]:
        assert isinstance(paths, list)
        asked.extend(paths)
        return {path: path.decode() for path in paths}

    old = {b"/same": FILE, b"/size": FILE, b"/known": FILE | {"sha256digest": "a"}}
    new = {b"/same": FILE, b"/size": FILE | {"size": "4"}, b"/known": FILE | {"sha256digest": "b"}}
    found = diff(old, new, digests, digests)
    assert asked == [b"/same", b"/same"]
    assert {one.path: set(one.changes) for one in found.changed} == {
        b"/known": {"content"},
        b"/size": {"content", "size"},
    }


def test_what_travels_is_each_new_piece_once_and_the_packed_table() -> None:
    def index(*digests: str) -> Index:
        pieces = tuple(Piece(10 * at, 10, digest) for at, digest in enumerate(digests))
        return Index("", 10 * len(digests), pieces)

    old = index("t1", "a", "b")
    new = index("t2", "a", "c", "c", "d", "b")
    made = Patch(1, Identity("", 30), Identity("", 60), (Copy(0, 7), Literal(7, 53)))
    with_table = travel(old, new, made, Sizes(55, 6, 4))
    assert with_table == Travel(2, 20, 4, 2, 1, 7, 53, 55, 6, 60)
    assert with_table.total_bytes == 55 + 6, "the pack, and the head"
    without = travel(old, new, made, Sizes(55, 6, None))
    assert without == Travel(3, 30, 0, 2, 1, 7, 53, 55, 6, 60)


@pytest.fixture
def changed(chroot: Path, tmp_path: Path) -> Path:
    """The same directory with one change of every kind."""
    new = tmp_path / "new" / "chroot"
    new.parent.mkdir()
    shutil.copytree(chroot, new, symlinks=True, copy_function=_copy, ignore=_no_fifo)
    os.mkfifo(new / "etc/fifo", 0o600)
    os.utime(new / "etc/fifo", ns=(0, (chroot / "etc/fifo").lstat().st_mtime_ns))
    (new / "bin/bash").unlink()
    os.link(new / "bin/sh", new / "bin/bash")
    (new / "usr/lib/empty").unlink()
    (new / "added").write_text("new")
    _write(new / "etc/passwd", "x" * (new / "etc/passwd").stat().st_size)
    _write(new / "usr/lib/sixteen", "larger" * 20_000)
    os.utime(new / "usr/lib/big", (5, 5))
    (new / "usr/lib/far").unlink()
    (new / "usr/lib/far").symlink_to("near")
    for folder in ("", "bin", "etc", "usr/lib"):
        os.utime(new / folder, ns=(0, (chroot / folder).stat().st_mtime_ns))
    os.utime(new / "usr/lib/far", ns=(0, (chroot / "usr/lib/far").lstat().st_mtime_ns),
             follow_symlinks=False)  # fmt: skip
    return new


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def _no_fifo(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "fifo"]


def _write(path: Path, text: str) -> None:
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(0, before))


EXPECTED = {
    "/etc/passwd": {"content"},
    "/etc/fifo": {"mode"},
    "/usr/lib/big": {"time"},
    "/usr/lib/far": {"target"},
    "/usr/lib/sixteen": {"content", "size"},
}


def _image(source: Path, image: Path, format_: Format) -> Path:
    build(order(source, image, format_), lambda _event: None)
    return image


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("format_", FORMATS)
def test_one_change_of_every_kind_is_found_in_images_of_every_format(
    chroot: Path, changed: Path, tmp_path: Path, format_: Format, read: bool
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    old = _image(chroot, tmp_path / "old.img", "uzip")
    new = _image(changed, tmp_path / "new.img", format_)
    found = compare.compare(old, new, read=read)
    assert found.added == (b"/added",)
    assert found.removed == (b"/usr/lib/empty",)
    assert {one.path.decode(): set(one.changes) for one in found.changed} == EXPECTED
    assert compare.compare(new, new, read=read).is_empty


def test_an_image_that_is_not_the_described_one_is_read(chroot: Path, tmp_path: Path) -> None:
    old = _image(chroot, tmp_path / "old.img", "uzip")
    (chroot / "bin/sh").write_bytes(b"other" * 60_000)
    new = _image(chroot, tmp_path / "new.img", "uzip")
    shutil.copy(new, old)  # its description is now another image's
    assert compare.compare(old, new, read=False).is_empty


def test_what_would_travel_is_told_from_the_indexes(
    chroot: Path, changed: Path, tmp_path: Path
) -> None:
    old = _image(chroot, tmp_path / "old.img", "uzip")
    new = _image(changed, tmp_path / "new.img", "uzip")
    done = image("diff", "--bytes", "--json", str(old), str(new))
    answer = json.loads(done.stdout)
    assert answer["schema"] == "flipslot.diff/1"
    before, after = (
        from_lines(Path(f"{one}.index").read_text().splitlines()).pieces for one in (old, new)
    )
    known = {one.digest for one in before}
    lacking = {one.digest: one.length for one in after[1:] if one.digest not in known}
    table = new.read_bytes()[: after[0].length]
    assert answer["bytes"]["uzip"]["piece_bytes"] == sum(lacking.values())
    assert answer["bytes"]["uzip"]["table_bytes"] == len(gzip.compress(table, 9, mtime=0))
    assert answer["bytes"]["uzip"]["head_bytes"] == len(packed_head(new.read_bytes()[:65_536]))
    assert answer["bytes"]["uzip"]["total_bytes"] == (
        answer["bytes"]["uzip"]["pack_bytes"] + answer["bytes"]["uzip"]["head_bytes"]
    )
    assert 0 < answer["bytes"]["uzip"]["pack_bytes"] < answer["bytes"]["uzip"]["image_bytes"]
    assert 0 < answer["bytes"]["uzip"]["copies"] <= answer["bytes"]["uzip"]["moves"]


def test_releases_are_compared_by_their_folders(
    chroot: Path, changed: Path, tmp_path: Path
) -> None:
    folders = [
        build(order(source, out, "uzip", "iso9660"), lambda _event: None).manifest.parent
        for source, out in ((chroot, tmp_path), (changed, tmp_path))
    ]
    done = image("diff", "--bytes", *map(str, folders))
    lines = done.stdout.splitlines()
    assert lines[:2] == ["- /usr/lib/empty", "+ /added"]
    assert "~ /etc/fifo: mode 0640 → 0600" in lines
    assert "~ /etc/passwd: content" in lines
    assert "1 added, 1 removed, 5 changed" in lines
    assert [line.partition(":")[0] for line in lines[-2:]] == ["uzip", "iso9660"]


def test_what_cannot_be_compared_is_refused(chroot: Path, tmp_path: Path) -> None:
    uzip = _image(chroot, tmp_path / "a", "uzip")
    iso = _image(chroot, tmp_path / "b", "iso9660")
    with pytest.raises(Refused, match="have no format in common"):
        compare.travels(uzip, iso)
    (tmp_path / "b.release.json").unlink()
    with pytest.raises(Refused, match=r"no release\.json describes"):
        compare.travels(uzip, iso)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match=r"no release\.json in"):
        compare.compare(tmp_path / "folder", iso, read=False)
