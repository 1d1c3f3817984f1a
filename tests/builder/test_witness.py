import io

import pytest

from builder.iso9660.layout import plan_layout
from builder.iso9660.parameters import Parameters, Placement
from builder.opened import witness
from builder.tree import Kind, Node
from slots.errors import VerificationError
from tests.builder.iso9660.trees import directory, file, symlink, tree_of, volume_of


@pytest.mark.parametrize("placement", list(Placement))
def test_pycdlib_finds_what_was_written(placement: Placement) -> None:
    tree = tree_of(
        [
            directory(b"", mode=0o750),
            directory(b"/etc", mtime_s=5),
            file(b"/etc/" + b"n" * 255, b"long name"),
            file(b"/hard-1", b"h" * 5000, group=1),
            file(b"/etc/hard-2", b"h" * 5000, group=1),
            file(b"/empty"),
            symlink(b"/etc/away", b"../" * 30 + b"x"),
            Node(b"/null", Kind.CHARACTER, 0o666, 0, 0, 7, major=1, minor=3),
        ]
    )
    layout = plan_layout(tree, Parameters(placement=placement))
    found = witness.tree(io.BytesIO(volume_of(layout)), "volume")
    assert [node._replace(group=None) for node in found] == [
        node._replace(group=None, content=None, stamp=None) for node in tree
    ]
    groups = {node.path: node.group for node in found if node.group is not None}
    assert len(groups) == 2
    assert len(set(groups.values())) == 1


def test_what_pycdlib_cannot_read_is_no_good_image() -> None:
    with pytest.raises(VerificationError, match="pycdlib cannot read volume"):
        witness.tree(io.BytesIO(bytes(100_000)), "volume")
