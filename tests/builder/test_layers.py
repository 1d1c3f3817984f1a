import os
from pathlib import Path

import pytest

from builder.globs import matcher
from builder.layers import Laid, Source, lay
from slots.errors import BuildError

NOTHING = matcher(())


def _source(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def _lay(*paths: Path) -> Laid:
    return lay([Source(path, NOTHING) for path in paths])


def _content(laid: Laid, path: bytes) -> str:
    node = next(one for one in laid.tree if one.path == path)
    assert node.file is not None
    return Path(os.fsdecode(node.file)).read_text()


def test_a_later_file_takes_the_place_of_an_earlier_one_and_directories_are_merged(
    tmp_path: Path,
) -> None:
    base = _source(tmp_path / "base", etc__motd="old", etc__hosts="base")
    over = _source(tmp_path / "over", etc__motd="new", srv__x="x")
    (over / "etc").chmod(0o750)
    laid = _lay(base, over)
    assert [one.path for one in laid.tree] == [
        b"", b"/etc", b"/etc/hosts", b"/etc/motd", b"/srv", b"/srv/x",
    ]  # fmt: skip
    assert _content(laid, b"/etc/motd") == "new"
    assert _content(laid, b"/etc/hosts") == "base"
    modes = {one.path: one.mode for one in laid.tree}
    assert modes[b"/etc"] == 0o750
    assert laid.tree.nodes[0].links == 4
    assert laid.equal_source is None


def test_the_order_of_sources_decides(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", f="1"), _source(tmp_path / "two", f="2")
    assert _content(_lay(one, two), b"/f") == "2"
    assert _content(_lay(two, one), b"/f") == "1"


def test_a_file_takes_the_place_of_a_symlink_and_a_symlink_that_of_a_file(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", a="file"), _source(tmp_path / "two", b="file")
    (one / "b").symlink_to("a")
    (two / "a").symlink_to("b")
    kinds = {node.path: node.kind for node in _lay(one, two).tree if node.path}
    assert kinds == {b"/a": "link", b"/b": "file"}


@pytest.mark.parametrize("turned", [False, True])
def test_a_directory_that_meets_anything_else_is_refused_with_both_sources(
    tmp_path: Path, turned: bool
) -> None:
    one, two = _source(tmp_path / "one", bin__sh="sh"), _source(tmp_path / "two")
    (two / "bin").symlink_to("usr/bin")
    sources = (two, one) if turned else (one, two)
    with pytest.raises(BuildError, match=r"/bin is a .* in .* and a .* in ") as caught:
        _lay(*sources)
    assert str(one) in caught.value.message
    assert str(two) in caught.value.message
    assert caught.value.hint == "move what lies in the directory to usr/bin"


def test_a_source_may_leave_out_what_stands_in_the_way(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", x__y="y", z="z"), _source(tmp_path / "two", x="file")
    with pytest.raises(BuildError, match="leave one of them out"):
        _lay(one, two)
    laid = lay([Source(one, matcher(["/x"])), Source(two, NOTHING)])
    assert [node.path for node in laid.tree] == [b"", b"/x", b"/z"]


def test_hard_links_of_different_sources_are_different_files(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", a="1"), _source(tmp_path / "two", c="2")
    os.link(one / "a", one / "b")
    os.link(one / "a", one / "e")
    os.link(two / "c", two / "b")
    nodes = {node.path: node for node in _lay(one, two).tree}
    assert nodes[b"/a"].group == nodes[b"/e"].group != nodes[b"/b"].group
    assert nodes[b"/b"].group == nodes[b"/c"].group
    assert {nodes[path].links for path in (b"/a", b"/b", b"/c", b"/e")} == {2}


def test_a_name_that_is_replaced_is_no_longer_one_of_its_file(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", a="1"), _source(tmp_path / "two", a="2")
    os.link(one / "a", one / "b")
    nodes = {node.path: node for node in _lay(one, two).tree}
    assert {(nodes[path].group, nodes[path].links) for path in (b"/a", b"/b")} == {(None, 1)}


def test_a_change_in_any_source_is_found(tmp_path: Path) -> None:
    one, two = _source(tmp_path / "one", a="1"), _source(tmp_path / "two", b="2")
    laid = _lay(one, two)
    laid.recheck()
    (one / "a").write_text("more")
    with pytest.raises(BuildError, match="changed while the image was built: /a"):
        laid.recheck()
    laid = _lay(one, two)
    (two / "b").write_text("more")
    with pytest.raises(BuildError, match="changed while the image was built: /b"):
        laid.recheck()
