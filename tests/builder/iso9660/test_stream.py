import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.clusters import ZeroRun
from builder.iso9660.layout import plan_layout
from builder.iso9660.parameters import Parameters, Placement
from builder.iso9660.stream import clusters
from builder.stamps import stamp_of
from builder.tree import Kind, Node
from slots.errors import BuildError
from tests.builder.iso9660.trees import file, tree_of, volume_of

HASHED = Parameters(cluster_bytes=65_536)


def on_disk(path: Path, content: bytes, name: bytes = b"/file") -> Node:
    path.write_bytes(content)
    return file(name, content)._replace(content=str(path), stamp=stamp_of(path.stat()))


def test_clusters_are_whole_and_as_many_as_planned() -> None:
    layout = plan_layout(tree_of([file(b"/f", b"x" * 200_001), file(b"/g", b"y")]), HASHED)
    items = list(clusters(layout))
    assert {len(item) for item in items if isinstance(item, bytes)} == {65_536}
    assert layout.cluster_count == sum(
        item.count if isinstance(item, ZeroRun) else 1 for item in items
    )


def test_a_volume_of_gigabytes_of_holes_costs_a_few_items() -> None:
    huge = file(b"/huge")._replace(size=2**32 - 1, content=None)
    layout = plan_layout(tree_of([huge]), HASHED)
    layout = replace(layout, tree=tree_of([file(b"/huge")]), pieces=layout.pieces[:-1])
    items = list(clusters(layout))
    assert layout.volume_bytes > 2**32
    assert len(items) < 20
    assert layout.cluster_count == sum(
        item.count if isinstance(item, ZeroRun) else 1 for item in items
    )


def test_files_are_streamed_as_they_lie_on_disk(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    tree = tree_of([on_disk(tmp_path / "a", data, b"/a"), on_disk(tmp_path / "b", b"b", b"/b")])
    for placement in Placement:
        layout = plan_layout(tree, replace(HASHED, placement=placement))
        volume = volume_of(layout)
        for node, block in zip(tree, layout.first_blocks, strict=True):
            if isinstance(node.content, str):
                found = volume[block * 2048 : block * 2048 + node.size]
                assert found == Path(node.content).read_bytes()


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def shrunk(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewritten(path: Path) -> None:
    path.write_bytes(b"z" * path.stat().st_size)
    os.utime(path, ns=(1, 1))


def removed(path: Path) -> None:
    path.unlink()


def turned_to_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("change", [grown, shrunk, rewritten, removed, turned_to_a_link])
def test_a_file_that_changed_since_the_scan_is_named(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    node = on_disk(tmp_path / "file", b"x" * 100_000, b"/etc/\xffmotd")
    tree = tree_of([Node(b"/etc", Kind.DIRECTORY, 0o755, 0, 0, 0), node])
    layout = plan_layout(tree, HASHED)
    change(tmp_path / "file")
    with pytest.raises(BuildError, match=r"^/etc/\\xffmotd "):
        list(clusters(layout))


@pytest.mark.parametrize("change", [grown, shrunk, rewritten])
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    node = on_disk(tmp_path / "file", b"x" * 1_000_000)
    stream = clusters(plan_layout(tree_of([node]), HASHED))
    while b"xxxx" not in (item if isinstance(item := next(stream), bytes) else b""):
        pass
    change(tmp_path / "file")
    with pytest.raises(BuildError, match=r"^/file changed while it was read"):
        list(stream)


def test_a_file_without_a_stamp_is_held_against_its_size(tmp_path: Path) -> None:
    node = on_disk(tmp_path / "file", b"x" * 10)._replace(stamp=None)
    rewritten(tmp_path / "file")
    assert b"z" * 10 in volume_of(plan_layout(tree_of([node]), HASHED))
    grown(tmp_path / "file")
    with pytest.raises(BuildError, match=r"^/file changed"):
        list(clusters(plan_layout(tree_of([node]), HASHED)))


def test_content_that_is_not_as_long_as_said_is_named() -> None:
    node = file(b"/file", b"abc")._replace(size=4)
    with pytest.raises(BuildError, match=r"^/file changed"):
        list(clusters(plan_layout(tree_of([node]), HASHED)))
