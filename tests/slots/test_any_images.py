"""From two indexes to the new image's bytes: our patch, our pack, the real verbs, each shell."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from slots import calls
from slots.actions import Erase, Patch, Prove, Seal
from slots.index import Index, Piece
from slots.manifest import HEAD_BYTES
from slots.pack import packed
from slots.patch import patch
from slots.sandbox import Sandbox
from slots.slot import SlotName
from tests.slots import images, packs
from tests.slots.hosts import Host, sandbox_slots, write
from tests.slots.patches import index_of, noise, reader

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 1 << 20
PAGE_BYTES = 4096
SHELLS = ("dash", "busybox sh", "mksh")
# Pieces that fill sectors, pieces that do not, long ones, and what is nothing but zeros.
POOL = [noise(n, size) for n, size in enumerate((512, 1536, 4096, 8192, 9216, 60_000, 777, 5001))]
PIECES = st.lists(st.sampled_from([*POOL, bytes(512), bytes(70_000)]), max_size=14)


class Indexed(NamedTuple):
    """An image and what its index says."""

    image: images.Image
    said: Index


def indexed(head: int, pieces: Sequence[bytes]) -> Indexed:
    """Make an image of a head and pieces, filled up as images are."""
    chunks = [noise(100 + head, HEAD_BYTES), *pieces]
    filling = -sum(map(len, chunks)) % PAGE_BYTES
    if filling:
        chunks.append(bytes(filling))
    return Indexed(images.of_bytes(b"".join(chunks), "uzip"), index_of(chunks))


def replayed(shell: str, old: Indexed, new: Indexed, unit: int) -> tuple[bool, bytes]:
    """Bring the new image into slot B as a deploy does; is it proven, and what is there?"""
    pack = packs.Pack(b"".join(packed(patch(old.said, new.said, unit), reader(new.image.data))))
    art, was = new.image.artefact, old.image.artefact
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Sandbox(), sandbox_slots(Path(folder), SLOT_BYTES), shell=shell)
        with host.lock() as token:
            write(host, A, old.image, token)
            stage = calls.stage_call(token, pack.sha256, pack.size_bytes, 0)
            assert host.run(stage, pack.data).status == 0
            assert host.do(Erase(B), token).status == 0
            answer = host.do(Patch(B, art, pack.sha256, was.sha256), token)
            assert answer.status == 0, answer
            assert host.do(Seal(B, art, "r2"), token, new.image.head).status == 0
            proof = Prove(B, "r2", art.format, art.size_bytes, art.sha256, art.head_sha256)
            proven = host.do(proof, token).status
        assert proven in {0, 23}
        return proven == 0, (Path(folder) / "b").read_bytes()[: art.size_bytes]


@settings(max_examples=5)
@given(st.sampled_from([1, 512]), st.integers(0, 1), PIECES, PIECES)
def test_of_any_two_images_the_old_one_and_its_pack_make_the_new_one(
    unit: int, head: int, before: list[bytes], after: list[bytes]
) -> None:
    old, new = indexed(0, before), indexed(head, after)
    for shell in SHELLS:
        assert replayed(shell, old, new, unit) == (True, new.image.data), shell


def test_equal_images_and_an_old_one_that_is_empty_are_nothing_special() -> None:
    full, empty = indexed(0, POOL), indexed(1, [])
    for old, new in ((full, full), (empty, full), (full, empty), (empty, empty)):
        for unit, shell in ((1, "dash"), (512, "mksh")):
            assert replayed(shell, old, new, unit) == (True, new.image.data)


def lying(index: Index, chance: random.Random) -> Index:
    """Exchange some of its digests: the lengths are those of the image still."""
    digests = [piece.digest for piece in index.pieces]
    pieces = [
        Piece(one.offset, one.length, chance.choice([one.digest, *digests])) for one in index.pieces
    ]
    return Index(index.sha256, index.size_bytes, tuple(pieces))


@settings(max_examples=4)
@given(st.sampled_from([1, 512]), PIECES, PIECES, st.randoms(use_true_random=False))
def test_an_index_that_lies_makes_no_proven_slot_of_other_bytes(
    unit: int, before: list[bytes], after: list[bytes], chance: random.Random
) -> None:
    old, new = indexed(0, before), indexed(1, after)
    liar = Indexed(old.image, lying(old.said, chance))
    for shell in SHELLS:
        proven, there = replayed(shell, liar, new, unit)
        assert proven == (there == new.image.data), shell
