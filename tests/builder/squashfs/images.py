"""Trees in memory, built as squashfs and judged."""

import hashlib
import io

from builder.clusters import Recall, nothing_known
from builder.parts import Marks
from builder.squashfs.layout import Layout, plan_layout
from builder.squashfs.writer import Method, Written, write
from builder.tree import TYPE_BITS, Digests, Kind, Node, Tree
from slots.manifest import ALIGNMENT_BYTES
from tests.judges import squashfs_judge

BLOCK = 16_384
ROOT = Node(b"", Kind.DIRECTORY, 0o1751, 11, 12, 1_234_567, links=2)


def folder(path: bytes, links: int = 2) -> Node:
    """A directory."""
    return Node(path, Kind.DIRECTORY, 0o755, 0, 0, 1000, links=links)


def file(
    path: bytes,
    data: bytes,
    *,
    uid: int = 0,
    gid: int = 0,
    group: int | None = None,
    links: int = 1,
) -> Node:
    """A file with its bytes in memory."""
    node = Node(path, Kind.FILE, 0o644, uid, gid, 2000, size=len(data), content=data)
    return node._replace(group=group, links=links)


def digests_of(tree: Tree) -> Digests:
    """The digests of files whose bytes are in memory."""
    return Digests(
        b"".join(
            hashlib.sha256(node.content if isinstance(node.content, bytes) else b"").digest()
            for node in tree
        )
    )


def layout_of(tree: Tree, block_bytes: int = BLOCK) -> Layout:
    """Lay a tree out."""
    return plan_layout(tree, digests_of(tree), block_bytes)


def image(
    tree: Tree,
    codec: str = "zstd",
    block_bytes: int = BLOCK,
    *,
    threads: int = 2,
    recall: Recall = nothing_known,
) -> tuple[bytes, Written]:
    """Build an image."""
    out = io.BytesIO()
    marks = Marks(digests_of(tree), b"program")
    method = Method(codec, 3, threads, recall)
    written = write(layout_of(tree, block_bytes), marks, out, method)
    data = out.getvalue()
    return data + bytes(-len(data) % ALIGNMENT_BYTES), written


def judged(data: bytes) -> squashfs_judge.Image:
    """The image as the judge sees it, no rule broken."""
    found = squashfs_judge.Image(data)
    assert found.violations == []
    return found


def check(tree: Tree, data: bytes) -> squashfs_judge.Image:
    """Hold all that an image says of its entries against the tree."""
    found = judged(data)
    assert found.paths.keys() == {node.path for node in tree}
    for node in tree:
        one = found.paths[node.path]
        assert squashfs_judge.TYPES[one.type] == TYPE_BITS[node.kind]
        told = (one.mode, one.uid, one.gid, one.mtime, one.links)
        assert told == (node.mode, node.uid, node.gid, node.mtime_s, node.links), node.path
        assert one.target == node.target
        assert one.device == (node.major, node.minor)
        if node.kind is Kind.FILE:
            data = node.content if isinstance(node.content, bytes) else b""
            assert one.sha256 == hashlib.sha256(data).hexdigest(), node.path
    return found
