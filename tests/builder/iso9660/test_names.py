import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.iso9660 import names as module
from builder.iso9660.names import identifiers, sort_keys
from tests.builder.iso9660.trees import NAMES

FILE = re.compile(rb"[A-Z0-9_]{1,8}\.[A-Z0-9_]{0,3};1")
DIRECTORY = re.compile(rb"[A-Z0-9_]{1,8}")


def files(*names: bytes) -> dict[bytes, bytes]:
    ordered = sorted(names)
    return dict(zip(ordered, identifiers(ordered, [False] * len(ordered)), strict=True))


@given(st.sets(NAMES, max_size=40), st.data())
def test_identifiers_are_unique_and_good(names: set[bytes], data: st.DataObject) -> None:
    ordered = sorted(names)
    kinds = [data.draw(st.booleans()) for _ in ordered]
    found = identifiers(ordered, kinds)
    assert len(set(sort_keys(found))) == len(found)
    for identifier, directory in zip(found, kinds, strict=True):
        assert (DIRECTORY if directory else FILE).fullmatch(identifier)


def test_a_good_name_is_taken_in_upper_case() -> None:
    assert files(b"readme.txt", b"a") == {b"readme.txt": b"README.TXT;1", b"a": b"A.;1"}
    assert identifiers([b"etc"], [True]) == [b"ETC"]


def test_names_that_differ_in_case_alone_stay_apart() -> None:
    found = files(b"readme", b"README", b"Readme")
    assert found[b"readme"] == b"README.;1"
    assert len(set(found.values())) == 3


def test_one_more_name_renames_no_other() -> None:
    names = [b"libfoo-%d.so.1" % number for number in range(500)]
    before = files(*names)
    after = files(*names, b"libfoo.so.1", b"LIBFOO")
    assert {name: after[name] for name in names} == before


def test_few_of_very_many_names_that_mangle_alike_need_a_second_attempt() -> None:
    names = [b"same-long-name-%06d" % number for number in range(50_000)]
    found = identifiers(names, [False] * len(names))
    alone = [identifiers([name], [False])[0] for name in names]
    assert len(set(found)) == len(names)
    assert sum(a != b for a, b in zip(found, alone, strict=True)) < 0.04 * len(names)


def test_names_beyond_the_short_identifiers_get_longer_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHORT_HASH", 1)
    names = [b"same-long-name-%06d" % number for number in range(500)]
    assert len(set(identifiers(names, [False] * len(names)))) == 500


def test_order_is_that_of_names_and_extensions_filled_with_spaces() -> None:
    shuffled = [b"B", b"A_.;1", b"A.B;1", b"A0.;1", b"A.;1"]
    in_order = [one for _, one in sorted(zip(sort_keys(shuffled), shuffled, strict=True))]
    assert in_order == [b"A.;1", b"A.B;1", b"A0.;1", b"A_.;1", b"B"]
