import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.globs import matcher
from builder.scan import recheck, scan
from builder.tree import Kind, Tree
from builder.walk import walk
from slots.errors import BuildError, ConfigError
from tests.builder.trees import make_socket


def _scan(source: Path, *excludes: str) -> Tree:
    return scan(source, matcher(excludes)).tree


def test_entries_come_parents_first_with_their_kind_links_and_targets(chroot: Path) -> None:
    nodes = {node.path: node for node in _scan(chroot)}
    assert next(iter(nodes)) == b""
    assert nodes[b"/bin/also"].target == b"sh"
    assert nodes[b"/bin/sh"].mode == 0o4755
    assert nodes[b"/bin/sh"].group == nodes[b"/bin/bash"].group == 0
    assert nodes[b"/bin/sh"].links == 2
    assert nodes[b"/etc/fifo"].kind is Kind.FIFO
    assert nodes[b""].links == 2 + sum(1 for path in chroot.iterdir() if path.is_dir())
    assert b"/etc/caf\xe9 \\ \"quoted\" 'n'" in nodes


def test_an_excluded_name_leaves_its_file_with_one_link_less(chroot: Path) -> None:
    nodes = {node.path: node for node in _scan(chroot, "bin/bash")}
    assert b"/bin/bash" not in nodes
    assert (nodes[b"/bin/sh"].links, nodes[b"/bin/sh"].group) == (1, None)


def test_what_is_below_an_excluded_directory_is_not_read(chroot: Path) -> None:
    (chroot / "deep" / "closed").mkdir(mode=0)
    assert not any(b"deep" in node.path for node in _scan(chroot, "deep"))
    (chroot / "deep" / "closed").chmod(0o700)


def test_sockets_are_left_out_and_named(chroot: Path) -> None:
    make_socket(chroot, "log")
    scanned = scan(chroot, matcher(()))
    assert not scanned.is_whole
    assert b"/log" not in {node.path for node in scanned.tree}
    assert scanned.sockets == (b"/log",)


def test_a_source_that_is_missing_or_no_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such source"):
        _scan(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        _scan(tmp_path / "file")


def test_a_source_may_be_a_symlink_as_it_is_on_a_frontend(chroot: Path, tmp_path: Path) -> None:
    (link := tmp_path / "serving").symlink_to(chroot)

    scanned = scan(link, matcher(()))

    assert scanned.tree == _scan(chroot)
    recheck(scanned.source, scanned.tree)


@pytest.mark.parametrize("change", ["content", "mode", "new", "gone"])
def test_a_change_after_the_scan_is_named(chroot: Path, change: str) -> None:
    tree = _scan(chroot)
    recheck(chroot, tree)
    path = chroot / "usr/lib/big"
    match change:
        case "content":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        case "mode":
            path.chmod(0o600)
        case "new":
            (chroot / "usr/lib/added").touch()
        case _:
            path.unlink()
    with pytest.raises(BuildError, match=r"changed while the image was built: .*/usr/lib"):
        recheck(chroot, tree)


def test_all_unreadable_files_are_named(chroot: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything; tests/builder/test_users.py runs this as nobody")
    (chroot / "etc/shadow").chmod(0)
    assert scan(chroot, matcher(())).unreadable == (b"/etc/shadow",)


def test_names_of_one_symlink_or_fifo_are_one_as_those_of_a_file_are(chroot: Path) -> None:
    for name in ("bin/also", "etc/fifo"):
        os.link(chroot / name, chroot / "twin", follow_symlinks=False)
        nodes = {node.path: node for node in _scan(chroot)}
        one, twin = nodes[os.fsencode("/" + name)], nodes[b"/twin"]
        assert (one.links, twin.links) == (2, 2)
        assert one.group == twin.group is not None
        (chroot / "twin").unlink()


def test_a_change_that_sets_the_time_back_is_dated_by_what_nobody_sets(chroot: Path) -> None:
    path = chroot / "etc/passwd"
    while path.stat().st_ctime_ns <= chroot.stat().st_ctime_ns:
        os.utime(path, (5, 5))
    assert walk(chroot, matcher(())).latest_ns == path.stat().st_ctime_ns


@pytest.mark.parametrize("tells_mounts", [True, False], ids=["linux", "others"])
def test_what_is_mounted_inside_is_an_empty_mount_point(
    chroot: Path, monkeypatch: pytest.MonkeyPatch, tells_mounts: bool
) -> None:
    if not tells_mounts:
        monkeypatch.setattr(sys, "platform", "freebsd14")
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root mounts")
    (chroot / "proc").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "none", str(chroot / "proc")], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        (chroot / "proc" / "inside").touch()
        os.utime(chroot, (7, 7))
        scanned = scan(chroot, matcher(()))
    finally:
        subprocess.run(["umount", str(chroot / "proc")], check=True)
    assert b"/proc/inside" not in {node.path for node in scanned.tree}
    (point,) = (node for node in scanned.tree if node.path == b"/proc")
    assert point.mtime_s == 7  # its parent's: when something was mounted is nobody's matter
    assert scanned.mounts == (b"/proc",)


@pytest.mark.parametrize("change", ["a directory goes", "a directory turns to a file",
                                    "a symlink goes", "a symlink turns to a file"])  # fmt: skip
def test_what_changes_between_two_looks_of_a_scan_is_named(chroot: Path, change: str) -> None:
    path = chroot / ("empty dir" if "directory" in change else "bin/also")

    def disturb(entry: bytes) -> bool:
        if chroot / os.fsdecode(entry[1:]) == path:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            if "turns" in change:
                path.touch()
        return False

    with pytest.raises(BuildError, match="changed while it was scanned") as caught:
        scan(chroot, disturb)
    assert path.name in caught.value.message
