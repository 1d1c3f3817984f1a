"""Trees beyond the usual sizes: a directory of very many names, a volume of many gigabytes."""

import os
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from builder import browse
from builder.build import build
from builder.iso9660.layout import plan_layout
from builder.iso9660.parameters import Parameters
from builder.iso9660.stream import clusters
from builder.tree import Node
from builder.uzip.codecs import codec_of
from builder.uzip.writer import write
from builder.verify import verify
from slots.manifest import Format
from tests.builder import readers
from tests.builder.conftest import order
from tests.builder.iso9660 import trees as iso
from tests.judges import uzip_judge
from tests.judges.iso_judge import Volume

COMMAND = (sys.executable, "-c", "from builder.cli import main; main()")
MIB, GIB = 1 << 20, 1 << 30
CLUSTER = 65_536


def _alike(folder: Path, count: int) -> None:
    """Make files whose names all begin alike: each gets an ISO name by its hash."""
    folder.mkdir(parents=True)
    for number in range(count):
        os.mknod(folder / f"mangled alike {number:06}")
    for number in range(0, count, 100):
        (folder / f"mangled alike {number:06}").write_bytes(b"%d" % number)


def test_twenty_thousand_names_of_one_directory_that_mangle_alike_are_read_back(
    tmp_path: Path,
) -> None:
    _alike(tmp_path / "tree/many", 20_000)
    image = tmp_path / "image"
    build(order(tmp_path / "tree", image, "iso9660"), lambda _event: None)
    data = image.read_bytes()
    volume = Volume(lambda at, length: data[at : at + length], len(data))
    found = {one.name: volume.content(one) for one in volume.walk() if one.kind == "file"}
    assert volume.violations == []
    assert volume.overlaps() == []
    assert found == {
        b"mangled alike %06d" % number: b"" if number % 100 else b"%d" % number
        for number in range(20_000)
    }
    with browse.opened(image) as one:
        assert len(one.tree()) == 20_002


def _cpu_s(*words: str | Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*COMMAND, *map(str, words)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.torture
def test_ten_times_the_names_in_one_directory_take_about_ten_times_the_work(
    tmp_path: Path,
) -> None:
    spent = dict[str, list[float]](build=[], ls=[])
    for count in (20_000, 200_000):
        source, image = tmp_path / f"{count}", tmp_path / f"{count}.uzip"
        _alike(source / "many", count)
        words = ("build", "--source", source, "--output", image, "--no-cache", "--level", "1")
        spent["build"].append(_cpu_s(*words))
        spent["ls"].append(_cpu_s("ls", image))
    for step, (few, many) in spent.items():
        print(f"{step}: {few:.1f} and {many:.1f} CPU seconds")
        assert many < 16 * few, step


def _sparse(path: Path, end: bytes) -> Node:
    """A file of 4 GiB - 1 that is a hole but for its end."""
    with path.open("wb") as file:
        file.seek(4 * GIB - 1 - len(end))
        file.write(end)
    if path.stat().st_blocks * 512 > GIB:
        pytest.skip("this file system has no holes")
    return iso.file(b"/" + os.fsencode(path.name))._replace(size=4 * GIB - 1, content=str(path))


def test_files_behind_the_fourth_gigabyte_of_a_volume_are_read_back(tmp_path: Path) -> None:
    ends = {name: os.urandom(100_000) for name in "ab"}
    nodes = [_sparse(tmp_path / name, end) for name, end in ends.items()]
    small = {b"/small%d" % number: b"%d" % number * 5000 for number in range(40)}
    layout = plan_layout(
        iso.tree_of([*nodes, *(iso.file(path, data) for path, data in small.items())]),
        Parameters(cluster_bytes=CLUSTER),
    )
    codec, level = codec_of("zstd", 1)
    image = tmp_path / "image"
    with image.open("w+b") as file:
        write(
            clusters(layout),
            layout.cluster_count,
            file,
            codec=codec,
            level=level,
            cluster_bytes=CLUSTER,
            threads=2,
        )
    container = uzip_judge.judge(image)
    assert container.violations == []
    decoded = lru_cache(64)(container.cluster)

    def read(at: int, length: int) -> bytes:
        parts = (decoded(n) for n in range(at // CLUSTER, -(-(at + length) // CLUSTER)))
        return b"".join(parts)[at % CLUSTER :][:length]

    volume = Volume(read, container.count * CLUSTER)
    entries = {one.path: one for one in volume.walk()}
    assert volume.violations == []
    assert volume.overlaps() == []
    assert volume.blocks * 2048 > 8 * GIB - 1
    for name, end in ends.items():
        one = entries[b"/" + name.encode()]
        assert one.size == 4 * GIB - 1
        assert read(one.block * 2048 + one.size - len(end), len(end)) == end
    with browse.opened(image) as opened:
        wanted = [node for node in opened.tree() if node.path in small]
        found = {node.path: b"".join(chunks) for node, chunks in opened.contents(wanted)}
    assert found == small == {path: volume.content(entries[path]) for path in small}
    assert max(one.block for one in entries.values()) * 2048 > 4 * GIB


@pytest.mark.torture
@pytest.mark.parametrize("format_", ["uzip", "squashfs", "erofs"])
def test_gigabytes_of_content_come_back(tmp_path: Path, format_: Format) -> None:
    """Four files of 1.1 GiB make a volume beyond 4 GiB; one of 4.4 GiB where a format holds it."""
    readers.need(*readers.TOOLS.get(format_, ()))
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, count in enumerate([1126] * 4 if format_ == "uzip" else [4505]):
        with (tree / f"file{number}").open("wb") as file:
            for at in range(count):  # mostly holes: mkfs.erofs 1.5 takes half an hour without them
                file.seek(at * MIB)
                file.write(b"file %d, MiB %d\n" % (number, at) * 300)
            file.truncate(count * MIB)
    image = tmp_path / "image"
    build(order(tree, image, format_), lambda _event: None)
    verify(image, lambda _event: None)
