"""Patches: whatever the two indexes say, the moves fit; where they tell the truth, so do these."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slots.index import Index, Piece
from slots.manifest import HEAD_BYTES
from slots.patch import Copy, Literal, Patch, patch, unit_of
from tests.slots.patches import images, index_of, literals_of, noise, pairs, replayed

WORTH = st.sampled_from([0, 1, 600, 4096])


def fits(made: Patch) -> None:
    """Hold a patch against what a host demands of it."""
    place = HEAD_BYTES
    for move in made.moves:
        assert move.length > 0
        assert move.length % made.unit == 0
        match move:
            case Copy(offset, length):
                assert offset >= 0
                assert offset % made.unit == 0
                assert offset + length <= made.old.size_bytes
            case Literal(offset):
                assert offset == place
        place += move.length
    assert place == max(made.new.size_bytes, HEAD_BYTES)
    for one, other in zip(made.moves, made.moves[1:], strict=False):
        assert not (isinstance(one, Literal) and isinstance(other, Literal)), "not merged"
        if isinstance(one, Copy) and isinstance(other, Copy):
            assert one.old_offset + one.length != other.old_offset, "not merged"


@given(pairs(), WORTH)
def test_replaying_a_patch_gives_the_new_image(
    pair: tuple[int, list[bytes], list[bytes]], worth_bytes: int
) -> None:
    unit, old, new = pair
    made = patch(index_of(old), index_of(new), unit, worth_bytes=worth_bytes)
    fits(made)
    data = b"".join(new)
    assert replayed(made, b"".join(old), literals_of(made, data)) == data[HEAD_BYTES:]


@given(pairs(), st.randoms(use_true_random=False))
def test_damaged_indexes_give_moves_that_fit(
    pair: tuple[int, list[bytes], list[bytes]], chance: random.Random
) -> None:
    unit, old, new = pair
    fits(patch(damaged(index_of(old), chance), damaged(index_of(new), chance, unit), unit))


def damaged(index: Index, chance: random.Random, unit: int = 1) -> Index:
    """Give pieces other digests, other lengths, others' digests."""
    pieces, offset = [], 0
    digests = [piece.digest for piece in index.pieces]
    for piece in index.pieces:
        length = chance.choice([piece.length, piece.length, chance.randint(1, 3000)])
        pieces.append(Piece(offset, length, chance.choice([piece.digest, *digests])))
        offset += length
    if offset % unit:
        pieces.append(Piece(offset, -offset % unit, "0" * 32))
        offset += -offset % unit
    return replace(index, pieces=tuple(pieces), size_bytes=offset)


@given(st.data(), st.sampled_from([1, 512]))
def test_equal_images_are_copied_and_nothing_travels(data: st.DataObject, unit: int) -> None:
    chunks = data.draw(images([noise(1, 512 * 9), noise(2, 512)], unit))
    made = patch(index_of(chunks), index_of(chunks), unit)
    assert made.literals == ()
    size = sum(map(len, chunks))
    assert made.copies == ((Copy(HEAD_BYTES, size - HEAD_BYTES),) if size > HEAD_BYTES else ())


@given(pairs())
def test_from_an_empty_old_image_all_travels(
    pair: tuple[int, list[bytes], list[bytes]],
) -> None:
    unit, _, new = pair
    made = patch(index_of([]), index_of(new), unit)
    size = sum(map(len, new))
    expected = (Literal(HEAD_BYTES, size - HEAD_BYTES),) if size > HEAD_BYTES else ()
    assert made.moves == expected


HEAD = noise(0, HEAD_BYTES)


def test_of_several_equal_places_the_run_goes_on_with_the_one_before() -> None:
    same, tail, other = noise(1, 9000), noise(2, 9000), noise(3, 9000)
    old = index_of([HEAD, same, other, tail, same, tail])
    new = index_of([HEAD, tail, same, tail])
    made = patch(old, new, 1)
    assert made.moves == (Copy(HEAD_BYTES + 18_000, 27_000),)


def test_a_run_begins_where_the_piece_behind_follows_too() -> None:
    same, tail, other = noise(1, 9000), noise(2, 9000), noise(3, 9000)
    old = index_of([HEAD, same, other, same, tail])
    new = index_of([HEAD, noise(4, 5000), same, tail])
    assert patch(old, new, 1).moves == (
        Literal(HEAD_BYTES, 5000),
        Copy(HEAD_BYTES + 18_000, 18_000),
    )


def test_of_a_run_that_lies_askew_in_its_sectors_nothing_is_copied() -> None:
    piece = noise(1, 512 * 20)
    old = index_of([HEAD, bytes(100), piece, bytes(412)])
    new = index_of([HEAD, piece])
    assert patch(old, new, 512).moves == (Literal(HEAD_BYTES, len(piece)),)
    assert patch(old, new, 1).moves == (Copy(HEAD_BYTES + 100, len(piece)),)


def test_ragged_pieces_that_follow_one_another_are_copied_by_their_whole_sectors() -> None:
    first, second = noise(1, 512 * 20 + 100), noise(2, 512 * 20 - 300)
    old = index_of([HEAD, first, second, bytes(200)])
    new = index_of([HEAD, first, second, noise(3, 200)])
    copied = 512 * 39
    assert patch(old, new, 512).moves == (
        Copy(HEAD_BYTES, copied),
        Literal(HEAD_BYTES + copied, 512),
    )


def test_a_short_run_between_literals_is_sent() -> None:
    short, long = noise(1, 1000), noise(2, 2001)
    old = index_of([HEAD, short, bytes(9), long])
    news = [noise(number, 5000) for number in (3, 4, 5)]
    new = index_of([HEAD, news[0], short, news[1], long, news[2]])
    made = patch(old, new, 1, worth_bytes=1000)
    assert made.moves == (
        Literal(HEAD_BYTES, 11_000),
        Copy(HEAD_BYTES + 1009, 2001),
        Literal(HEAD_BYTES + 13_001, 5000),
    )


@pytest.mark.parametrize("unit", [1, 512])
@pytest.mark.parametrize(("literals", "sent_bytes"), [(1, 4096), (2, 8192)])
def test_a_copy_that_is_worth_its_moves_is_made_and_no_other(
    unit: int, literals: int, sent_bytes: int
) -> None:
    for length in (sent_bytes, sent_bytes + unit):
        run, behind = noise(1, length), noise(2, 5120) if literals == 2 else b""
        new = index_of([piece for piece in (HEAD, noise(3, 5120), run, behind) if piece])
        made = patch(index_of([HEAD, run]), new, unit)
        copies = (Copy(HEAD_BYTES, length),) if length > sent_bytes else ()
        assert made.copies == copies, length


def test_a_piece_of_another_length_is_another_piece_whatever_its_digest() -> None:
    """An index may lie: the moves must fit all the same."""
    digest, other = "d" * 32, "e" * 32
    long = 20_000
    old = Index(
        "a", HEAD_BYTES + 100, (Piece(0, HEAD_BYTES, other), Piece(HEAD_BYTES, 100, digest))
    )
    new = Index(
        "b", HEAD_BYTES + long, (Piece(0, HEAD_BYTES, other), Piece(HEAD_BYTES, long, digest))
    )
    assert patch(old, new, 1).moves == (Literal(HEAD_BYTES, long),)
    apart = Index("c", old.size_bytes, (Piece(0, HEAD_BYTES - 1, "f" * 32), *old.pieces[1:]))
    fits(patch(apart, new, 1))


def test_an_image_of_ragged_size_has_no_patch_in_sectors() -> None:
    with pytest.raises(ValueError, match="does not consist of 512-byte units"):
        patch(index_of([]), index_of([HEAD, b"x"]), 512)


def test_only_uzips_are_patched_by_sectors() -> None:
    assert unit_of("uzip", "uzip") == 512
    assert unit_of("uzip", "iso9660") == unit_of("squashfs", "squashfs") == 1
    assert unit_of("iso9660", "uzip") == 1
