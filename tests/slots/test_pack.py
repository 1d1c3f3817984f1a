"""Packs: what is written is read back, and a head that does not fit is refused."""

import gzip
import re
from io import BytesIO

import pytest
from hypothesis import given

from slots.manifest import HEAD_BYTES
from slots.pack import head_lines, packed, packed_head, parse_head
from slots.patch import Copy, Identity, Literal, Patch, patch
from tests.slots.patches import index_of, literals_of, pairs, reader

OLD, NEW = Identity("a" * 64, 200_000), Identity("b" * 64, HEAD_BYTES + 3)
GOOD = Patch(1, OLD, NEW, (Copy(5, 1), Literal(HEAD_BYTES + 1, 2)))


@given(pairs())
def test_a_pack_holds_its_patch_and_the_literals(
    pair: tuple[int, list[bytes], list[bytes]],
) -> None:
    unit, old, new = pair
    made = patch(index_of(old), index_of(new), unit)
    data = b"".join(new)
    file = BytesIO(gzip.decompress(b"".join(packed(made, reader(data)))))
    assert parse_head(file.readline) == made
    assert file.read() == b"".join(literals_of(made, data))


def test_the_same_patch_is_the_same_file() -> None:
    first, again = (b"".join(packed(GOOD, reader(bytes(HEAD_BYTES + 3)))) for _ in range(2))
    assert first == again
    assert first[4:8] == bytes(4), "gzip's time is zero"
    assert first[3] == 0, "gzip has no name"


def test_what_compresses_travels_compressed() -> None:
    """Tables of offsets are literals; clusters are compressed already."""
    table = b"".join(number.to_bytes(8) for number in range(100_000, 10_000_000, 700))
    new = Identity("b" * 64, HEAD_BYTES + len(table))
    made = Patch(1, OLD, new, (Literal(HEAD_BYTES, len(table)),))
    assert len(b"".join(packed(made, reader(bytes(HEAD_BYTES) + table)))) < len(table) / 2
    assert len(packed_head(table[:HEAD_BYTES])) < HEAD_BYTES / 2
    assert gzip.decompress(packed_head(table[:HEAD_BYTES])) == table[:HEAD_BYTES]


def test_an_image_that_is_too_short_is_no_source_of_literals() -> None:
    with pytest.raises(ValueError, match="the new image has no 65539 bytes"):
        list(packed(GOOD, reader(bytes(HEAD_BYTES + 2))))


def test_the_head_reads_as_documented() -> None:
    assert "".join(head_lines(GOOD)) == (
        f"flipslot pack 1\nunit=1\nold={'a' * 64} 200000\nnew={'b' * 64} 65539\n"
        "moves=2\nc 5 1\nl 2\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("flipslot pack 1", "flipslot pack 2", "does not begin with flipslot pack 1"),
        ("unit=1", "unit=2", "a unit of 2 bytes is not known"),
        ("unit=1", "unit=one", "'unit=one' is not unit=NUMBER"),
        ("old=a", "old=A", "is not old=SHA256 SIZE"),
        ("new=b", "old=b", "is not new=SHA256 SIZE"),
        ("moves=2", "moves=3", "its head is cut off"),
        ("moves=2", "moves=1", "its moves end at 65537 bytes of 65539"),
        ("c 5 1", "c 200000 1", "copies from behind the old image's end"),
        ("c 5 1", "c -5 1", "'c -5 1' is no move"),
        ("c 5 1", "x 5 1", "'x 5 1' is no move"),
        ("c 5 1", "c 5 0", "'c 5 0' moves nothing"),
        ("c 5 1", "c 5 " + "1" * 200, "its head is cut off"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(old: str, new: str, complaint: str) -> None:
    text = "".join(head_lines(GOOD))
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_head(BytesIO(text.replace(old, new).encode()).readline)
