"""Damaged images of every format: what and where, exit 8 (2: no image), in bounded time."""

import os
import random
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import browse
from builder.build import build
from builder.opened.squashfs import SquashfsImage
from builder.recipe import Packing
from builder.tree import Kind
from slots.errors import ProductError, Refused, VerificationError
from slots.manifest import Codec, Format
from tests.builder.command import image
from tests.builder.conftest import order
from tests.builder.readers import TOOLS

BLOCK = 2048
CASES: dict[str, tuple[Format, Codec | None]] = {
    "iso9660": ("iso9660", None),
    "zstd": ("uzip", "zstd"),
    "zlib": ("uzip", "zlib"),
    "lzma": ("uzip", "lzma"),
    "squashfs": ("squashfs", None),
    "erofs": ("erofs", None),
}
Images = dict[str, bytes]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """A small image of every kind that can be made here."""
    folder = tmp_path_factory.mktemp("good")
    source = folder / "source"
    (source / "a/b").mkdir(parents=True)
    (source / "a/f").write_text("hello " * 100)
    (source / "a/b/g").write_bytes(random.Random(1).randbytes(5000))  # noqa: S311 - the same always
    (source / "l").symlink_to("x/" * 150 + "y")
    os.link(source / "a/f", source / "h")
    os.mkfifo(source / "p")
    (source / ("n" * 250)).write_text("long")
    for number in range(12):
        (source / "a" / f"file{number}").write_text(str(number) * number)
    made: Images = {}
    for name, (format_, codec) in CASES.items():
        if all(shutil.which(tool) for tool in TOOLS.get(name, ())):
            image = folder / name
            wanted = order(source, image, format_)
            build(
                type(wanted)(wanted.recipe, wanted.formats, image, Packing(codec=codec)),
                lambda _event: None,
            )
            made[name] = image.read_bytes()
    return made


@dataclass
class Verdict:
    """How reading an image went."""

    error: ProductError | None
    seconds: float
    peak_bytes: int


def _read(path: Path) -> Verdict:
    """Do what info, ls, cat, extract and verify do; only expected errors are caught."""
    begun, error = time.process_time(), None
    tracemalloc.start()
    try:
        with browse.opened(path) as image:
            image.facts()
            tree = image.tree()
            image.check()
            for _, chunks in image.contents([one for one in tree if one.kind is Kind.FILE]):
                for _chunk in chunks:
                    pass
    except ProductError as raised:
        error = raised
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return Verdict(error, time.process_time() - begun, peak)


def _assert_bounded(verdict: Verdict, size_bytes: int) -> None:
    assert verdict.seconds < 10
    assert verdict.peak_bytes < 40_000_000 + 4 * size_bytes
    if verdict.error is not None:
        assert isinstance(verdict.error, VerificationError | Refused)
        assert "\n" not in verdict.error.message


@pytest.fixture
def good(request: pytest.FixtureRequest, images: Images) -> bytes:
    name = request.param
    if name not in images:
        pytest.skip(f"{' and '.join(TOOLS[name])} are not installed")
    return images[name]


EACH = pytest.mark.parametrize("good", list(CASES), indirect=True)


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_are_named_or_harmless_and_never_a_bug(
    good: bytes, seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same always
    places = [at for at in range(len(good)) if any(good[max(0, at - 8) : at + 8])]
    for _ in range(25):
        data = bytearray(good)
        for _ in range(chance.choice([1, 1, 1, 8])):
            data[chance.choice(places)] ^= chance.choice([1, 0x80, 0xFF, chance.randrange(1, 256)])
        path = tmp_path / "bad.img"
        path.write_bytes(data)
        _assert_bounded(_read(path), len(good))


@pytest.mark.torture
@EACH
def test_flipped_bytes_in_full(good: bytes, tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("SEED", "1")))  # noqa: S311 - told by SEED
    places = [at for at in range(len(good)) if any(good[max(0, at - 8) : at + 8])]
    for _ in range(2000):
        data = bytearray(good)
        data[chance.choice(places)] ^= chance.randrange(1, 256)
        path = tmp_path / "bad.img"
        path.write_bytes(data)
        _assert_bounded(_read(path), len(good))


@EACH
def test_a_cut_image_is_named_as_such_or_no_image(good: bytes, tmp_path: Path) -> None:
    used = len(good.rstrip(b"\0"))
    path = tmp_path / "cut.img"
    for length in (0, 1, 100, 600, 1100, 2000, 33_000, 35_000, 37_000, used // 2, used - 1):
        if length >= used:
            continue
        path.write_bytes(good[:length])
        verdict = _read(path)
        _assert_bounded(verdict, len(good))
        assert verdict.error is not None


@EACH
def test_random_bytes_behind_a_good_head_are_refused_or_read_within_bounds(
    good: bytes, tmp_path: Path
) -> None:
    chance = random.Random(7)  # noqa: S311 - the same always
    path = tmp_path / "noise.img"
    used = len(good.rstrip(b"\0"))
    for kept in sorted({min(one, used // 2) for one in (16, 140, 1100, 33_000, 37_000)}):
        path.write_bytes(good[:kept] + chance.randbytes(max(0, len(good) - kept)))
        verdict = _read(path)
        _assert_bounded(verdict, len(good))
        assert verdict.error is not None


@given(data=st.binary(max_size=3000), magic=st.sampled_from(["iso", "uzip", "hsqs", "erofs", ""]))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_no_image_or_a_damaged_one(tmp_path: Path, data: bytes, magic: str) -> None:
    heads = {
        "iso": bytes(32_768) + b"\x01CD001\x01\0",
        "uzip": b"#!/bin/sh\n#Z4.0 Format\n".ljust(128, b"\0"),
        "hsqs": b"hsqs",
        "erofs": bytes(1024) + b"\xe2\xe1\xf5\xe0",
    }
    path = tmp_path / "any.img"
    path.write_bytes(heads.get(magic, b"") + data)
    verdict = _read(path)
    _assert_bounded(verdict, 3000)
    assert verdict.error is not None


# --- directory records, field by field -----------------------------------------------------


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each record of each directory of a sequential volume lies, and the record."""
    for block in range(16, len(data) // BLOCK):
        at, end = block * BLOCK, (block + 1) * BLOCK
        is_table = data[at + 32 : at + 34] == b"\x01\x00" and data[at + 25] == 2
        while is_table and at < end and data[at]:
            yield at, data[at : at + data[at]]
            at += data[at]


def _both(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _named(data: bytes, name: bytes) -> tuple[int, bytes]:
    return next((at, raw) for at, raw in _records(data) if b"\x01\x00" + name in raw)


def _su(raw: bytes, kind: bytes) -> int:
    return raw.index(kind + b"", 34)


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _root_block(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 16 * BLOCK + 158)[0])


Spoil = Callable[[bytes], bytes]


def _field(name: bytes, offset: int, new: bytes) -> Spoil:
    return lambda data: _put(data, _named(data, name)[0] + offset, new)


def _entry(name: bytes, kind: bytes, offset: int, new: bytes) -> Spoil:
    def spoil(data: bytes) -> bytes:
        at, raw = _named(data, name)
        return _put(data, at + _su(raw, kind) + offset, new)

    return spoil


def _cycle(data: bytes) -> bytes:
    root = _root_block(data)
    return _field(b"a", 2, _both(root))(data)


FIELDS: dict[str, tuple[Spoil, str]] = {
    "descriptor id": (lambda d: _put(d, 17 * BLOCK, b"\x02XX001"), ""),
    "volume size": (lambda d: _put(d, 16 * BLOCK + 80, _both(2**31)), "does not lie in the image"),
    "volume size, one order": (lambda d: _put(d, 16 * BLOCK + 80, b"\xff"), "in the other"),
    "block size": (lambda d: _put(d, 16 * BLOCK + 128, b"\0\x04"), "not of 2,048"),
    "root block": (lambda d: _put(d, 16 * BLOCK + 158, _both(2**30)), "a table of"),
    "root size": (lambda d: _put(d, 16 * BLOCK + 166, _both(2**31)), "a table of"),
    "no terminator before the end": (lambda d: _put(d, 16 * BLOCK, b"\x02"), "no primary"),
    "record length 1": (_field(b"f", 0, b"\x01"), "a record of 1 bytes"),
    "record length 255": (_field(b"f", 0, b"\xff"), ""),
    "first block": (_field(b"f", 2, _both(2**32 - 1)), "leave the volume"),
    "first block, one order": (_field(b"f", 2, b"\xff"), "two byte orders of a record"),
    "data length": (_field(b"f", 10, _both(2**32 - 1)), "leave the volume"),
    "flags: directory": (_field(b"f", 25, b"\x02"), "flags of an entry"),
    "flags: goes on": (_field(b"f", 25, b"\x80"), "several extents"),
    "identifier length": (_field(b"f", 32, b"\xfe"), "a record of"),
    "identifier length 0": (_field(b"f", 32, b"\0"), ""),
    "directory cycle": (_cycle, "lies where another directory does"),
    "directory size": (_field(b"a", 10, _both(2**31)), "a table of"),
    "directory size 0": (_field(b"a", 10, _both(0)), "without a table"),
    "PX missing": (_entry(b"f", b"PX", 0, b"QX"), "without Rock Ridge"),
    "PX type": (_entry(b"f", b"PX", 4, _both(0o030644)), "of no known type"),
    "PX one order": (_entry(b"f", b"PX", 4, b"\xff"), "two byte orders of PX"),
    "PX length": (_entry(b"f", b"PX", 2, b"\x04"), "an entry PX of"),
    "TF month": (_entry(b"f", b"TF", 6, b"\x63"), "a time that cannot be"),
    "TF long form": (_entry(b"f", b"TF", 4, b"\x82"), "long form"),
    "NM length": (_entry(b"f", b"NM", 2, b"\xff"), "are left"),
    "NM empty": (_entry(b"f", b"NM", 0, b"QM"), "a name that cannot be"),
    "NM slash": (_entry(b"f", b"NM", 5, b"/"), "a name that cannot be"),
    "NM nul": (_entry(b"f", b"NM", 5, b"\0"), "a name that cannot be"),
    "NM goes on": (_entry(b"f", b"NM", 4, b"\x01"), "a name that cannot be"),
    "SP": (lambda d: _put(d, _root_block(d) * BLOCK + 34, b"XX"), "SP is missing"),
    "CE block": (lambda d: _put(d, d.index(b"CE\x1c\x01") + 4, _both(2**31)), "a continuation at"),
    "CE offset": (lambda d: _put(d, d.index(b"CE\x1c\x01") + 12, _both(2047)), "a continuation"),
    "CE one order": (lambda d: _put(d, d.index(b"CE\x1c\x01") + 4, b"\xff"), "orders of CE"),
    "SL flags": (lambda d: _put(d, d.index(b"SL", 18 * BLOCK) + 5, b"\x70"), "with flags 112"),
    "SL length": (lambda d: _put(d, d.index(b"SL", 18 * BLOCK) + 6, b"\xff"), "leaves its entry"),
    "SL missing": (lambda d: d.replace(b"SL", b"QL"), "without a target"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_of_a_volume_is_named_when_it_cannot_be(
    images: Images, field: str, tmp_path: Path
) -> None:
    good = images["iso9660"]
    spoil, says = FIELDS[field]
    bad = spoil(good)
    assert bad != good
    path = tmp_path / "bad.iso"
    path.write_bytes(bad)
    verdict = _read(path)
    _assert_bounded(verdict, len(good))
    if says:
        assert verdict.error is not None
        assert says in verdict.error.message
        assert verdict.error.message.startswith("bad.iso: /")
        assert "(block " in verdict.error.message


def test_a_continuation_that_leads_to_itself_ends(images: Images, tmp_path: Path) -> None:
    good = images["iso9660"]
    at = good.index(b"CE\x1c\x01", _root_block(good) * BLOCK + 200)
    block, offset = divmod(at, BLOCK)
    loop = b"CE\x1c\x01" + _both(block) + _both(offset) + _both(28)
    path = tmp_path / "loop.iso"
    path.write_bytes(_put(good, at, loop))
    verdict = _read(path)
    assert verdict.error is not None
    assert "continuations without end" in verdict.error.message


# --- commands ------------------------------------------------------------------------------


def test_every_command_says_what_is_wrong_with_a_damaged_image_and_exits_8(
    images: Images, tmp_path: Path
) -> None:
    path = tmp_path / "bad.iso"
    path.write_bytes(FIELDS["directory cycle"][0](images["iso9660"]))
    (tmp_path / "good.iso").write_bytes(images["iso9660"])
    for words in (
        ["ls", path],
        ["ls", "--json", path],
        ["cat", path, "/a/f"],
        ["extract", path, tmp_path / "out"],
        ["diff", path, tmp_path / "good.iso"],
        ["lint", path],
    ):
        done = image(*map(str, words))
        assert done.exit_code == 8, words
        assert "image: bad.iso: /a: lies where another directory does (block " in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_unsquashfs_is_never_told_of_a_device(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes its pseudo-file when it fails: as root that would be /dev/stdout itself."""
    if "squashfs" not in images:
        pytest.skip("unsquashfs is not installed")
    tools, image, said = tmp_path / "tools", tmp_path / "good.img", tmp_path / "said"
    image.write_bytes(images["squashfs"])
    tools.mkdir()
    fake = tools / "unsquashfs"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = -version ] && exec echo "unsquashfs version 4.5.1"\n'
        f'echo "$3" >{said}\necho broken >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(VerificationError):
        SquashfsImage(image).tree()
    told = Path(said.read_text().strip())
    assert not told.is_relative_to("/dev")
    assert not told.parent.exists()


def test_an_image_behind_a_pipe_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(Refused), browse.opened(path):
            pass
