"""Two volumes without digests beside them: what is stored alike is equal, the rest is decoded."""

import os
import random
import shutil
from pathlib import Path

import pytest

from builder import browse, compare
from builder.build import build
from builder.opened.iso9660 import Iso9660Image
from builder.recipe import Packing
from builder.tree import Kind
from builder.uzip.reader import UzipReader
from slots.errors import BuildError, Refused, VerificationError
from slots.events import Event
from slots.manifest import Format
from tests.builder import readers
from tests.builder.conftest import WHEN_S, order

CLUSTER_BYTES = 16_384


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files larger and smaller than a cluster; half of them do not compress."""
    chance, folder = random.Random(3), tmp_path / "source"  # noqa: S311 - the same always
    folder.mkdir()
    for number in range(60):
        size = chance.choice([0, 10, 5000, 40_000, 90_000])
        data = chance.randbytes(size) if number % 2 else b"%d " % number * (size // 4)
        (folder / f"{number:02}").write_bytes(data)
    os.link(folder / "07", folder / "again")
    _touch_all(folder)
    return folder


def _touch_all(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (WHEN_S, WHEN_S))


def _image(source: Path, image: Path, format_: Format = "uzip", cluster: int | None = None) -> Path:
    wanted = order(source, image, format_)
    packing = Packing(cluster=cluster or (CLUSTER_BYTES if format_ == "uzip" else None))
    build(type(wanted)(wanted.recipe, wanted.formats, image, packing), lambda _event: None)
    for described in image.parent.glob(f"{image.name}.*"):
        described.unlink()
    return image


def _edit(path: Path, at: int) -> None:
    """Change one byte, and neither size nor time."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, (WHEN_S, WHEN_S))


@pytest.mark.parametrize(
    ("format_", "cluster"), [("uzip", None), ("uzip", 32_768), ("iso9660", None)]
)
def test_one_byte_is_found_whatever_size_and_time_say(
    source: Path, tmp_path: Path, format_: Format, cluster: int | None
) -> None:
    old = _image(source, tmp_path / "old")
    sizes = {path.name: path.stat().st_size for path in source.iterdir()}
    edited = sorted(name for name, size in sizes.items() if size > 1000 and name != "07")[::4]
    for name in edited:
        _edit(source / name, sizes[name] - 1)
    new = _image(source, tmp_path / "new", format_, cluster)
    found = compare.compare(old, new, read=False)
    assert [one.path.decode() for one in found.changed if "content" in one.changes] == [
        f"/{name}" for name in edited
    ]
    assert {tuple(one.changes) for one in found.changed} == {("content",)}
    assert all(len(pair[0]) == 64 for one in found.changed for pair in one.changes.values())


def test_of_clusters_that_are_stored_alike_none_with_files_alone_is_decoded(
    source: Path, tmp_path: Path
) -> None:
    old = _image(source, tmp_path / "old")
    with browse.opened(old) as image:
        assert isinstance(image, Iso9660Image)
        files = {n.path: image.offset(n) for n in image.tree() if n.kind is Kind.FILE and n.size}
    data = bytearray(old.read_bytes())
    last = max(files.values()) // CLUSTER_BYTES
    with old.open("rb") as file:
        at = UzipReader(file, "old").toc[last]
    data[at : at + 4] = b"XXXX"  # in both: equal, though neither decodes
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(data)
    assert compare.compare(tmp_path / "a", tmp_path / "b", read=True).is_empty
    with pytest.raises(VerificationError, match=f"cluster {last} does not decode"):
        compare.compare(tmp_path / "a", old, read=True)


def test_a_wrong_specification_beside_an_image_is_not_believed(
    source: Path, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        build(order(source, tmp_path / name, "uzip"), lambda _event: None)
        _edit(source / "59", 3)
    honest = compare.compare(tmp_path / "old", tmp_path / "new", read=True)
    assert [one.path for one in honest.changed] == [b"/59"]
    assert compare.compare(tmp_path / "old", tmp_path / "new", read=False) == honest
    shutil.copy(tmp_path / "old.mtree", tmp_path / "new.mtree")
    with pytest.raises(VerificationError, match="is not the one that"):
        compare.compare(tmp_path / "old", tmp_path / "new", read=False)
    for suffix in (".mtree", ".release.json"):  # a whole description, but another image's
        shutil.copy(tmp_path / f"old{suffix}", tmp_path / f"new{suffix}")
    text = (tmp_path / "new.release.json").read_text().replace('"old', '"new')
    (tmp_path / "new.release.json").write_text(text)
    assert compare.compare(tmp_path / "old", tmp_path / "new", read=False) == honest


def test_links_that_unsquashfs_does_not_tell_apart_are_refused(tmp_path: Path) -> None:
    readers.need("unsquashfs")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_text("one")
    (folder / "a\nb").write_text("other")
    image = _image(folder, tmp_path / "clear", "squashfs", 65_536)
    with browse.opened(image) as one:
        assert [node.path for node in one.tree()] == [b"", b"/a", b"/a\nb"]
    os.link(folder / "a\nb", folder / "c")
    for further in ("unclear", "with-more-behind"):
        image = _image(folder, tmp_path / further, "squashfs", 65_536)
        with browse.opened(image) as one, pytest.raises(Refused, match="links to /a from"):
            one.tree()
        (folder / "d").touch()


def test_targets_that_end_with_a_newline_are_read_or_refused_but_never_guessed(
    tmp_path: Path,
) -> None:
    readers.need("unsquashfs")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "A").symlink_to("x\n")
    (folder / "b").write_text("content")
    (folder / "c\nd").touch()
    image = _image(folder, tmp_path / "clear", "squashfs", 65_536)
    with browse.opened(image) as one:
        tree = one.tree()
        found = {node.path: node.target for node in tree}
        assert found == {b"": b"", b"/A": b"x\n", b"/b": b"", b"/c\nd": b""}
        assert [b"".join(chunks) for _, chunks in one.contents([tree.nodes[2]])] == [b"content"]
    (folder / "b").unlink()  # a target `x\n` and a name `c\nd`, or `x\n\nc` and `d`?
    image = _image(folder, tmp_path / "unclear", "squashfs", 65_536)
    with browse.opened(image) as one, pytest.raises(Refused, match="where the target of /A ends"):
        one.tree()


@pytest.mark.parametrize("was_there", [False, True])
def test_an_extract_that_fails_leaves_the_folder_as_it_was(
    source: Path, tmp_path: Path, *, was_there: bool
) -> None:
    image = _image(source, tmp_path / "image")
    data = bytearray(image.read_bytes())
    with image.open("rb") as file:
        reader = UzipReader(file, "image")
        data[reader.toc[reader.cluster_count // 2]] ^= 0xFF
    image.write_bytes(data)
    out = tmp_path / "out"
    if was_there:
        out.mkdir()
    with browse.opened(image) as one, pytest.raises(VerificationError, match="does not decode"):
        browse.extract(one, out, _ignore)
    assert out.exists() is was_there
    assert not was_there or list(out.iterdir()) == []


def test_a_full_disk_is_told_with_a_hint_that_extract_has(source: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root mounts a small disk")
    image, small = _image(source, tmp_path / "image"), tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=200k tmpfs '{small}' 2>/dev/null"):  # noqa: S605 - ours
        pytest.skip("no tmpfs may be mounted here")
    try:
        with browse.opened(image) as one, pytest.raises(BuildError, match="no space left") as said:
            browse.extract(one, small / "out", _ignore)
        assert said.value.hint == "free some, or name a folder elsewhere"
        assert not (small / "out").exists()
    finally:
        os.system(f"umount '{small}'")  # noqa: S605 - ours


def _ignore(_event: Event) -> None:
    pass
