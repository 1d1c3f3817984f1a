"""What a command answers to `--json`: the document flipslot.NAME/1 is made by the function NAME.

Pure. docs/image.md names every field; none is ever removed or given another meaning under the
same number. Names of entries are escaped as in tree.mtree, for they may be no UTF-8.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.build import Built
from builder.description import Description
from builder.diff import Difference, Travel
from builder.lint import Finding, Judged
from builder.mtree import escaped
from builder.opened.image import Facts
from builder.tree import Kind, Node
from slots.manifest import Format, Release

Document = dict[str, Any]


def build(built: Built) -> Document:
    """Return what was built."""
    return {
        "schema": "flipslot.build/1",
        "manifest": str(built.manifest),
        "new": built.is_new,
        "release": _release(built.release),
    }


def info(image: Path, size_bytes: int, facts: Facts, found: Description | None) -> Document:
    """Return what an image is, and the release it belongs to."""
    return {
        "schema": "flipslot.info/1",
        "file": str(image),
        "format": facts.format,
        "codec": facts.codec,
        "cluster_bytes": facts.cluster_bytes,
        "size_bytes": size_bytes,
        "volume_bytes": facts.volume_bytes,
        "release": _release(found.release) if found else None,
    }


def _release(release: Release) -> Document:
    return release.model_dump(mode="json", by_alias=True)


def ls(nodes: Sequence[Node]) -> Document:
    """Return entries of an image."""
    return {"schema": "flipslot.ls/1", "entries": [_entry(node) for node in nodes]}


def _entry(node: Node) -> Document:
    entry: Document = {
        "path": _path(node.path),
        "type": node.kind.value,
        "mode": f"{node.mode:04o}",
        "uid": node.uid,
        "gid": node.gid,
        "mtime_s": node.mtime_s,
        "links": node.links,
    }
    match node.kind:
        case Kind.FILE:
            return entry | {"size_bytes": node.size}
        case Kind.SYMLINK:
            return entry | {"target": escaped(node.target)}
        case Kind.CHARACTER | Kind.BLOCK:
            return entry | {"major": node.major, "minor": node.minor}
        case Kind.DIRECTORY | Kind.FIFO:
            return entry


def extract(folder: Path, entries: int) -> Document:
    """Return how much was unpacked, and where."""
    return {"schema": "flipslot.extract/1", "folder": str(folder), "entries": entries}


def verify(found: Description) -> Document:
    """Return what was verified."""
    return {
        "schema": "flipslot.verify/1",
        "release": found.release.id,
        "verified": [one.file for one in found.artefacts],
    }


def diff(found: Difference, travels: Mapping[Format, Travel]) -> Document:
    """Return what differs, and what would travel for it."""
    document: Document = {
        "schema": "flipslot.diff/1",
        "added": [escaped(path) for path in found.added],
        "removed": [escaped(path) for path in found.removed],
        "changed": [
            {"path": _path(one.path), "changes": dict(one.changes)} for one in found.changed
        ],
    }
    if travels:
        document["bytes"] = {name: _travel(one) for name, one in travels.items()}
    return document


def _travel(one: Travel) -> Document:
    return {
        "new_pieces": one.new_pieces,
        "piece_bytes": one.piece_bytes,
        "table_bytes": one.table_bytes,
        "moves": one.moves,
        "copies": one.copies,
        "copied_bytes": one.copied_bytes,
        "literal_bytes": one.literal_bytes,
        "pack_bytes": one.pack_bytes,
        "head_bytes": one.head_bytes,
        "total_bytes": one.total_bytes,
        "image_bytes": one.image_bytes,
    }


def lint(judged: Judged) -> Document:
    """Return what is wrong with a tree, or worth a look."""
    return {
        "schema": "flipslot.lint/1",
        "findings": [_finding(one) for one in judged.findings],
        "waived": [_finding(one) for one in judged.waived],
        "unused_waivers": [f"{one.code} {one.match}" for one in judged.unused],
    }


def _finding(one: Finding) -> Document:
    return {
        "severity": one.severity.value,
        "code": one.code,
        "path": _path(one.path),
        "detail": one.detail,
    }


def _path(path: bytes) -> str:
    return escaped(path or b"/")
