"""What each reader of an image finds in it, entry by entry, in one form: path → what stat(2) says.

`first` is, of the names of one file with content, the first by bytes; else it is empty. Every
reader but `browsed` shares no code with the builder.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from builder import browse
from builder.opened import witness
from builder.tree import Kind, Node, Tree
from tests.judges.iso_judge import Entry, Volume
from tests.judges.uzip_judge import judge

Description = dict[bytes, dict[str, object]]
KINDS = {0o04: "dir", 0o10: "file", 0o12: "link", 0o02: "char", 0o06: "block", 0o01: "fifo"}
TOOLS = {"squashfs": ("unsquashfs",), "erofs": ("mkfs.erofs", "fsck.erofs")}


def is_here(tool: str) -> bool:
    return shutil.which(tool) is not None


def need(*tools: str) -> None:
    """Skip a test that asks programs which are not here."""
    for tool in tools:
        if not is_here(tool):
            pytest.skip(f"{tool} is not installed")


def differences(found: Description, expected: Description) -> dict[bytes, object]:
    """Name what differs: what was found, and what should have been."""
    return {
        path: (found.get(path), expected.get(path))
        for path in found.keys() | expected.keys()
        if found.get(path) != expected.get(path)
    }


def sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _with_firsts(found: Description, keys: dict[bytes, object]) -> Description:
    """Say which names are one file; `keys` says it by anything that they share."""
    firsts: dict[object, bytes] = {}
    for path in sorted(found):
        found[path]["first"] = b""
        if path in keys and found[path]["size"] and found[path]["links"] != 1:
            found[path]["first"] = firsts.setdefault(keys[path], path)
    return found


def on_disk(root: Path) -> Description:
    """What os tells of a directory and of all that lies in it."""
    top = os.fsencode(root)
    walked = ((folder, folders + files) for folder, folders, files in os.walk(top))
    inner = (folder + b"/" + name for folder, names in walked for name in names)
    paths = {path[len(top) :]: os.lstat(path) for path in chain([top], inner)}
    found = {path: _status(top + path, one) for path, one in paths.items()}
    return _with_firsts(found, {path: one.st_ino for path, one in paths.items()})


def _status(path: bytes, status: os.stat_result) -> dict[str, object]:
    kind = KINDS[status.st_mode >> 12]
    is_device = kind in {"char", "block"}
    return {
        "kind": kind,
        "mode": status.st_mode & 0o7777 if kind != "link" else 0o777,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "links": status.st_nlink,
        "mtime_s": status.st_mtime_ns // 1_000_000_000,
        "size": status.st_size if kind == "file" else 0,
        "target": os.readlink(path) if kind == "link" else b"",  # noqa: PTH115 - bytes
        "device": (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        "sha256": sha256([Path(os.fsdecode(path)).read_bytes()]) if kind == "file" else "",
    }


def volume_in(image: Path) -> bytes:
    """The volume in an uzip image, as the judge decodes it."""
    container = judge(image)
    assert container.violations == []
    return container.volume()


def judged(data: bytes) -> Description:
    """What the judge of the tests reads of a volume in which it finds no broken rule."""
    volume = Volume(lambda at, length: data[at : at + length], len(data))
    entries = list(volume.walk())
    found = {one.path: _entry(one, volume) for one in entries}
    assert len(found) == len(entries)
    assert volume.violations == []
    assert volume.overlaps() == []
    return _with_firsts(found, {one.path: one.block for one in entries if one.kind == "file"})


def as_mounted(expected: Description) -> Description:
    """cd9660 shows `/` alone as `/.`: there is no other way to write it."""
    return {
        path: one | {"target": b"/."} if one["target"] == b"/" else one
        for path, one in expected.items()
    }


def as_xorriso_restores(described: Description) -> Description:
    """Leave out what xorriso (1.5.4) cannot restore.

    Owners and times of symlinks; slashes doubled in a target, or at its end; device nodes: it takes
    PN for one number, split at the eighth bit. Hard links are joined if they have content.
    """
    return {
        path: _as_restored(one)
        for path, one in as_mounted(described).items()
        if one["kind"] not in {"char", "block"}
    }


def _as_restored(one: dict[str, object]) -> dict[str, object]:
    if one["kind"] == "dir" or one["size"]:
        return one
    if one["kind"] != "link":
        return one | {"links": 1}
    target = one["target"]
    assert isinstance(target, bytes)
    target = re.sub(rb"/+", b"/", target)
    target = b"/." if target == b"/" else target
    return one | {"uid": 0, "gid": 0, "mtime_s": 0, "links": 1, "target": target}


def _entry(one: Entry, volume: Volume) -> dict[str, object]:
    return {
        "kind": one.kind,
        "mode": one.mode,
        "uid": one.uid,
        "gid": one.gid,
        "links": one.links,
        "mtime_s": one.mtime_s,
        "size": one.size,
        "target": one.target,
        "device": one.device,
        "sha256": sha256([volume.content(one)]) if one.kind == "file" else "",
    }


def browsed(image: Path) -> Description:
    """What the product's own reader finds in an image of any format."""
    with browse.opened(image) as one:
        tree = one.tree()
        files = [node for node in tree if node.kind is Kind.FILE]
        digests = {_key(node): sha256(chunks) for node, chunks in one.contents(files)}
        return described(tree, digests)


def extracted(image: Path, out: Path) -> Description:
    """What `image extract` leaves."""
    with browse.opened(image) as one:
        browse.extract(one, out, lambda _event: None)
    return on_disk(out)


def joined_by_content(described: Description) -> Description:
    """ISO 9660 tells by their content that names are one file: what has none is left apart."""
    return {
        path: one if one["kind"] == "dir" or one["size"] else one | {"links": 1}
        for path, one in described.items()
    }


def by_pycdlib(volume: Path) -> Description:
    """What pycdlib finds in an ISO 9660 volume, contents and all."""
    import pycdlib

    with volume.open("rb") as file:
        tree = witness.tree(file, volume.name)
    iso = pycdlib.PyCdlib()
    iso.open(str(volume))
    digests = dict(_pycdlib_digests(iso, iso.get_record(iso_path="/"), b""))
    iso.close()
    return described(tree, {_key(node): digests.get(node.path, "") for node in tree})


def _pycdlib_digests(iso: Any, folder: Any, path: bytes) -> Iterator[tuple[bytes, str]]:
    for child in folder.children:
        if child.is_dot() or child.is_dotdot():
            continue
        name = path + b"/" + child.rock_ridge.name()
        if child.is_dir():
            yield from _pycdlib_digests(iso, child, name)
        elif child.rock_ridge.is_symlink() or not child.get_data_length():
            yield name, sha256([])
        else:
            where = iso.full_path_from_dirrecord(child)
            with iso.open_file_from_iso(iso_path=where) as content:
                yield name, sha256([content.read()])


def _key(node: Node) -> object:
    return node.path if node.group is None else node.group


def described(tree: Tree, digests: Mapping[Any, str]) -> Description:
    """Describe a tree; `digests` holds those of files by group, or else by path."""
    found: Description = {
        node.path: {
            "kind": node.kind.value,
            "mode": node.mode,
            "uid": node.uid,
            "gid": node.gid,
            "links": node.links,
            "mtime_s": node.mtime_s,
            "size": node.size,
            "target": node.target,
            "device": (node.major, node.minor),
            "sha256": digests[_key(node)] if node.kind is Kind.FILE else "",
        }
        for node in tree
    }
    return _with_firsts(found, {node.path: _key(node) for node in tree if node.kind is Kind.FILE})


def by_xorriso(volume: Path, out: Path) -> Description:
    """What xorriso, as root, restores of an ISO 9660 volume."""
    command = ["xorriso", "-abort_on", "WARNING", "-hardlinks", "on", "-indev", str(volume)]
    command += ["-osirrox", "on:auto_chmod_off", "-extract", "/", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"LC_ALL": "C"})
    return on_disk(out)


def by_unsquashfs(image: Path, out: Path) -> Description:
    """What unsquashfs, as root, restores of a squashfs image."""
    command = ["unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-dest", str(out), str(image)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"LC_ALL": "C"})
    return on_disk(out)
