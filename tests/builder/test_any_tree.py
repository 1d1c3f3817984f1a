"""Any tree that hypothesis makes, laid on a disk, built, and read back by every reader there is."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.build import Order, build
from builder.recipe import Packing, recipe_of
from builder.tree import Kind, Node, Tree
from slots.errors import Refused
from slots.manifest import Format
from tests.builder import readers
from tests.builder.iso9660.trees import tree_of, trees

IS_ROOT = os.geteuid() == 0
FEW = settings(
    max_examples=settings().max_examples // 6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PACKINGS = st.builds(
    Packing,
    codec=st.sampled_from(["zstd", "zlib", "lzma"]),
    cluster=st.sampled_from([16_384, 65_536, 131_072]),
    level=st.just(1),
)


@st.composite
def trees_on_a_disk(draw: st.DrawFn) -> Tree:
    """Any tree that Linux holds, and that this user may make; contents are made when needed."""
    tree = draw(trees(max_nodes=16))
    return tree_of(_possible(node) for node in tree if len(node.path) < 1500)


def _possible(node: Node) -> Node:
    """Bring numbers within what a Linux file system holds; an ordinary user owns what it makes."""
    node = node._replace(
        content=None,
        mode=0o777 if node.kind is Kind.SYMLINK else node.mode,
        uid=min(node.uid, 2**32 - 2),
        gid=min(node.gid, 2**32 - 2),
        mtime_s=min(max(node.mtime_s, -(2**31)), 2**33),
        major=node.major & 0xFFF,
        minor=node.minor & 0xFFFFF,
    )
    if IS_ROOT:
        return node
    kind = Kind.FIFO if node.kind in {Kind.CHARACTER, Kind.BLOCK} else node.kind
    node = node._replace(kind=kind, uid=os.geteuid(), gid=os.getegid(), major=0, minor=0)
    return node._replace(mode=node.mode | (0o700 if kind is Kind.DIRECTORY else 0o400))


def _content(node: Node) -> bytes:
    """Bytes of their own for each file, some of which pack well and some not."""
    seed = node.path if node.group is None else b"%d" % node.group
    block = hashlib.sha512(seed).digest() * (1 if len(seed) % 2 else 600)
    if len(seed) % 3 == 0:
        block = hashlib.shake_128(seed).digest(node.size + 1)
    return (block * (node.size // len(block) + 1))[: node.size]


def _lay(tree: Tree, root: Path) -> None:
    """Make a tree on the disk as it is."""
    _lay_bare(tree, root, with_devices=True)
    for node in reversed(tree.nodes):
        path = os.fsencode(root) + node.path
        if IS_ROOT:
            os.chown(path, node.uid, node.gid, follow_symlinks=False)
        if node.kind is not Kind.SYMLINK:
            os.chmod(path, node.mode)  # noqa: PTH101 - bytes
        os.utime(path, (node.mtime_s, node.mtime_s), follow_symlinks=False)


def _lay_bare(tree: Tree, root: Path, *, with_devices: bool) -> None:
    """Make a tree as anybody may: without its owners, modes, times and devices."""
    firsts: dict[int, bytes] = {}
    for node in tree:
        path = os.fsencode(root) + node.path
        if node.kind in {Kind.CHARACTER, Kind.BLOCK} and not with_devices:
            continue
        if node.group is not None and (first := firsts.setdefault(node.group, path)) != path:
            os.link(first, path, follow_symlinks=False)
            continue
        match node.kind:
            case Kind.DIRECTORY:
                os.mkdir(path)  # noqa: PTH102 - bytes
            case Kind.FILE:
                Path(os.fsdecode(path)).write_bytes(_content(node))
            case Kind.SYMLINK:
                os.symlink(node.target, path)  # noqa: PTH211 - bytes
            case Kind.FIFO:
                os.mkfifo(path)
            case Kind.CHARACTER:
                os.mknod(path, stat.S_IFCHR, os.makedev(node.major, node.minor))
            case Kind.BLOCK:
                os.mknod(path, stat.S_IFBLK, os.makedev(node.major, node.minor))


def _expected(tree: Tree) -> readers.Description:
    nodes = Tree(tuple(n._replace(mtime_s=min(max(n.mtime_s, 0), 2**31 - 1)) for n in tree))
    files = (node for node in tree if node.kind is Kind.FILE)
    return readers.described(
        nodes,
        {
            node.path if node.group is None else node.group: readers.sha256([_content(node)])
            for node in files
        },
    )


@contextmanager
def _built(tree: Tree, format_: Format, packing: Packing) -> Iterator[Path]:
    """Yield an image of a tree, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="flipslot-") as name:
        folder = Path(name)
        _lay(tree, folder / "tree")
        _build(folder, "tree", format_, packing)
        yield folder / "image"


def _build(
    folder: Path, source: str, format_: Format, packing: Packing, spec: Path | None = None
) -> None:
    recipe = recipe_of(folder / source).model_copy(update={"name": "tree"})
    output = folder / "image" if spec is None else folder / "again"
    wanted = Order(recipe, (format_,), output, packing, threads=2, mtree=spec)
    build(wanted, lambda _event: None)


@given(trees_on_a_disk(), PACKINGS)
@FEW
def test_any_tree_in_a_uzip_is_read_back_by_every_reader(tree: Tree, packing: Packing) -> None:
    expected = _expected(tree)
    mounted = readers.as_mounted(expected)
    with _built(tree, "uzip", packing) as image:
        data = readers.volume_in(image)
        volume = image.with_name("volume")
        volume.write_bytes(data)
        assert readers.differences(readers.as_mounted(readers.browsed(image)), mounted) == {}
        assert readers.differences(readers.judged(data), mounted) == {}
        assert readers.differences(readers.by_pycdlib(volume), mounted) == {}
        found = readers.joined_by_content(readers.extracted(image, image.with_name("extracted")))
        joined = readers.joined_by_content(mounted)
        assert readers.differences(readers.as_mounted(found), joined) == {}
        if IS_ROOT and readers.is_here("xorriso"):
            found = readers.by_xorriso(volume, volume.with_name("restored"))
            wanted = readers.as_xorriso_restores(expected)
            assert readers.differences(readers.as_xorriso_restores(found), wanted) == {}


@given(trees_on_a_disk())
@FEW
def test_any_tree_in_a_squashfs_is_read_back_by_both_readers(tree: Tree) -> None:
    readers.need(*readers.TOOLS["squashfs"])
    expected = _expected(tree)
    with _built(tree, "squashfs", Packing(codec="zstd", level=1)) as image:
        try:
            found = readers.browsed(image)
        except Refused:  # what unsquashfs lists may mean either
            assert any(b"\n" in node.path + node.target for node in tree)
            return
        assert readers.differences(found, expected) == {}
        found = readers.extracted(image, image.with_name("extracted"))
        assert readers.differences(found, expected) == {}
        if IS_ROOT:
            found = readers.by_unsquashfs(image, image.with_name("restored"))
            assert readers.differences(found, expected) == {}


@given(trees_on_a_disk())
@FEW
def test_any_tree_in_an_erofs_is_read_back(tree: Tree) -> None:
    readers.need(*readers.TOOLS["erofs"])
    short = tree_of(node for node in tree if all(len(p) < 255 for p in node.path.split(b"/")))
    with _built(short, "erofs", Packing()) as image:
        assert readers.differences(readers.browsed(image), _expected(short)) == {}
        found = readers.extracted(image, image.with_name("extracted"))
        assert readers.differences(found, _expected(short)) == {}


@pytest.mark.parametrize("format_", ["uzip", "squashfs"])
@given(tree=trees_on_a_disk())
@FEW
def test_a_bare_copy_with_the_mtree_of_the_first_build_gives_the_same_bytes(
    format_: Format, tree: Tree
) -> None:
    if format_ == "squashfs":
        readers.need(*readers.TOOLS["squashfs"])
    with _built(tree, format_, Packing(level=1)) as image:
        folder = image.parent
        _lay_bare(tree, folder / "bare", with_devices=False)
        _build(folder, "bare", format_, Packing(level=1), folder / "image.mtree")
        assert (folder / "again").read_bytes() == image.read_bytes()
        assert (folder / "again.mtree").read_bytes() == (folder / "image.mtree").read_bytes()
