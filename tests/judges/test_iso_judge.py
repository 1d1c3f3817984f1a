"""The judge itself: each rule, broken by hand in a good volume, is named."""

import re

import pytest

from builder.iso9660.layout import plan_layout
from builder.iso9660.parameters import Parameters, Placement
from builder.tree import Kind
from tests.builder.iso9660.trees import device, directory, file, symlink, tree_of, volume_of
from tests.judges.iso_judge import Volume

TREE = tree_of(
    [
        directory(b"/d"),
        file(b"/f", b"content"),
        device(b"/n", Kind.BLOCK, 8, 1),
        symlink(b"/d/" + b"l" * 250, b"t" * 99),
    ]
)
LAYOUT = plan_layout(TREE, Parameters(placement=Placement.SEQUENTIAL, cluster_bytes=2048))
GOOD = volume_of(LAYOUT)
ROOT = LAYOUT.first_blocks[0] * 2048


def judged(data: bytes) -> list[str]:
    volume = Volume(lambda at, length: data[at : at + length], len(data))
    list(volume.walk())
    return volume.violations + volume.overlaps()


def at(pattern: bytes, number: int = 0) -> int:
    return [found.start() for found in re.finditer(re.escape(pattern), GOOD)][number]


def both(value: int) -> bytes:
    return value.to_bytes(4, "little") + value.to_bytes(4, "big")


def path_table(order: str, number: int) -> int:
    """Where a row of a path table begins: that of the root has 10 bytes."""
    where = 16 * 2048 + (140 if order == "little" else 148)
    return int.from_bytes(GOOD[where : where + 4], order) * 2048 + 10 * number  # type: ignore[arg-type]


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
        (40, b"lower", "a label 'lowerLOT' that /dev/iso9660 does not show"),
        (path_table("little", 0) + 2, b"\x01", "the two path tables differ"),
        (path_table("little", 1) + 2, b"\x01", "list other directories than there are"),
        (path_table("little", 1) + 6, b"\x05", "a parent behind its child"),
        (166, both(2047), "a table of 2047 bytes"),
        (at(b"PX", 2) + 12, both(0), "0 links"),
        (at(b"PX", 2) + 12, both(32_768), "32768 links"),
        (at(b"PX", 2) + 4, both(0o030644), "of no known type"),
        (at(b"F.;1") - 8, b"\x80", "flags of several extents"),
        (at(b"F.;1") - 8, b"\x04", "flags of several extents, or others"),
        (at(b"N.;1") - 23, both(5), "data that is not of a file or a directory"),
        (at(b"PN"), b"QN", "device numbers missing"),
        (at(b"RR\x05") + 4, b"\x09", "RR indicates"),
        (at(b"RR\x05"), b"ZF", "an entry that no kernel wants"),
        (at(b"RR\x05"), b"CL", "an entry that no kernel wants"),
        (at(b"TF", 2) + 4, b"\x01", "no time of modification"),
        (at(b"TF", 2) + 4, b"\x82", "17-byte times"),
        (at(b"TF", 2) + 5, b"\x8a\x01\x13\x03\x0e\x08", "a time that kernels wrap"),
        (at(b"TF", 2) + 5, b"\x45\x0c\x1f\x17\x3b\x3b", "a time that kernels wrap"),
        (at(b"NM\x06\x01\x00f") + 4, b"\x02", "a name with flags 2"),
        (at(b"NM\x06\x01\x00f") + 5, b"/", "a name with a slash"),
        (at(b"NM\x06\x01\x00f") + 5, b"\0", "a name with a slash or a zero byte"),
        (at(b"NM\x06\x01\x00f") + 5, b"d", "a name twice"),
        (at(b"NM\x06\x01\x00f"), b"QM", "a name of 0 bytes"),
        (at(b"ttttt") - 2, b"\x08", "reads as nothing"),
        (at(b"ttttt") - 2, b"\x10", "a symlink component of a volume or a host"),
        (at(b"ttttt") - 2, b"\x20", "a symlink component of a volume or a host"),
        (80, both(2**20), "larger than what holds it"),
    ],
)
def test_a_broken_rule_is_named(place: int, new: bytes, said: str) -> None:
    place += 16 * 2048 * (place < 2048)
    data = GOOD[:place] + new + GOOD[place + len(new) :]
    assert any(said in one for one in judged(data))


def test_a_record_that_crosses_a_block_is_named() -> None:
    layout = plan_layout(
        tree_of(file(b"/%d" % number) for number in range(40)),
        Parameters(placement=Placement.SEQUENTIAL, cluster_bytes=2048),
    )
    good, start = volume_of(layout), layout.first_blocks[0] * 2048
    starts = [start]
    while good[starts[-1]]:
        starts.append(starts[-1] + good[starts[-1]])
    data = bytearray(good)
    data[starts[-2]] = 254
    assert judged(good) == []
    assert starts[-2] + 254 > start + 2048
    assert any("a record crosses a block" in one for one in judged(bytes(data)))
