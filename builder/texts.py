"""What a command answers to an admin: the lines of `image NAME` are made by the function NAME.

Pure. Names of entries are shown so that a terminal is safe from them.
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import gmtime, strftime

from builder.build import Built
from builder.description import Description
from builder.diff import Changed, Difference, Travel
from builder.lint import Judged
from builder.names import shown, text
from builder.opened.image import Facts
from builder.prepare import unused
from builder.tree import TYPE_BITS, Kind, Node
from slots.manifest import Format


def build(built: Built) -> Iterator[str]:
    """Say what was built, an artefact a line."""
    release, folder = built.release, built.manifest.parent
    what = "" if built.is_new else " (was there already, the same to the byte)"
    yield f"{release.label}: {_entries(release.entries)}, {size(release.content_bytes)}{what}"
    for one in release.artefacts:
        packing = f"{one.codec} {one.level}" if one.level else one.codec
        yield f"  {folder / one.file}  {size(one.size_bytes)}  {packing}  {one.sha256}"
    yield f"  {built.manifest}  release {release.id}"


def info(image: Path, size_bytes: int, facts: Facts, found: Description | None) -> Iterator[str]:
    """Say what an image is, and the release it belongs to."""
    yield f"{image}: {facts.format}, {facts.codec}, {size(size_bytes)}"
    yield f"  volume {size(facts.volume_bytes)}"
    if facts.cluster_bytes:
        yield f"  cluster {facts.cluster_bytes:,} bytes"
    for name, value in facts.further:
        yield f"  {name} {value}"
    if found is None:
        yield "  no release.json describes it"
        return
    release = found.release
    yield f"  release {release.label} ({release.id}), {_entries(release.entries)}"
    yield f"  sha256 {found.artefacts[0].sha256}"


def ls(nodes: Sequence[Node], *, long: bool) -> Iterator[str]:
    """List entries; `long`: as `ls -ln` shows them, times in UTC."""
    for node in nodes:
        yield _long(node) if long else shown(node.path)


def _long(node: Node) -> str:
    mode = stat.filemode(TYPE_BITS[node.kind] | node.mode)
    is_device = node.kind in {Kind.CHARACTER, Kind.BLOCK}
    amount = f"{node.major}, {node.minor}" if is_device else str(node.size)
    when = strftime("%Y-%m-%d %H:%M:%S", gmtime(node.mtime_s))
    target = f" -> {text(node.target)}" if node.kind is Kind.SYMLINK else ""
    owner = f"{node.uid:>5} {node.gid:>5}"
    return f"{mode} {node.links:>3} {owner} {amount:>11} {when} {shown(node.path)}{target}"


def extract(folder: Path, entries: int) -> Iterator[str]:
    """Say how much was unpacked, and where."""
    yield f"{folder}: {_entries(entries)}"


def verify(found: Description) -> Iterator[str]:
    """Say what was verified."""
    for one in found.artefacts:
        yield f"{found.folder / one.file}: verified, {one.sha256}"


def diff(found: Difference, travels: Mapping[Format, Travel]) -> Iterator[str]:
    """Say what differs, and what would travel for it."""
    for path in found.removed:
        yield f"- {shown(path)}"
    for path in found.added:
        yield f"+ {shown(path)}"
    for one in found.changed:
        yield f"~ {shown(one.path)}: {', '.join(_changes(one))}"
    counts = f"{len(found.added):,} added, {len(found.removed):,} removed"
    yield f"{counts}, {len(found.changed):,} changed"
    for name, travel in travels.items():
        yield _travel(name, travel)


def _changes(one: Changed) -> list[str]:
    """Return the changes of an entry; digests and seconds say nothing to a reader."""
    return [
        name if name in {"content", "time", "links"} else f"{name} {before} → {after}"
        for name, (before, after) in one.changes.items()
    ]


def _travel(name: Format, one: Travel) -> str:
    table = f", a table of {one.table_bytes:,}" if one.table_bytes else ""
    return (
        f"{name}: {size(one.total_bytes)} would travel of {size(one.image_bytes)}: "
        f"{_counted(one.new_pieces, 'new piece')} of {one.piece_bytes:,} bytes{table}; "
        f"a pack of {one.pack_bytes:,} bytes, {_counted(one.moves, 'move')}, "
        f"{one.copies:,} of them copies"
    )


def lint(judged: Judged) -> Iterator[str]:
    """Say what is wrong with a tree, or worth a look."""
    for one in judged.findings:
        detail = f" ({one.detail})" if one.detail else ""
        yield f"{one.severity}: {one.code}: {shown(one.path)}{detail}"
    for waiver in judged.unused:
        yield f"notice: {unused(waiver)}"
    yield f"{_counted(len(judged.findings), 'finding')}, {len(judged.waived):,} waived"


def size(count_bytes: int) -> str:
    """Return a size as people read it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count_bytes >= scale:
            return f"{count_bytes / scale:.1f} {unit}"
    return f"{count_bytes} bytes"


def _entries(count: int) -> str:
    return f"{count:,} entry" if count == 1 else f"{count:,} entries"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
