import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder.build import build
from builder.reproduce import build_checked, compare
from slots.errors import BuildError
from slots.events import Event, Finished
from slots.manifest import Format
from tests.builder import readers
from tests.builder.conftest import order

COMMAND = (sys.executable, "-c", "from builder.cli import main; main()")


def test_a_build_is_held_against_a_second_one(
    chroot: Path, tmp_path: Path, events: list[Event]
) -> None:
    for output in (tmp_path / "image", tmp_path):
        built = build_checked(order(chroot, output, "uzip"), events.append)
        assert built.manifest.is_file()
    told = [one.detail for one in events if isinstance(one, Finished) and one.step == "reproduce"]
    assert told == ["the same to the byte"] * 2
    assert not list(tmp_path.glob(".again-*"))


def test_the_first_difference_of_two_builds_is_named(chroot: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = build(order(chroot, tmp_path / "a"), lambda _event: None)
    two = build(order(chroot, tmp_path / "b"), lambda _event: None)
    compare(one, two)
    image = two.manifest.parent / two.release.artefacts[0].file
    data = bytearray(image.read_bytes())
    data[70_001] ^= 1
    image.write_bytes(data)
    with pytest.raises(
        BuildError, match=rf"not reproducible: {image.name} differs from byte 70001"
    ):
        compare(one, two)
    image.write_bytes(data[:70_000])
    with pytest.raises(BuildError, match="differs from byte 70000"):
        compare(one, two)


def test_umask_zone_locale_and_threads_do_not_matter(chroot: Path, tmp_path: Path) -> None:
    formats = [
        word
        for format_ in ("uzip", "squashfs", "erofs")
        if all(map(readers.is_here, readers.TOOLS.get(format_, ())))
        for word in ("--format", format_)
    ]
    made = set()
    for number, (zone, locale, mask, cores) in enumerate(
        [("UTC0", "C", 0o022, None), ("Asia/Kathmandu", "tr_TR.UTF-8", 0o077, {0})]
    ):
        out = tmp_path / f"{number}"
        environment = os.environ | {"TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": str(number)}

        def prepare(mask: int = mask, cores: set[int] | None = cores) -> None:
            os.umask(mask)
            if cores is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores & os.sched_getaffinity(0) or os.sched_getaffinity(0))

        command = [*COMMAND, "build", "--source", str(chroot), "--output", f"{out}/", *formats]
        subprocess.run(
            command,
            check=True,
            env=environment,
            preexec_fn=prepare,
            capture_output=True,
        )
        files = sorted(path for path in out.rglob("*") if path.is_file())
        made.add(tuple((path.name, path.read_bytes()) for path in files))
    assert len(made) == 1
    assert len(made.pop()) == 2 + len(formats)


def test_a_file_that_may_not_grow_is_one_clear_line_and_nothing_is_left(
    chroot: Path, tmp_path: Path
) -> None:
    (chroot / "usr/lib/random").write_bytes(os.urandom(3_000_000))
    out = tmp_path / "out"
    done = subprocess.run(
        [*COMMAND, "build", "--source", str(chroot), "--output", str(out / "image")],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("image: ")]
    assert (done.returncode, len(told)) == (9, 1)
    assert "File too large" in told[0]
    assert list(out.iterdir()) == []


def test_holes_of_sparse_files_are_the_same_as_zeros(chroot: Path, tmp_path: Path) -> None:
    path, size = chroot / "usr/lib/sparse", 9_000_001

    def write(*, sparse: bool) -> None:
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(b"begin")
            if not sparse:
                file.write(bytes(size - 5))
            file.seek(4_000_000)
            file.write(b"middle")
            file.truncate(size)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        os.utime(path.parent, (1_600_000_000, 1_600_000_000))

    write(sparse=True)
    is_sparse = path.stat().st_blocks * 512 < 1_000_000
    build(order(chroot, tmp_path / "sparse", "uzip"), lambda _event: None)
    build(order(chroot, tmp_path / "sparse.iso", "iso9660"), lambda _event: None)
    write(sparse=False)
    build(replace(order(chroot, tmp_path / "full", "uzip"), threads=1), lambda _event: None)
    build(order(chroot, tmp_path / "full.iso", "iso9660"), lambda _event: None)
    assert (tmp_path / "sparse").read_bytes() == (tmp_path / "full").read_bytes()
    assert (tmp_path / "sparse.iso").read_bytes() == (tmp_path / "full.iso").read_bytes()
    if not is_sparse:
        pytest.skip("this file system has no holes: compared as zeros alone")


def _bytes_read() -> int:
    """What this process has read so far, from wherever."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("nothing here counts what a process reads")
    return int(counters.read_text(encoding="ascii").partition("rchar: ")[2].split()[0])


def test_a_long_hole_is_not_read(chroot: Path, tmp_path: Path) -> None:
    path = chroot / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 28)
    if path.stat().st_blocks:
        pytest.skip("this file system has no holes")
    before = _bytes_read()
    build(order(chroot, tmp_path / "image", "uzip"), lambda _event: None)
    assert _bytes_read() - before < 1 << 26


def test_a_long_hole_costs_next_to_nothing_in_the_image(chroot: Path, tmp_path: Path) -> None:
    with (chroot / "huge").open("wb") as file:
        file.truncate(1 << 28)
    built = build(order(chroot, tmp_path / "image", "uzip"), lambda _event: None)
    assert built.release.content_bytes > 1 << 28
    assert (tmp_path / "image").stat().st_size < 2_000_000


@pytest.mark.parametrize("format_", ["uzip", "iso9660", "squashfs", "erofs"])
def test_the_order_in_which_a_tree_was_made_does_not_matter(
    tmp_path: Path, format_: Format
) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    names = [f"{folder}/{number:03}" for folder in "abc" for number in range(60)]
    images = []
    for number, ordered in enumerate((names, names[::-1])):
        source = tmp_path / f"{number}" / "tree"
        for name in ordered:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(name * int(name[2:]))
        for one, other in (("a/000", "c/hard"), ("b/030", "a/hard")):
            os.link(source / one, source / other)
        for path in [*source.rglob("*"), source]:
            os.utime(path, (1_700_000_000, 1_700_000_000))
        build(order(source, tmp_path / f"image{number}", format_), lambda _event: None)
        images.append((tmp_path / f"image{number}").read_bytes())
    assert images[0] == images[1]
