"""Trees for the tests of the ISO writer: small ones by hand, and any that hypothesis finds."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import strategies as st

from builder.clusters import ZeroRun
from builder.iso9660.layout import Layout, plan_layout
from builder.iso9660.parameters import Parameters
from builder.iso9660.stream import clusters
from builder.tree import Kind, Node, Tree
from tests.judges.iso_judge import Entry, Volume


def directory(path: bytes, mtime_s: int = 1_000_000_000, mode: int = 0o755) -> Node:
    return Node(path, Kind.DIRECTORY, mode, 0, 0, mtime_s)


def file(path: bytes, content: bytes = b"", group: int | None = None, mtime_s: int = 1) -> Node:
    return Node(
        path, Kind.FILE, 0o644, 0, 0, mtime_s, size=len(content), content=content, group=group
    )


def symlink(path: bytes, target: bytes) -> Node:
    return Node(path, Kind.SYMLINK, 0o777, 0, 0, 1, target=target)


def device(path: bytes, kind: Kind, major: int, minor: int) -> Node:
    return Node(path, kind, 0o600, 0, 0, 1, major=major, minor=minor)


def tree_of(nodes: Iterable[Node]) -> Tree:
    """A tree whose link counts are true, with a root if the nodes have none."""
    held = {node.path: node for node in nodes}
    held.setdefault(b"", directory(b""))
    subs = Counter(n.parent for n in held.values() if n.kind is Kind.DIRECTORY and n.path)
    names = Counter(n.group for n in held.values() if n.group is not None)
    return Tree.of(
        n._replace(
            links=2 + subs[n.path]
            if n.kind is Kind.DIRECTORY
            else names[n.group]
            if n.group is not None
            else 1,
        )
        for n in held.values()
    )


NAMES = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.binary(min_size=1, max_size=255),
    st.sampled_from([b"a", b"A", b"a.b", b"readme.txt", b"README.txt", b"x" * 255, b"-", b"a..b"]),
).filter(lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."})
NUMBERS = st.integers(0, 2**32 - 1)
TIMES = st.integers(-(2**33), 2**33)
TARGETS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=1, max_size=1023),
    st.lists(st.sampled_from([b"", b".", b"..", b"a", b"/", b"b" * 255]), max_size=80).map(
        lambda parts: b"/".join(parts)[:1023] or b"/"
    ),
).filter(lambda target: b"\0" not in target)


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 24) -> Tree:
    """Any tree: all kinds, odd names, long targets, hard links, deep directories."""
    directories = [b""]
    nodes = {b"": _common(draw, b"", Kind.DIRECTORY)}
    groups: list[Node] = []
    for _ in range(draw(st.integers(0, max_nodes))):
        path = draw(st.sampled_from(directories)) + b"/" + draw(NAMES)
        if path in nodes:
            continue
        if groups and draw(st.integers(0, 9)) == 0:
            nodes[path] = draw(st.sampled_from(groups))._replace(path=path)
            continue
        kind = draw(st.sampled_from(list(Kind)))
        node = nodes[path] = _common(draw, path, kind)
        if kind is Kind.DIRECTORY:
            directories.append(path)
        elif draw(st.booleans()):
            nodes[path] = node._replace(group=len(nodes))
            groups.append(nodes[path])
    return tree_of(nodes.values())


def _common(draw: st.DrawFn, path: bytes, kind: Kind) -> Node:
    node = Node(path, kind, draw(st.integers(0, 0o7777)), draw(NUMBERS), draw(NUMBERS), draw(TIMES))
    match kind:
        case Kind.FILE:
            size = draw(st.sampled_from([0, 1, 2047, 2048, 2049, 65_535, 65_536, 65_537, 131_073]))
            content = (path + b"." * (size > 0))[-8:] * size
            return node._replace(size=size, content=content[:size])
        case Kind.SYMLINK:
            return node._replace(target=draw(TARGETS))
        case Kind.CHARACTER | Kind.BLOCK:
            return node._replace(major=draw(NUMBERS), minor=draw(NUMBERS))
        case Kind.DIRECTORY | Kind.FIFO:
            return node


def volume_of(layout: Layout) -> bytes:
    size = layout.parameters.cluster_bytes
    return b"".join(
        bytes(size * item.count) if isinstance(item, ZeroRun) else item for item in clusters(layout)
    )


def mounted(tree: Tree, parameters: Parameters) -> Volume:
    """The volume of a tree as the judge mounts it."""
    data = volume_of(plan_layout(tree, parameters))
    return Volume(lambda at, length: data[at : at + length], len(data))


def as_read(node: Node) -> dict[str, object]:
    """What a kernel shows of a node in an image: times are held, and `/` alone reads `/.`."""
    return {
        "kind": str(node.kind),
        "mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
        "links": node.links,
        "mtime_s": min(max(node.mtime_s, 0), 2**31 - 1),
        "size": node.size,
        "target": b"/." if node.target == b"/" else node.target,
        "device": (node.major, node.minor),
    }


def shown(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "links": entry.links,
        "mtime_s": entry.mtime_s,
        "size": entry.size,
        "target": entry.target,
        "device": entry.device,
    }
