from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.restore import Privilege, emptied, refuse_escapes, restore
from builder.tree import Kind, Node, Tree
from slots.errors import VerificationError

ROOT = Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 0)


def _node(path: bytes, kind: Kind = Kind.FILE, target: bytes = b"") -> Node:
    return Node(path, kind, 0o644, 0, 0, 0, target=target)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([_node(b"/..", Kind.DIRECTORY)], "a name that leaves it"),
        ([_node(b"/a", Kind.DIRECTORY), _node(b"/a/..")], "a name that leaves it"),
        ([_node(b"/.")], "a name that leaves it"),
        ([_node(b"/a", Kind.DIRECTORY), _node(b"/a/")], "a name that leaves it"),
        ([_node(b"/a"), _node(b"/a", Kind.SYMLINK)], "a name twice"),
        ([_node(b"/a", Kind.SYMLINK, b"/etc"), _node(b"/a/passwd")], "lies in no directory"),
        ([_node(b"/a/b")], "lies in no directory"),
        ([_node(b"/a\0b")], "a name twice"),
    ],
)
def test_names_that_would_leave_the_folder_are_refused(
    tmp_path: Path, nodes: list[Node], says: str
) -> None:
    tree = Tree((ROOT, *nodes))
    with pytest.raises(VerificationError, match=says):
        refuse_escapes(tree)
    with pytest.raises(VerificationError, match=says):
        restore(tree, [], tmp_path, Privilege.USER)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_directory_still_gets_its_contents(tmp_path: Path) -> None:
    inside = _node(b"/closed/file")
    tree = Tree((ROOT, Node(b"/closed", Kind.DIRECTORY, 0o500, 0, 0, 7), inside))
    contents: list[tuple[Node, Iterator[bytes]]] = [(inside, iter([b"a", b"b"]))]
    assert restore(tree, contents, tmp_path, Privilege.USER) == []
    assert (tmp_path / "closed/file").read_bytes() == b"ab"
    status = (tmp_path / "closed").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o500, 7)
    (tmp_path / "closed").chmod(0o700)


def test_a_folder_is_emptied_of_all_that_was_begun(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    assert emptied(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
