from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given, settings

from builder.iso9660 import directories as module
from builder.iso9660.layout import Layout, plan_layout, refusals
from builder.iso9660.parameters import Parameters, Placement
from builder.iso9660.records import directory_table
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError
from tests.builder.iso9660.trees import (
    device,
    directory,
    file,
    symlink,
    tree_of,
    trees,
)

HASHED = Parameters(cluster_bytes=65_536)


def places(layout: Layout) -> dict[bytes, int]:
    return {
        node.path: block
        for node, block in zip(layout.tree.nodes, layout.first_blocks, strict=True)
        if block
    }


def big_tree() -> list[Node]:
    return [
        node
        for d in range(60)
        for node in (
            directory(b"/d%d" % d),
            *(file(b"/d%d/f%d" % (d, f), bytes(1000 * (f + 1))) for f in range(40)),
        )
    ]


@given(trees())
@settings(max_examples=25, deadline=None)
def test_extents_lie_inside_the_volume_and_apart(tree: Tree) -> None:
    for placement, cluster in product(Placement, (16_384, 65_536, 131_072)):
        layout = plan_layout(tree, Parameters(placement=placement, cluster_bytes=cluster))
        starts = [layout.first_block(piece) for piece in layout.pieces]
        assert starts == sorted(starts)
        assert len(set(starts)) == len(starts)
        assert max(starts) < layout.volume_blocks
        assert layout.cluster_count * cluster >= layout.volume_bytes


def test_one_more_file_moves_hardly_anything() -> None:
    nodes = big_tree()
    before = places(plan_layout(tree_of(nodes), HASHED))
    after = places(plan_layout(tree_of([*nodes, file(b"/d7/new", b"new")]), HASHED))
    moved = [path for path in before if after[path] != before[path]]
    assert len(moved) < 0.03 * len(before)


def long_directory() -> list[Node]:
    """A table of several clusters; every third entry has no extent to be known by."""
    names = [b"/d/%d" % number for number in range(3000)]
    return [
        directory(b"/d"),
        *(
            symlink(name, b"to") if number % 3 == 0 else file(name, b"x")
            for number, name in enumerate(names)
        ),
    ]


def test_one_more_record_changes_its_own_group_of_a_long_table() -> None:
    nodes = long_directory()
    tables = []
    for extra in ([], [file(b"/d/1000x")]):
        layout = plan_layout(tree_of([*nodes, *extra]), HASHED)
        tables.append(directory_table(layout, layout.directories[1]))
    before, after = (
        {table[at : at + 2048] for at in range(0, len(table), 2048)} for table in tables
    )
    assert len(tables[0]) > 150 * 2048
    assert len(after - before) <= HASHED.table_bytes // 2048 + 2


def test_the_groups_of_a_long_table_are_no_larger_than_asked() -> None:
    one = plan_layout(tree_of(long_directory()), HASHED).directories[1]
    starts = [0, *sorted(one.breaks), len(one.children)]
    assert max(high - low for low, high in pairwise(starts)) * 100 <= HASHED.table_bytes


def test_a_sequential_table_has_no_gaps() -> None:
    layout = plan_layout(tree_of(long_directory()), Parameters(placement=Placement.SEQUENTIAL))
    assert not layout.directories[1].breaks


def test_one_changed_content_moves_nothing_while_its_length_stays() -> None:
    nodes = big_tree()
    before = places(plan_layout(tree_of(nodes), HASHED))
    nodes[100] = nodes[100]._replace(content=b"x" * nodes[100].size)
    assert places(plan_layout(tree_of(nodes), HASHED)) == before


def test_small_files_share_clusters_but_never_with_another_directory() -> None:
    paths = [b"/d%d/f%d" % (d, f) for d in range(20) for f in range(40)]
    directories = [directory(b"/d%d" % d) for d in range(20)]
    layout = plan_layout(tree_of([*directories, *(file(path, b"x") for path in paths)]), HASHED)
    found, held = places(layout), dict[int, set[bytes]]()
    for path in paths:
        held.setdefault(found[path] // 32, set()).add(path.rpartition(b"/")[0])
    assert all(len(parents) == 1 for parents in held.values())
    assert len(held) < len(paths) / 5


def test_a_file_of_a_cluster_or_more_begins_at_a_cluster() -> None:
    layout = plan_layout(tree_of([file(b"/big", bytes(65_536)), file(b"/s", b"1")]), HASHED)
    assert places(layout)[b"/big"] % 32 == 0


def test_directories_lie_before_all_data() -> None:
    layout = plan_layout(tree_of(big_tree()), HASHED)
    found = places(layout)
    tables = [found[n.path] for n in layout.tree if n.kind is Kind.DIRECTORY]
    data = [found[n.path] for n in layout.tree if n.kind is Kind.FILE]
    assert max(tables) < min(data)


def test_a_sequential_volume_has_no_holes() -> None:
    layout = plan_layout(tree_of(big_tree()), replace(HASHED, placement=Placement.SEQUENTIAL))
    data = sum(-(-n.size // 2048) for n in layout.tree)
    tables = sum(d.table_blocks + d.overflow_blocks for d in layout.directories)
    assert layout.volume_blocks == 18 + 2 + tables + data


def test_more_directories_than_a_path_table_numbers_are_written_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PATH_TABLE_DIRECTORIES", 4)
    three, four = (
        tree_of(directory(b"/%d" % number) for number in range(count)) for count in (3, 4)
    )
    assert len(plan_layout(three, HASHED).path_table.rows) == 4
    assert len(plan_layout(four, HASHED).path_table.rows) == 1


BAD = {
    "a name of 256 bytes": file(b"/" + b"n" * 256),
    "32768 links": file(b"/linked", b"x")._replace(links=32_768),
    "owner 4294967296:0": file(b"/owned")._replace(uid=2**32),
    "a file of 4294967296 bytes": file(b"/huge")._replace(size=2**32),
    "a symlink target of 1024 bytes": symlink(b"/long", b"t" * 1024),
    "a symlink target of 0 bytes": symlink(b"/none", b""),
    "device numbers 4294967296,1": device(b"/dev", Kind.BLOCK, 2**32, 1),
}


def test_everything_that_cannot_be_written_is_named_at_once() -> None:
    tree = Tree.of([directory(b""), *BAD.values()])
    reasons = refusals(tree, Parameters())
    assert len(reasons) == len(BAD)
    for text, node in BAD.items():
        name = node.path.decode()
        assert any(one.startswith(f"{name}: ") and text in one for one in reasons)
    with pytest.raises(BuildError) as caught:
        plan_layout(tree, Parameters())
    assert all(node.path.decode() in caught.value.message for node in BAD.values())


def test_what_is_just_within_the_limits_is_not_refused() -> None:
    tree = Tree.of(
        [
            directory(b""),
            file(b"/" + b"n" * 255),
            file(b"/linked", b"x")._replace(links=32_767),
            file(b"/huge")._replace(size=2**32 - 1),
            symlink(b"/long", b"t" * 1023),
        ]
    )
    assert refusals(tree, Parameters()) == []


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (Parameters(label="lower"), "label"),
        (Parameters(label="X" * 33), "label"),
        (Parameters(cluster_bytes=65_537), "cluster_bytes"),
        (Parameters(cluster_bytes=0), "cluster_bytes"),
        (Parameters(pack_bytes=1), "pack_bytes"),
        (Parameters(table_bytes=1), "table_bytes"),
        (Parameters(load_percent=96), "load_percent"),
        (Parameters(load_percent=0), "load_percent"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name(parameters: Parameters, text: str) -> None:
    reasons = refusals(tree_of([]), parameters)
    assert len(reasons) == 1
    assert reasons[0].startswith(text)


def test_parameters_are_recorded_as_plain_values() -> None:
    assert Parameters().as_record() == {
        "label": "FLIPSLOT",
        "placement": "hashed",
        "cluster_bytes": 131_072,
        "pack_bytes": 32_768,
        "table_bytes": 16_384,
        "load_percent": 35,
        "path_tables": "full",
    }
