"""What pycdlib reads of an ISO 9660 volume: a second opinion, for `image verify --witness`.

Our reader shares no code with our writer, but it shares its authors. pycdlib knows neither, so a
mistake that both of ours agree on cannot pass. It is asked last, about an image whose digest is
right: damage makes it slow and loud (docs/adr/0008-our-own-iso9660-reader.md).
"""

from calendar import timegm
from typing import Any, BinaryIO

from pycdlib import PyCdlib
from pycdlib.pycdlibexception import PyCdlibException

from builder.hardlinks import with_links
from builder.names import shown
from builder.opened.image import KINDS
from builder.tree import Kind, Node, Tree
from slots.errors import VerificationError


def tree(volume: BinaryIO, name: str) -> Tree:
    """Return all entries as pycdlib finds them; raises VerificationError if it cannot."""
    iso = PyCdlib()
    try:
        iso.open_fp(volume)
        found = _nodes(iso.get_record(iso_path="/"))
    except PyCdlibException as error:
        raise VerificationError(f"pycdlib cannot read {name}: {error}") from error
    except AttributeError as error:
        raise VerificationError(f"pycdlib finds entries without Rock Ridge in {name}") from error
    counted = {node.path: node.links for node, _ in found}
    keys = {node.path: key for node, key in found if key}
    nodes = with_links(Tree.of(node for node, _ in found), keys)
    return Tree(
        tuple(
            node if node.group is not None else node._replace(links=counted[node.path])
            for node in nodes
        )
    )


def _nodes(root: Any) -> list[tuple[Node, object]]:
    """Walk the records: each node, and by what the names of one file are known."""
    own = next(one for one in root.children if one.is_dot())
    found, waiting = [_node(b"", own)], [(b"", root)]
    while waiting:
        folder, record = waiting.pop()
        for child in record.children:
            if child.is_dot() or child.is_dotdot():
                continue
            path = folder + b"/" + child.rock_ridge.name()
            found.append(_node(path, child))
            if child.is_dir():
                waiting.append((path, child))
    return found


def _node(path: bytes, record: Any) -> tuple[Node, object]:
    ridge = record.rock_ridge
    px = _entry(ridge, "px_record")
    kind = KINDS.get(px.posix_file_mode & 0o170000)
    if kind is None:
        raise VerificationError(f"{shown(path)} is of no known type ({px.posix_file_mode:o})")
    size = record.get_data_length() if kind is Kind.FILE else 0
    pn = _entry(ridge, "pn_record") if kind in {Kind.CHARACTER, Kind.BLOCK} else None
    node = Node(
        path=path,
        kind=kind,
        mode=px.posix_file_mode & 0o7777,
        uid=px.posix_user_id,
        gid=px.posix_group_id,
        mtime_s=_mtime_s(_entry(ridge, "tf_record")),
        size=size,
        target=ridge.symlink_path() if kind is Kind.SYMLINK else b"",
        major=0 if pn is None else pn.dev_t_high,
        minor=0 if pn is None else pn.dev_t_low,
        links=px.posix_file_links,
    )
    # Names of one file share its extent; empty ones have none, so that they stay apart.
    return node, record.extent_location() if size and node.links > 1 else None


def _entry(ridge: Any, name: str) -> Any:
    """Return an entry of the record, or of its continuation."""
    found = getattr(ridge.dr_entries, name)
    return getattr(ridge.ce_entries, name) if found is None else found


def _mtime_s(tf: Any) -> int:
    # pycdlib (1.22) takes RRIP's bit 1, MODIFY, for the time of access.
    when = None if tf is None else tf.access_time
    if when is None:
        return 0
    local: int = timegm(
        (
            1900 + when.years_since_1900,
            when.month,
            when.day_of_month,
            when.hour,
            when.minute,
            when.second,
        )
    )
    return local - int(when.gmtoffset) * 15 * 60
