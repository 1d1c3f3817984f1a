"""A table that is not made because its inputs are known must be the one that would be made."""

from hypothesis import given
from hypothesis import strategies as st

from builder.hardlinks import with_links
from builder.iso9660.layout import Layout, plan_layout
from builder.iso9660.parameters import Parameters
from builder.iso9660.records import directory_table, table_inputs
from builder.tree import Kind, Node, Tree

NODES = (
    Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 1),
    Node(b"/d", Kind.DIRECTORY, 0o755, 0, 0, 1),
    Node(b"/d/block", Kind.BLOCK, 0o600, 0, 0, 1, major=8, minor=1),
    Node(b"/d/e", Kind.DIRECTORY, 0o755, 0, 0, 1),
    Node(b"/d/e/f", Kind.DIRECTORY, 0o755, 0, 0, 1),
    Node(b"/d/fifo", Kind.FIFO, 0o600, 0, 0, 1),
    Node(b"/d/file", Kind.FILE, 0o644, 0, 0, 1, size=5, content=b"bytes"),
    Node(b"/d/link", Kind.SYMLINK, 0o777, 0, 0, 1, target=b"a/b"),
    Node(b"/d/twin", Kind.FILE, 0o644, 0, 0, 1, size=5, content=b"bytes"),
)
NUMBER = st.integers(0, 2**31 - 1)
CHANGES = st.one_of(
    st.fixed_dictionaries({"mode": st.integers(0, 0o7777)}),
    st.fixed_dictionaries({"uid": NUMBER}),
    st.fixed_dictionaries({"gid": NUMBER}),
    st.fixed_dictionaries({"mtime_s": NUMBER}),
    st.fixed_dictionaries({"size": st.integers(0, 2**31)}),
    st.fixed_dictionaries({"target": st.binary(min_size=1, max_size=300)}),
    st.fixed_dictionaries({"major": st.integers(0, 4095), "minor": st.integers(0, 2**20)}),
    st.fixed_dictionaries({"group": st.just(0)}),
    st.fixed_dictionaries({"path": st.sampled_from([b"/d/z", b"/d/" + b"n" * 255, b"/d/e/z"])}),
    st.just({"kind": Kind.FILE}),
)


def _layout(nodes: tuple[Node, ...], parameters: Parameters) -> Layout:
    return plan_layout(with_links(Tree.of(nodes)), parameters)


def _of(layout: Layout, path: bytes) -> tuple[bytes, bytes]:
    """Return the inputs of a directory's table, and the table."""
    one = next(at for at in layout.directories if layout.tree.nodes[at.node].path == path)
    return table_inputs(layout, one), directory_table(layout, one)


@given(st.lists(st.tuples(st.sampled_from(range(2, len(NODES))), CHANGES), max_size=3))
def test_equal_inputs_make_equal_tables_whatever_was_changed(
    changes: list[tuple[int, dict[str, object]]],
) -> None:
    nodes = {node.path: node for node in NODES}
    for at, change in changes:
        node = nodes[NODES[at].path]
        if node.kind is not Kind.DIRECTORY or not {"path", "kind", "group"} & change.keys():
            nodes[node.path] = node._replace(**change)  # type: ignore[arg-type]
    changed = {node.path: node for node in nodes.values()}
    before = _layout(NODES, Parameters())
    after = _layout(tuple(changed.values()), Parameters())
    for path in (b"", b"/d", b"/d/e", b"/d/e/f"):
        old, new = _of(before, path), _of(after, path)
        assert (old[0] == new[0]) <= (old[1] == new[1])


def test_a_field_that_stands_in_a_table_is_told_by_its_inputs() -> None:
    before = _layout(NODES, Parameters())
    for at, change in (
        (1, {"mode": 0o700}), (1, {"mtime_s": 2}), (2, {"minor": 2}), (2, {"major": 9}),
        (3, {"gid": 7}), (5, {"uid": 7}), (6, {"size": 6}), (6, {"mtime_s": 7}),
        (6, {"path": b"/d/life"}), (7, {"target": b"a/c"}), (7, {"mode": 0o700}),
    ):  # fmt: skip
        changed = NODES[at]._replace(**change)
        after = _layout((*NODES[:at], changed, *NODES[at + 1 :]), Parameters())
        old, new = _of(before, b"/d"), _of(after, b"/d")
        assert old[1] != new[1]
        assert old[0] != new[0], change
