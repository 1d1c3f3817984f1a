import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from builder.linuxfs import write_squashfs
from builder.squashfs import settle_root
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError

pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None, reason="mksquashfs is not installed"
)
ROOT = Node(b"", Kind.DIRECTORY, 0o1751, 11, 12, 1_234_567, links=2)


def _write(tree: Tree, out: Path, codec: str = "zstd") -> bytes:
    write_squashfs(
        tree, out, codec=codec, level=3, cluster_bytes=65_536, threads=2, emit=lambda _event: None
    )
    return out.read_bytes()


def _listed(image: Path) -> list[str]:
    """Read the image with unsquashfs: numeric owners, times in UTC."""
    command = ["unsquashfs", "-UTC", "-lln", str(image)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("owners", [1, 3, 2046, 2047, 2048, 2049, 5000])
def test_the_root_has_its_owner_mode_and_time_whatever_other_owners_there_are(
    tmp_path: Path, owners: int
) -> None:
    files = [
        Node(b"/%06d" % number, Kind.FILE, 0o644, 100 + number, 100, 0, content=b"")
        for number in range(owners)
    ]
    image = tmp_path / "image"
    data = _write(Tree.of([ROOT, *files]), image)
    assert len(data) % 4096 == 0
    lines = _listed(image)
    assert lines[0].split()[:2] == ["drwxr-x--t", "11/12"]
    assert "1970-01-15 06:56" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == [f"{100 + n}/100" for n in range(owners)]
    assert struct.unpack_from("<H", data, 26)[0] == len({11, 12, 100, *range(100, 100 + owners)})


def test_who_builds_leaves_no_trace_in_the_table_of_owners(tmp_path: Path) -> None:
    file = Node(b"/x", Kind.FILE, 0o644, 5, 5, 0, size=1, content=b"x")
    data = _write(Tree.of([ROOT._replace(uid=5, gid=5), file]), tmp_path / "image")
    assert struct.unpack_from("<H", data, 26)[0] == 1


def test_an_image_without_entries_is_an_image(tmp_path: Path) -> None:
    _write(Tree((ROOT,)), tmp_path / "image")
    assert len(_listed(tmp_path / "image")) == 1


def test_the_root_is_found_wherever_its_inode_falls_in_the_blocks(tmp_path: Path) -> None:
    # 17 more symlinks move the root's inode over the border of a metadata block, byte by byte.
    for length in range(1, 40):
        links = [
            Node(b"/%04d" % number, Kind.SYMLINK, 0o777, 0, 0, 0, target=b"t" * 6)
            for number in range(271)
        ]
        last = Node(b"/z", Kind.SYMLINK, 0o777, 0, 0, 0, target=b"t" * length)
        _write(Tree.of([ROOT, *links, last]), tmp_path / f"image{length}")
        line = _listed(tmp_path / f"image{length}")[0]
        assert line.split()[:2] == ["drwxr-x--t", "11/12"]
        assert "1970-01-15 06:56" in line


@pytest.mark.parametrize("codec", ["zstd", "zlib", "lzma", "lz4", "none"])
def test_all_tables_are_found_where_the_root_moved_them_to(tmp_path: Path, codec: str) -> None:
    files = [
        Node(
            b"/%04d" % number,
            Kind.FILE,
            0o644,
            7,
            8,
            0,
            size=40_000,
            content=b"%05d" % number * 8000,
        )
        for number in range(1500)
    ]  # several blocks of fragments, of inodes, and of references to them
    image = tmp_path / "image"
    _write(Tree.of([ROOT, *files]), image, codec)
    assert _listed(image)[0].split()[:2] == ["drwxr-x--t", "11/12"]
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tmp_path / "out", image], check=True)
    for number in (0, 749, 1499):
        assert (tmp_path / "out" / f"{number:04}").read_bytes() == b"%05d" % number * 8000


def test_what_is_no_squashfs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(200))
    with path.open("r+b") as file, pytest.raises(BuildError, match="not as it was asked for"):
        settle_root(file, ROOT, set(), 4096, bytes)
