from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder import cache as caches
from builder.clusters import KEY_BYTES, Recall, Stored
from slots.index import piece_digest

PIECES = [bytes((number,)) * (number + 1) for number in range(6)]


def _key(number: int) -> bytes:
    return bytes((number,)) * KEY_BYTES


def _stored(numbers: list[int]) -> tuple[bytes, list[Stored]]:
    """Return an artefact of some pieces, and where they lie in it."""
    data, rows = b"", []
    for number in numbers:
        piece = PIECES[number]
        rows.append(Stored(_key(number), len(data), len(piece), 1, piece_digest(piece)))
        data += piece
    return data, rows


@pytest.fixture
def recall(tmp_path: Path) -> Iterator[Recall]:
    """Know two artefacts: the older of pieces 0 to 3, the newer of 2 to 5 and of a hole."""
    with ExitStack() as stack:
        cache = stack.enter_context(caches.opened(tmp_path / "known", lambda _event: None))
        for name, numbers in (("older", [0, 1, 2, 3]), ("newer", [2, 3, 4, 5])):
            data, rows = _stored(numbers)
            (tmp_path / name).write_bytes(data)
            hole = Stored(_key(9), 0, 0, 0, "")
            cache.keep_clusters(tmp_path / name, "how", [*rows[:2], hole, *rows[2:]])
        yield cache.clusters("how")


def _found(recall: Recall, *numbers: int) -> list[bytes | None]:
    answers = recall([_key(number) for number in numbers])
    return [None if one is None else bytes(one.stored) for one in answers]


def test_what_the_newest_artefact_does_not_hold_is_found_in_an_older_one(recall: Recall) -> None:
    assert _found(recall, 5, 0, 4, 3, 1, 2) == [PIECES[number] for number in (5, 0, 4, 3, 1, 2)]


def test_neighbours_are_found_together_whatever_lies_between_the_questions(recall: Recall) -> None:
    assert _found(recall, 2, 9, 3, 8, 4, 5) == [PIECES[2], b"", PIECES[3], None, *PIECES[4:]]
    assert list(recall([b"", b""])) == [None, None]


@pytest.mark.parametrize("damaged", range(2, 6))
def test_a_damaged_piece_is_missed_and_its_neighbours_are_not(
    recall: Recall, tmp_path: Path, damaged: int
) -> None:
    data = bytearray((tmp_path / "newer").read_bytes())
    data[sum(len(PIECES[number]) for number in range(2, damaged))] ^= 1
    (tmp_path / "newer").write_bytes(data)
    expected = [None if number == damaged else PIECES[number] for number in range(2, 6)]
    assert _found(recall, 2, 3, 4, 5) == expected


def test_an_artefact_that_is_gone_is_passed_over(recall: Recall, tmp_path: Path) -> None:
    (tmp_path / "newer").unlink()
    assert _found(recall, 0, 1, 2, 3, 4) == [*PIECES[:4], None]


def test_an_artefact_that_was_cut_is_missed_from_there(recall: Recall, tmp_path: Path) -> None:
    path = tmp_path / "newer"
    path.write_bytes(path.read_bytes()[: len(PIECES[2]) + 1])
    assert _found(recall, 2, 3, 4) == [PIECES[2], None, None]
