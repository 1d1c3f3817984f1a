"""Other programs read what we write: xorriso, bsdtar, pycdlib."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from builder.iso9660.layout import plan_layout
from builder.iso9660.parameters import Parameters, Placement
from builder.tree import Kind, Node, Tree
from tests.builder.iso9660.trees import directory, file, symlink, tree_of, volume_of

SEQUENTIAL = Parameters(placement=Placement.SEQUENTIAL)
PLACEMENTS = pytest.mark.parametrize("placement", list(Placement))


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def sample() -> Tree:
    """Names, targets, times and modes that other programs can restore without root."""
    uid, gid = os.getuid(), os.getgid()
    long = b"n" * 255
    nodes = [
        directory(b"", mode=0o750),
        directory(b"/etc", mtime_s=5),
        directory(b"/etc/conf.d"),
        file(b"/etc/UPPER.conf", b"upper"),
        file(b"/etc/upper.conf", b"lower", mtime_s=2**31 - 1),
        file(b"/etc/" + long, b"long"),
        file(b"/etc/na\xc3\xafve \xff", b"bytes"),
        symlink(b"/etc/" + b"l" * 200, b"../" * 90 + long),
        symlink(b"/abs", b"/usr//lib/"),
        symlink(b"/dot", b"."),
        symlink(b"/up", b"../.."),
        file(b"/hard-1", b"h" * 5000, group=1),
        file(b"/hard-2", b"h" * 5000, group=1),
        file(b"/big", bytes(range(256)) * 1000),
        file(b"/empty"),
        *(directory(b"/deep" + b"/d" * depth) for depth in range(12)),
        file(b"/deep" + b"/d" * 11 + b"/bottom", b"bottom"),
        *(file(b"/etc/conf.d/many-%04d" % n, b"%d" % n) for n in range(300)),
    ]
    return tree_of(node._replace(uid=uid, gid=gid) for node in nodes)


def restored(root: Path, node: Node, link_times: bool) -> tuple[object, ...]:
    path = os.fsencode(root) + node.path
    found = os.lstat(path)
    is_link = stat.S_ISLNK(found.st_mode)
    return (
        stat.S_IMODE(found.st_mode) if not is_link else 0o777,
        found.st_uid,
        found.st_gid,
        int(found.st_mtime) if link_times or not is_link else node.mtime_s,
        found.st_nlink if node.kind is not Kind.DIRECTORY else node.links,
        os.readlink(path) if is_link else b"",  # noqa: PTH115 - Path joins doubled slashes
        Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(found.st_mode) else b"",
    )


def expected(node: Node) -> tuple[object, ...]:
    content = node.content if isinstance(node.content, bytes) else b""
    return node.mode, node.uid, node.gid, node.mtime_s, node.links, node.target, content


@needs("xorriso")
@PLACEMENTS
def test_xorriso_restores_the_tree(tmp_path: Path, placement: Placement) -> None:
    tree = sample()
    image, out = tmp_path / "image.iso", tmp_path / "out"
    image.write_bytes(volume_of(plan_layout(tree, Parameters(placement=placement))))
    command = ["xorriso", "-abort_on", "WARNING", "-hardlinks", "on", "-indev", str(image)]
    command += ["-osirrox", "on:auto_chmod_off", "-extract", "/", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    # xorriso does not restore the times of symlinks, and takes doubled slashes for one
    seen = [n._replace(target=n.target.replace(b"//", b"/")) for n in tree]
    assert {n.path: restored(out, n, link_times=False) for n in seen} == {
        n.path: expected(n) for n in seen
    }
    assert sum(len(names) + len(files) for _, names, files in os.walk(out)) == len(tree) - 1


@needs("bsdtar")
def test_bsdtar_restores_a_sequential_tree(tmp_path: Path) -> None:
    # It reads a volume as a stream, and gives up where a directory lies before its parent.
    tree = sample()
    image, out = tmp_path / "image.iso", tmp_path / "out"
    image.write_bytes(volume_of(plan_layout(tree, SEQUENTIAL)))
    out.mkdir()
    subprocess.run(["bsdtar", "-xpf", str(image)], cwd=out, check=True, capture_output=True)
    inner = [n for n in tree if n.path]  # bsdtar leaves the time of where it unpacks
    assert {n.path: restored(out, n, link_times=True) for n in inner} == {
        n.path: expected(n) for n in inner
    }


@PLACEMENTS
def test_pycdlib_finds_the_tree(tmp_path: Path, placement: Placement) -> None:
    import pycdlib

    tree = sample()
    image = tmp_path / "image.iso"
    image.write_bytes(volume_of(plan_layout(tree, Parameters(placement=placement))))
    iso = pycdlib.PyCdlib()
    iso.open(str(image))
    assert iso.has_rock_ridge()
    found: dict[bytes, object] = {}
    todo = [(b"", iso.get_record(rr_path="/"))]
    while todo:
        path, record = todo.pop()
        for child in iso.list_children(iso_path=iso.full_path_from_dirrecord(record)):
            if child is None or child.is_dot() or child.is_dotdot():
                continue
            name = path + b"/" + child.rock_ridge.name()
            found[name] = (
                child.rock_ridge.get_file_mode(),
                child.rock_ridge.symlink_path() if child.rock_ridge.is_symlink() else b"",
                child.get_data_length() if child.is_file() else 0,
            )
            if child.is_dir():
                todo.append((name, child))
    iso.close()
    kinds = {Kind.DIRECTORY: stat.S_IFDIR, Kind.FILE: stat.S_IFREG, Kind.SYMLINK: stat.S_IFLNK}
    assert found == {n.path: (kinds[n.kind] | n.mode, n.target, n.size) for n in tree if n.path}
