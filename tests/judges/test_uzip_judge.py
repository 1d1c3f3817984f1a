"""The judge itself: each rule, broken by hand, is named."""

import lzma
import struct
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.judges.uzip_judge import SHELL, Image, RefusedByKernelError

SIZE = 16_384
A, B = b"a" * SIZE, b"b" * SIZE
MAGICS = {
    "zlib": b"#!/bin/sh\n#V2.0 Format\n" + SHELL,
    "zstd": b"#!/bin/sh\n#Z4.0 Format\n" + SHELL,
    "lzma": b"#!/bin/sh\n#L3.0\n",
}


def built(
    stored: list[bytes],
    *,
    codec: str = "zlib",
    toc: list[int] | None = None,
    magic: bytes | None = None,
    size: int = SIZE,
    behind: bytes = b"",
) -> Image:
    """An image made by hand; `toc` holds steps from the start of the data."""
    head = 136 + 8 * (len(toc or stored) + (toc is None))
    start = head + -head % 512
    offsets, data = [start], b"".join(stored)
    for one in stored:
        offsets.append(offsets[-1] + len(one))
    if toc is not None:
        offsets = [start + step if step >= 0 else 0 for step in toc]
    whole = (magic or MAGICS[codec]).ljust(128, b"\0")
    whole += struct.pack(">II", size, len(offsets) - 1)
    whole += struct.pack(f">{len(offsets)}Q", *offsets)
    whole = whole.ljust(start, b"\0") + data + behind
    found = Image(whole + bytes(-len(whole) % 4096))
    found.volume()
    return found


def sector(stored: bytes) -> bytes:
    return stored + bytes(-len(stored) % 512)


Z = [sector(zlib.compress(one)) for one in (A, B)]


def test_a_good_image_breaks_no_rule() -> None:
    found = built(Z)
    assert found.violations == []
    assert found.volume() == A + B


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: built(Z, toc=[0, 512, 1024, 1024]), "the last cluster is elided"),
        (lambda: built(Z, toc=[0, 512, -1]), "no true end"),
        (lambda: built(Z, toc=[0, 512, 1536], behind=bytes(512)), "padding of more than a sector"),
        (lambda: built(Z, behind=b"x"), "what lies behind the image is not zeros"),
        (lambda: built(Z, toc=[0, 512, 0, 1024]), "the last cluster is a reference"),
        (lambda: built([*Z, Z[0]], toc=[0, 512, 0, 1024, 1536]), "letter is upper case"),
        (lambda: built(Z, magic=b"#!/bin/sh\n#v3.0 Format\n" + SHELL), "letter is lower case"),
        (lambda: built(Z, magic=b"#!/bin/sh\n#V2.0 Format\nexit\n"), "the magic is not mkuzip's"),
        (lambda: built([zlib.compress(A), Z[1]]), "cluster 0: not padded to 512"),
        (lambda: built([zlib.compress(A).ljust(512, b"x"), Z[1]]), "its padding is not zeros"),
        (
            lambda: built([sector(lzma.compress(A, check=lzma.CHECK_CRC64))], codec="lzma"),
            "without CRC32",
        ),
        (
            lambda: built(
                [
                    sector(
                        lzma.compress(
                            A,
                            check=lzma.CHECK_CRC32,
                            filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}],
                        )
                    )
                ],
                codec="lzma",
            ),
            "another filter",
        ),
    ],
)
def test_a_broken_rule_is_named(found: Callable[[], Image], said: str) -> None:
    assert any(said in one for one in found().violations)


def zstd(data: bytes) -> bytes:
    """A frame, and the skippable one that fills its sector."""
    stored = zstandard.compress(data)
    gap = (-len(stored) - 8) % 512
    return stored + struct.pack("<II", 0x184D2A50, gap) + bytes(gap)


def test_a_good_zstd_image_breaks_no_rule() -> None:
    found = built([zstd(A), zstd(B)], codec="zstd")
    assert (found.volume(), found.violations) == (A + B, [])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            lambda: built([zstandard.compress(A), zstd(B)], codec="zstd"),
            "cluster 0: not padded to 512",
        ),
        (lambda: built([Z[0], Z[1] + bytes(20_480)]), "cluster 1: stored in"),
        (
            lambda: built([sector(zlib.compress(bytes(1 << 20)))], size=1 << 20),
            "clusters that FreeBSD does not read",
        ),
        (lambda: Image(bytes(built(Z).data) + bytes(512)), "no multiple of 4,096"),
    ],
)
def test_a_rule_of_sizes_that_is_broken_is_named(found: Callable[[], Image], said: str) -> None:
    assert any(said in one for one in found().violations)


def test_a_reference_to_the_cluster_stored_just_before_hides_it_from_the_kernel() -> None:
    found = built(Z, toc=[0, 0, 512, 1024])
    assert found.volume() == bytes(SIZE) + A + B  # not A + A + B


@pytest.mark.parametrize(
    "found",
    [
        lambda: built(Z, magic=b"nothing"),
        lambda: built(Z, magic=b"#!/bin/sh\n#V1.0 Format\n" + SHELL),
        lambda: built(Z, magic=b"#!/bin/sh\n#Z3.0 Format\n" + SHELL),
        lambda: built(Z, size=SIZE + 1),
        lambda: built(Z, size=SIZE * 2),
        lambda: built(Z, toc=[0, 2**40, 1024]),
        lambda: built([*Z, Z[0]], toc=[0, 512, 256, 1024, 1536]),
        lambda: built([bytes(20_000), Z[1]]),
        lambda: built([Z[0][:20], Z[1]]),
        lambda: built([zstandard.compress(A).ljust(512, b"\0")], codec="zstd"),
        lambda: built([zstandard.compress(A[:99]) + zstd(A[99:])], codec="zstd"),
        lambda: built([zstd(A[:-1]), zstd(B)], codec="zstd"),
        lambda: built([sector(zlib.compress(A[:-1])), Z[1]]),
        lambda: built([sector(lzma.compress(A + B, check=lzma.CHECK_CRC32))], codec="lzma"),
        lambda: built(Z, magic=b"#!/bin/sh\n#L2.0\n"),
        lambda: built(Z, size=0),
        lambda: built(Z, toc=[-1, 512, 1024]),
        lambda: built([], toc=[0]),
    ],
)
def test_what_the_kernel_refuses_is_refused(found: Callable[[], Image]) -> None:
    with pytest.raises((RefusedByKernelError, struct.error)):
        found()
