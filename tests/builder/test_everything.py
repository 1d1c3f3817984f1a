"""A tree with all that a tree can hold, in every format, judged entry by entry."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builder import browse
from builder.build import Order, build
from builder.recipe import OwnerSettings, Packing, recipe_of
from builder.verify import verify
from slots.errors import BuildError
from slots.events import Event, Notice
from slots.manifest import Codec, Format
from tests.builder import readers
from tests.builder.conftest import order
from tests.builder.readers import Description
from tests.builder.trees import make_socket

TIME_MAX_S = 2**31 - 1
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices and owners")
TARGETS = {
    b"root": b"/",
    b"up": b"..",
    b"here": b".",
    b"ups": b"../../..",
    b"long": b"t" * 255 + b"/" + b"u" * 255 + b"/" + b"v" * 255 + b"/" + b"w" * 255,
    b"doubled": b"/usr//lib/",
    b"bytes": b"caf\xe9\n x",
}
NAMES = (
    b"\xff\xfe", b"new\nline", b"tab\t", b" ", b"-rf", b"*", b"n" * 255, b"Twin", b"twin", b"TWIN",
    b"readme.long.1", b"readme.long.2", b"README.LONG.3", b"..a", b"\\x41", b"'\"$`",
)  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, made on the disk by root."""
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    top = os.fsencode(root)
    _names_and_links(top)
    _owners_and_modes(root)
    for name, kind, major, minor in (
        ("null", 0o020666, 1, 3), ("big", 0o020600, 4095, 1_048_575), ("sda", 0o060660, 8, 300),
    ):  # fmt: skip
        os.mknod(root / name, kind, os.makedev(major, minor))
    os.mkfifo(root / "fifo", 0o640)
    deep = root / "/".join(["d"] * 20).lstrip("/")
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("20 levels down")
    (root / "empty").touch()
    with (root / "sparse").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
        file.truncate(9_000_000)
    for number in range(1200):
        (root / "d" / f"mangled alike {number:05}").write_bytes(b"%d" % number)
    _times(root)
    return root


def _names_and_links(top: bytes) -> None:
    for folder in (b"/names", b"/links", b"/hard", b"/hard/sub", b"/empty dir"):
        os.mkdir(top + folder)  # noqa: PTH102 - bytes
    for number, name in enumerate(NAMES):
        Path(os.fsdecode(top + b"/names/" + name)).write_bytes(b"%d" % number)
    for name, target in TARGETS.items():
        os.symlink(target, top + b"/links/" + name)  # noqa: PTH211 - bytes
    Path(os.fsdecode(top + b"/hard/one")).write_bytes(os.urandom(200_000))
    for name in (b"/hard/two", b"/hard/sub/three", b"/zz"):
        os.link(top + b"/hard/one", top + name)


def _owners_and_modes(root: Path) -> None:
    for name, mode, uid, gid in (
        ("setuid", 0o4755, 0, 0), ("setgid", 0o2755, 7, 8), ("none", 0, 70_000, 4_000_000_000),
        ("all", 0o7777, 65_535, 65_536),
    ):  # fmt: skip
        (root / name).write_text(name)
        os.chown(root / name, uid, gid)
        (root / name).chmod(mode)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    os.chown(root / "links" / "up", 81, 82, follow_symlinks=False)


def _times(root: Path) -> None:
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        at = 1_000_000_000 + number
        os.utime(path, (at, at), follow_symlinks=False)
    os.utime(root / "null", (-86_400, -86_400))
    os.utime(root / "fifo", (2**31 + 5, 2**31 + 5))
    os.utime(root, (5, 5))


@pytest.fixture(scope="module")
def expected(everything: Path) -> Description:
    """What os tells of the tree, with its times within what images hold."""
    found = readers.on_disk(everything)
    for one in found.values():
        one["mtime_s"] = min(max(int(str(one["mtime_s"])), 0), TIME_MAX_S)
    return found


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The volumes that slower readers have seen already."""
    return set()


def _others_agree(volume: Path, expected: Description) -> None:
    """Hold pycdlib and xorriso against the tree."""
    found = readers.by_pycdlib(volume)
    assert readers.differences(found, readers.as_mounted(expected)) == {}
    if shutil.which("xorriso") is not None:
        found = readers.by_xorriso(volume, volume.with_name("restored"))
        wanted = readers.as_xorriso_restores(expected)
        assert readers.differences(readers.as_xorriso_restores(found), wanted) == {}


@AS_ROOT
@pytest.mark.parametrize("cluster", [16_384, 65_536, 131_072])
@pytest.mark.parametrize("codec", ["zstd", "zlib", "lzma"])
def test_the_judges_read_every_entry_of_a_uzip_as_it_is(  # noqa: PLR0917 - fixtures
    everything: Path,
    expected: Description,
    asked: set[str],
    tmp_path: Path,
    codec: Codec,
    cluster: int,
) -> None:
    image = tmp_path / "image.uzip"
    packing = Packing(codec=codec, cluster=cluster, level=1)
    build(Order(recipe_of(everything), ("uzip",), image, packing, threads=2), lambda _event: None)
    data = readers.volume_in(image)
    assert readers.differences(readers.judged(data), readers.as_mounted(expected)) == {}
    assert readers.differences(readers.browsed(image), expected) == {}
    if (digest := readers.sha256([data])) not in asked:  # the same volume whatever the codec
        asked.add(digest)
        (tmp_path / "volume").write_bytes(data)
        _others_agree(tmp_path / "volume", expected)


@AS_ROOT
@pytest.mark.parametrize("format_", ["iso9660", "squashfs", "erofs"])
def test_every_other_format_holds_every_entry_as_it_is(
    everything: Path,
    expected: Description,
    tmp_path: Path,
    format_: Format,
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    image = tmp_path / "image"
    if format_ == "erofs":  # its tool cuts names of 255 bytes: that is an error, and told
        with pytest.raises(BuildError, match=r"255 bytes, erofs holds 254.*\[name-length\]"):
            build(order(everything, image, format_), lambda _event: None)
    expected = _build(everything, image, format_, expected)
    assert readers.differences(readers.browsed(image), expected) == {}
    verify(image, lambda _event: None)
    if format_ == "iso9660":
        _others_agree(image, expected)
    if format_ == "squashfs":
        found = readers.by_unsquashfs(image, tmp_path / "restored")
        assert readers.differences(found, expected) == {}


def _build(everything: Path, image: Path, format_: Format, expected: Description) -> Description:
    """Build an image of all that its format holds, and return what that is."""
    wanted = order(everything, image, format_)
    if format_ != "erofs":
        build(wanted, lambda _event: None)
        return expected
    recipe = wanted.recipe.model_copy(update={"exclude": ("n" * 255,)})
    build(replace(wanted, recipe=recipe), lambda _event: None)
    return {path: one for path, one in expected.items() if b"n" * 255 not in path}


@AS_ROOT
@pytest.mark.parametrize("format_", ["uzip", "iso9660", "squashfs", "erofs"])
def test_what_is_extracted_is_the_tree_entry_by_entry(
    everything: Path, expected: Description, tmp_path: Path, format_: Format
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    wanted = _build(everything, tmp_path / "image", format_, expected)
    found = readers.extracted(tmp_path / "image", tmp_path / "out")
    if format_ in {"uzip", "iso9660"}:
        found, wanted = readers.joined_by_content(found), readers.joined_by_content(wanted)
    assert readers.differences(found, wanted) == {}


@AS_ROOT
def test_times_that_no_format_holds_are_clamped_with_one_notice_and_sockets_told(
    everything: Path, tmp_path: Path, events: list[Event]
) -> None:
    folder = everything / "empty dir"
    before = folder.stat().st_mtime_ns
    make_socket(folder, "sock")
    try:
        build(order(everything, tmp_path / "image"), events.append)
    finally:
        (folder / "sock").unlink()
        os.utime(folder, ns=(before, before))
    told = [one.message for one in events if isinstance(one, Notice)]
    assert [line for line in told if "1970" in line] == [
        "times outside 1970 to 2038 are clamped: /fifo, /null"
    ]
    assert "sockets are left out: /empty dir/sock [socket]" in told


@pytest.mark.torture
@pytest.mark.parametrize("format_", ["squashfs", "erofs"])
def test_a_file_beyond_cd9660_is_held_by_the_other_formats(tmp_path: Path, format_: Format) -> None:
    readers.need(*readers.TOOLS[format_])
    source = tmp_path / "source"
    source.mkdir()
    with (source / "huge").open("wb") as file:
        file.truncate(2**32)
    build(order(source, tmp_path / "image", format_), lambda _event: None)
    with browse.opened(tmp_path / "image") as one:
        assert one.tree().nodes[1].size == 2**32
    with pytest.raises(BuildError, match="file-size"):
        build(order(source, tmp_path / "uzip"), lambda _event: None)


METALOG = """#mtree 2.0
. type=dir uname=root gname=wheel mode=0755 tags=package=runtime
./bin type=dir uname=root gname=wheel mode=0755
./bin/cat type=file uname=root gname=wheel mode=0555 size=3 time=1700000000.0 flags=uarch \
sha256=00
./bin/gone type=file optional mode=0555
./bin/sh type=link uname=root gname=wheel mode=0755 link=cat
./dev type=dir uname=root gname=wheel mode=0555
/set type=char uname=root gname=wheel mode=0666
./dev/null device=native,1,3
./dev/big device=native,0xfff,0xfffff
./dev/disk type=block mode=0640 gid=5 device=native,8,16
/unset type mode
./var/run/fifo type=fifo mode=0600
./var/empty type=dir mode=0555 uid=70000 gid=4000000000
"""


@pytest.mark.parametrize("format_", ["uzip", "iso9660", "squashfs"])
def test_a_metalog_gives_devices_and_owners_that_no_user_could_make(
    tmp_path: Path, format_: Format
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    source = tmp_path / "world"
    (source / "bin").mkdir(parents=True)
    (source / "var/run").mkdir(parents=True)
    (source / "bin/cat").write_text("cat")
    (tmp_path / "METALOG").write_text(METALOG)
    wanted = replace(order(source, tmp_path / "image", format_), mtree=tmp_path / "METALOG")
    build(wanted, lambda _event: None)
    found = readers.browsed(tmp_path / "image")
    assert {
        path: (one["kind"], one["mode"], one["device"])
        for path, one in found.items()
        if path.startswith(b"/dev")
    } == {
        b"/dev": ("dir", 0o555, (0, 0)),
        b"/dev/null": ("char", 0o666, (1, 3)),
        b"/dev/big": ("char", 0o666, (0xFFF, 0xFFFFF)),
        b"/dev/disk": ("block", 0o640, (8, 16)),
    }
    assert (found[b"/bin/cat"]["uid"], found[b"/bin/cat"]["mode"]) == (0, 0o555)
    assert found[b"/bin/cat"]["mtime_s"] == 1_700_000_000
    assert found[b"/bin/sh"]["target"] == b"cat"
    assert found[b"/var/run/fifo"]["kind"] == "fifo"
    assert (found[b"/var/empty"]["uid"], found[b"/var/empty"]["gid"]) == (70_000, 4_000_000_000)
    assert b"/bin/gone" not in found


def test_an_mtree_file_may_name_what_a_recipe_leaves_out(chroot: Path, tmp_path: Path) -> None:
    build(order(chroot, tmp_path / "whole"), lambda _event: None)
    wanted = order(chroot, tmp_path / "part")
    recipe = wanted.recipe.model_copy(update={"exclude": ("usr",)})
    spec = tmp_path / "whole.mtree"
    build(replace(wanted, recipe=recipe, mtree=spec), lambda _event: None)
    assert not any(path.startswith(b"/usr") for path in readers.browsed(tmp_path / "part"))


def test_a_device_without_numbers_is_refused(chroot: Path, tmp_path: Path) -> None:
    (tmp_path / "spec").write_text("./null type=char mode=0666 uid=0 gid=0\n")
    wanted = replace(order(chroot, tmp_path / "out" / "image"), mtree=tmp_path / "spec")
    with pytest.raises(BuildError, match="makes /null a char without `device`"):
        build(wanted, lambda _event: None)


@AS_ROOT
@pytest.mark.parametrize("format_", ["uzip", "squashfs", "erofs"])
def test_an_owner_for_one_name_of_a_hard_linked_file_holds_for_the_file(
    chroot: Path, tmp_path: Path, format_: Format
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    (chroot / "bin/zz").hardlink_to(chroot / "etc/passwd")
    wanted = order(chroot, tmp_path / "image", format_)
    owners = (OwnerSettings(match="bin/zz", uid=70_000, mode="4750"),)
    recipe = wanted.recipe.model_copy(update={"owners": owners})
    build(replace(wanted, recipe=recipe), lambda _event: None)
    verify(tmp_path / "image", lambda _event: None)
    found = readers.browsed(tmp_path / "image")
    for path in (b"/bin/zz", b"/etc/passwd"):
        assert (found[path]["uid"], found[path]["mode"]) == (70_000, 0o4750)
