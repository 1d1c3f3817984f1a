"""Damaged images in a child of bounded memory and time: C libraries and tools are held too."""

import json
import os
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.build import Order, build
from builder.recipe import Packing, recipe_of
from slots.manifest import Format
from tests.builder import readers

MEMORY_BYTES = 1 << 30
EACH_S = 20
CHILD = """
import json, signal, sys
from pathlib import Path
from builder import browse
from builder.tree import Kind
from slots.errors import ProductError
for name in sys.argv[2:]:
    signal.alarm(int(sys.argv[1]))
    said = ""
    try:
        with browse.opened(Path(name)) as image:
            image.facts()
            tree = image.tree()
            image.check()
            for _, chunks in image.contents([one for one in tree if one.kind is Kind.FILE]):
                for chunk in chunks:
                    pass
    except ProductError as error:
        said = error.message
    print(json.dumps([Path(name).name, said]), flush=True)
"""
FORMATS: tuple[Format, ...] = ("uzip", "iso9660", "squashfs", "erofs")


@pytest.fixture(scope="module", params=FORMATS)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small good image of a format."""
    format_: Format = request.param
    readers.need(*readers.TOOLS.get(format_, ()))
    folder = tmp_path_factory.mktemp(format_)
    source = folder / "source"
    (source / "a").mkdir(parents=True)
    (source / "a/f").write_bytes(random.Random(1).randbytes(90_000))  # noqa: S311 - the same always
    (source / "h").write_text("text " * 9000)
    (source / "l").symlink_to("x" * 300)
    wanted = Order(recipe_of(source), (format_,), folder / format_, Packing(), threads=2)
    build(wanted, lambda _event: None)
    return folder / format_


def _spoiled(name: str, good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield images each of whose numbers in the head is 0, its greatest, or one bit off."""
    for what, at, size in _fields(name, good):
        old = good[at : at + size]
        for kind, new in {
            "zero": bytes(size),
            "ones": b"\xff" * size,
            "high": b"\x7f" + b"\xff" * (size - 1),
            "bit": bytes([old[0] ^ 1]) + old[1:],
            "top": old[:-1] + bytes([old[-1] ^ 0x40]),
        }.items():
            if new != old:
                yield f"{what}.{kind}", good[:at] + new + good[at + size :]


def _fields(name: str, good: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, place and bytes of the numbers in an image's head."""
    match name:
        case "uzip":
            yield from (("magic", 8, 8), ("cluster", 128, 4), ("count", 132, 4))
            (count,) = struct.unpack_from(">I", good, 132)
            yield from ((f"toc{n}", 136 + 8 * n, 8) for n in {0, 1, count // 2, count - 1, count})
        case "iso9660":
            places = (8, 80, 84, 120, 124, 128, 132, 136, 140, 148, 158, 162, 166, 170)
            yield from ((f"descriptor{at}", 32_768 + at, 4) for at in places)
        case "squashfs":
            halves = (20, 22, 24, 26, 28, 30)
            yield from ((f"superblock{at}", at, 4) for at in (0, 4, 8, 12, 16))
            yield from ((f"superblock{at}", at, 2) for at in halves)
            yield from ((f"superblock{at}", at, 8) for at in range(32, 96, 8))
        case _:
            yield from ((f"superblock{at}", 1024 + at, 4) for at in range(0, 128, 4))


def test_no_number_in_a_head_makes_a_reader_hang_or_eat_memory(image: Path, tmp_path: Path) -> None:
    names: list[Path] = []
    for name, data in _spoiled(image.name, image.read_bytes()):
        names.append(tmp_path / name)
        names[-1].write_bytes(data)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(EACH_S), *map(str, [image, *names])],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        timeout=EACH_S * 10,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    said = dict(json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0, (len(said), list(said)[-1:], done.stderr[-2000:])
    assert said.pop(image.name) == ""
    assert set(said) == {path.name for path in names}
    for name, message in said.items():
        assert not message or name in message, message
        assert "\n" not in message
    assert sum(map(bool, said.values())) > len(said) // 3
