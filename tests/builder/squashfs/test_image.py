import os
import random
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.clusters import Recalled
from builder.placing import Unit, place
from builder.squashfs.layout import Layout
from builder.squashfs.records import GROUP_ENTRIES, METADATA_BYTES, inode_bytes, number_of
from builder.tree import TYPE_BITS, Kind, Node, Tree
from tests.builder.squashfs.images import BLOCK, ROOT, check, file, folder, image, judged, layout_of

CODECS = ["zstd", "zlib", "lzma", "none"]


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same each time


def text(seed: int, size: int) -> bytes:
    return (b"line %d of some text, " % seed * (size // 16 + 1))[:size]


SIZES = [0, 1, 300, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 77]


def everything() -> Tree:
    """Files of every size around that of a block, and all other kinds."""
    sizes = [
        file(b"/files/%s%d" % (make.__name__.encode(), size), make(size, size))
        for make in (noise, text)
        for size in SIZES
    ]
    return Tree.of(
        [
            ROOT._replace(links=5),
            folder(b"/files"),
            folder(b"/empty"),
            folder(b"/other"),
            *sizes,
            file(b"/files/zeros", bytes(300)),
            file(b"/files/hole", bytes(2 * BLOCK)),
            file(b"/files/holes", bytes(2 * BLOCK) + b"x" * BLOCK + bytes(BLOCK) + b"y"),
            file(b"/files/same", text(300, 300)),
            file(b"/other/same", text(3 * BLOCK, 3 * BLOCK)),
            file(b"/other/linked 1", b"linked", group=1, links=3),
            file(b"/other/linked 2", b"linked", group=1, links=3),
            file(b"/linked 3", b"linked", group=1, links=3),
            file(b"/other/long 1", noise(9, 2 * BLOCK), group=2, links=2),
            file(b"/other/long 2", noise(9, 2 * BLOCK), group=2, links=2),
            Node(b"/other/link", Kind.SYMLINK, 0o777, 5, 6, 7, target=b"t" * 1023),
            Node(b"/other/null", Kind.CHARACTER, 0o666, 0, 3, 7, major=1, minor=3),
            Node(b"/other/sda", Kind.BLOCK, 0o660, 0, 3, 7, major=4095, minor=1_048_575),
            Node(b"/other/fifo", Kind.FIFO, 0o600, 2**32 - 2, 2**31, 2**32 - 1),
            Node(b"/other/" + b"n" * 255, Kind.FIFO, 0o4000, 1, 1, 0, group=3, links=2),
            Node(b"/other/" + b"\xff", Kind.FIFO, 0o4000, 1, 1, 0, group=3, links=2),
        ]
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("block_bytes", [4096, BLOCK, 131_072, 1 << 20])
def test_a_tree_with_everything_is_in_the_image_and_no_rule_is_broken(
    codec: str, block_bytes: int
) -> None:
    tree = everything()
    check(tree, image(tree, codec, block_bytes)[0])


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."}
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Directories two deep, with files of sizes around that of a block."""
    nodes: list[Node] = []
    tops = draw(st.lists(NAMES, unique=True, max_size=4))
    for top in tops:
        nodes.append(folder(b"/" + top))
        for name in draw(st.lists(NAMES, unique=True, max_size=12)):
            size = draw(st.sampled_from(SIZES))
            make = draw(st.sampled_from([noise, text, lambda _, size: bytes(size)]))
            nodes.append(file(b"/" + top + b"/" + name, make(draw(st.integers(0, 3)), size)))
    return Tree.of([ROOT._replace(links=2 + len(tops)), *nodes])


@given(trees(), st.sampled_from(CODECS))
@settings(max_examples=60, deadline=None)
def test_any_tree_is_in_the_image_and_no_rule_is_broken(tree: Tree, codec: str) -> None:
    check(tree, image(tree, codec)[0])


def test_an_image_without_entries_is_an_image() -> None:
    tree = Tree((ROOT,))
    check(tree, image(tree)[0])


@pytest.mark.parametrize("count", [GROUP_ENTRIES, GROUP_ENTRIES + 1, 2600, 5000])
def test_a_long_directory_has_an_index_that_leads_to_each_group(count: int) -> None:
    names = [b"/%05d %s" % (n, b"n" * (n % 60)) for n in range(count)]
    tree = Tree.of([ROOT, *(file(name, b"") for name in names)])
    found = check(tree, image(tree)[0])
    root = found.paths[b""]
    assert root.extended == (count >= 2600)
    assert bool(root.index) == (count >= 2600)
    if root.index:
        places = [0, *(where for where, _, _ in root.index), root.listed[2]]
        assert max(b - a for a, b in pairwise(places)) <= GROUP_ENTRIES * (8 + 66 + 12)


def test_equal_contents_are_there_once() -> None:
    large, small = noise(1, 5 * BLOCK), noise(2, 5000)
    once = Tree.of([ROOT, file(b"/a", large), file(b"/b", small)])
    twice = Tree.of([*once, file(b"/c", large), file(b"/d", small)])
    data = [image(tree)[0] for tree in (once, twice)]
    check(twice, data[1])
    assert [sum(end - at for at, end in {*judged(one).used}) for one in data] == [
        5 * BLOCK + 5000
    ] * 2


def test_a_hole_costs_nothing_and_is_told() -> None:
    tree = Tree.of([ROOT, file(b"/hole", bytes(100 * BLOCK)), file(b"/zero", b"\0")])
    found = check(tree, image(tree)[0])
    assert found.paths[b"/hole"].hole_bytes == 100 * BLOCK - 1
    assert sum(end - at for at, end in found.used) == 1


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    content = noise(5, 2 * BLOCK)
    tree = Tree.of([ROOT, file(b"/noise", content), file(b"/small", noise(6, 700))])
    data = image(tree)[0]
    check(tree, data)
    assert content in data
    assert noise(6, 700) in data


def test_the_number_of_threads_leaves_no_trace() -> None:
    tree = everything()
    assert len({image(tree, threads=threads)[0] for threads in (1, 2, 7)}) == 1


@pytest.mark.parametrize("owners", [1, 2047, 2048, 2049, 5000])
def test_any_number_of_owners_is_listed(owners: int) -> None:
    files = [file(b"/%06d" % number, b"", uid=100 + number, gid=100) for number in range(owners)]
    tree = Tree.of([ROOT, *files])
    found = check(tree, image(tree)[0])
    assert found.ids == len({11, 12, 100, *range(100, 100 + owners)})


def test_what_an_earlier_build_stored_is_taken_as_it_was() -> None:
    tree = everything()
    data, written = image(tree)
    rows = {row.key: row for row in written.kept}

    def nothing(keys: Sequence[bytes]) -> list[Recalled | None]:
        return [None for _ in keys]

    def recall(keys: Sequence[bytes]) -> list[Recalled | None]:
        found = [rows.get(key) for key in keys]
        return [
            row
            and Recalled(data[row.offset : row.offset + row.length], row.stream_bytes, row.digest)
            for row in found
        ]

    first, known = image(tree, recall=nothing)
    rows = {row.key: row for row in known.kept}
    assert first == data
    again, second = image(tree, recall=recall)
    assert again == data
    assert second.recalled == second.blocks == known.blocks > 0


# --- where things lie ----------------------------------------------------------------------


def _extents(layout: Layout) -> list[tuple[int, int]]:
    """Where the inodes lie, the index of long directories apart."""
    nodes = layout.tree.nodes
    return sorted(
        (layout.positions[n], layout.positions[n] + inode_bytes(node, layout.block_bytes))
        for n, node in enumerate(nodes)
        if layout.inodes[n] == n
    )


def _forest(directories: int, files: int) -> list[Node]:
    return [
        one
        for d in range(directories)
        for one in (
            folder(b"/dir%03d" % d),
            *(file(b"/dir%03d/file%03d" % (d, n), noise(d * files + n, 40)) for n in range(files)),
        )
    ]


def _tree(nodes: list[Node]) -> Tree:
    tops = sum(node.kind is Kind.DIRECTORY for node in nodes)
    return Tree.of([ROOT._replace(links=2 + tops), *nodes])


@given(trees())
@settings(max_examples=60, deadline=None)
def test_inodes_and_listings_lie_apart_and_inside_their_tables(tree: Tree) -> None:
    layout = layout_of(tree)
    extents = _extents(layout)
    assert all(a[1] <= b[0] for a, b in pairwise(extents))
    assert extents[-1][1] <= layout.inode_table_bytes
    assert layout.inode_table_bytes % METADATA_BYTES == 0
    listed = sorted(
        (at, at + one.size_bytes)
        for at, one in zip(layout.listed, layout.listings, strict=True)
        if one.size_bytes
    )
    assert all(a[1] <= b[0] for a, b in pairwise(listed))
    assert not listed or listed[-1][1] <= layout.directory_table_bytes
    numbers = [number_of(at) for at, _ in extents]
    assert len(set(numbers)) == len(numbers)


def _moved(before: Layout, after: Layout) -> int:
    """How many of the inodes of the tree before lie elsewhere afterwards."""
    here = {node.path: at for node, at in zip(before.tree.nodes, before.positions, strict=True)}
    there = {node.path: at for node, at in zip(after.tree.nodes, after.positions, strict=True)}
    return sum(there.get(path, at) != at for path, at in here.items())


def test_a_change_moves_its_neighbourhood_only() -> None:
    nodes = _forest(200, 40)
    before = layout_of(_tree(nodes))
    added = [file(b"/dir100/more%02d" % n, noise(9000 + n, 50)) for n in range(40)]
    without = [one for one in nodes if not one.path.startswith(b"/dir050")]
    grown = [
        one if one.path != b"/dir007/file007" else file(one.path, noise(1, 900)) for one in nodes
    ]
    assert _moved(before, layout_of(_tree(nodes + added))) < 0.15 * len(nodes)
    assert _moved(before, layout_of(_tree(without))) < 0.15 * len(nodes)
    assert _moved(before, layout_of(_tree(grown))) == 0


def test_a_zone_has_sizes_between_the_powers_of_two() -> None:
    def zone(count: int, steps: int) -> int:
        units = [Unit(1, number * 0x9E3779B97F4A7C15, number, number) for number in range(count)]
        return place(units, 100, steps)[0]

    assert [zone(count, 1) for count in (1, 2, 3, 8, 9, 100)] == [1, 2, 4, 8, 16, 128]
    assert [zone(count, 8) for count in (1, 8, 9, 16, 17, 18, 19, 100)] == [
        1, 8, 9, 16, 18, 18, 20, 104,
    ]  # fmt: skip


# --- read by others ------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("codec", CODECS)
def test_the_kernel_reads_everything_and_finds_each_name(tmp_path: Path, codec: str) -> None:
    """Thousands of blocks, for it is one in some thousand that a kernel stumbles over."""
    words = random.Random(1)  # noqa: S311 - the same each time
    lines = b"".join(b"%d %x\n" % (n, words.getrandbits(40)) for n in range(1_500_000))
    many = [file(b"/many/%05d" % n, text(n, n % 3000)) for n in range(20_000)]
    large = file(b"/large", lines[: 1500 * BLOCK + 5])
    tree = Tree.of([*everything(), folder(b"/many"), *many, large])
    root = tree.nodes[0]._replace(links=6)
    tree = Tree((root, *tree.nodes[1:]))
    path, mounted = tmp_path / "image", tmp_path / "mounted"
    path.write_bytes(image(tree, codec)[0])
    mounted.mkdir()
    subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", path, mounted], check=True)
    try:
        for node in tree:
            _hold(os.fsencode(mounted) + node.path, node)
        assert len(list((mounted / "many").iterdir())) == len(many)
    finally:
        subprocess.run(["umount", mounted], check=True)


def _hold(path: bytes, node: Node) -> None:
    """Hold what the kernel says of an entry against the tree."""
    status = os.lstat(path)
    told = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, int(status.st_mtime))
    mode = TYPE_BITS[node.kind] | node.mode
    assert told == (mode, node.uid, node.gid, node.links, node.mtime_s), path
    match node.kind:
        case Kind.FILE:
            assert Path(os.fsdecode(path)).read_bytes() == node.content, path
        case Kind.SYMLINK:
            assert os.readlink(path) == node.target  # noqa: PTH115 - bytes
        case Kind.CHARACTER | Kind.BLOCK:
            assert status.st_rdev == os.makedev(node.major, node.minor)
        case Kind.DIRECTORY | Kind.FIFO:
            pass
