"""The judge itself: each rule, broken by hand in a good volume, is named."""

import re

import pytest

from builder.iso9660.layout import Parameters, Placement, plan_layout
from tests.builder.iso9660.trees import directory, file, symlink, tree_of, volume_of
from tests.judges.iso_judge import Volume

TREE = tree_of([directory(b"/d"), file(b"/f", b"content"), symlink(b"/d/" + b"l" * 250, b"t" * 99)])
LAYOUT = plan_layout(TREE, Parameters(placement=Placement.SEQUENTIAL, cluster_bytes=2048))
GOOD = volume_of(LAYOUT)
ROOT = LAYOUT.first_blocks[0] * 2048


def judged(data: bytes) -> list[str]:
    volume = Volume(lambda at, length: data[at : at + length], len(data))
    list(volume.walk())
    return volume.violations + volume.overlaps()


def at(pattern: bytes, number: int = 0) -> int:
    return [found.start() for found in re.finditer(re.escape(pattern), GOOD)][number]


def test_a_good_volume_breaks_no_rule() -> None:
    assert judged(GOOD) == []


@pytest.mark.parametrize(
    ("place", "new", "said"),
    [
        (17 * 2048, b"\0", "no terminator"),
        (80, b"\xff", "the two byte orders differ"),
        (84, b"\xff", "the two byte orders differ"),
        (128, b"\0\x04", "not 2048 in both orders"),
        (ROOT + 34, b"XX", "SP is not the first entry"),
        (at(b"RRIP_1991A"), b"RRIP_2000A", "no ER that names Rock Ridge"),
        (at(b"PX", 2), b"QX", "PX or TF is missing"),
        (at(b"TF", 2), b"QF", "PX or TF is missing"),
        (at(b"PX", 2) + 5, b"\xa1", "the two byte orders differ"),
        (at(b"CE") + 10, b"\xff", "the two byte orders differ"),
        (at(b"CE") + 12, b"\xff\x07\0\0\0\0\x07\xff", "leaves its block"),
        (at(b"CE") + 4, b"\0\0\0\x09\x09\0\0\0", "leaves its block or the volume"),
        (at(b"F.;1"), b"A.;1", "not in order"),
        (ROOT + 2, b"\x01\0\0\0\0\0\0\x01", "points elsewhere"),
        (at(b"F.;1") - 31, b"\xff\xff\0\0\0\0\xff\xff", "outside the volume"),
        (at(b"F.;1") - 31, GOOD[ROOT + 2 : ROOT + 10], "overlap"),
        (at(b"F.;1") - 8, b"\x02", "flag and PX disagree"),
        (at(b"NM\x06\x01\x00f") + 4, b"\x01", "a name that does not end"),
        (at(b"NM\x06\x01\x00f") + 2, b"\x03", "a bad system use entry"),
    ],
)
def test_a_broken_rule_is_named(place: int, new: bytes, said: str) -> None:
    place += 16 * 2048 * (place < 2048)
    data = GOOD[:place] + new + GOOD[place + len(new) :]
    assert any(said in one for one in judged(data))
