"""What other writers put into system use entries, and ours does not."""

from builder.opened.susp import Attributes, read, seconds


def _read(area: bytes) -> Attributes:
    found = Attributes()
    read(area, found)
    return found


def test_nothing_is_read_behind_the_entry_that_ends_them() -> None:
    assert _read(b"NM\x06\1\0aST\x04\1NM\x06\1\0b").name == b"a"


def test_a_time_is_read_with_its_zone() -> None:
    utc = bytes((100, 1, 2, 3, 4, 5, 0))
    assert seconds(utc) == 946_782_245
    assert seconds(utc[:6] + b"\x04") == 946_782_245 - 3600
    assert seconds(utc[:6] + b"\xfc") == 946_782_245 + 3600


def test_the_time_of_modification_is_found_behind_that_of_creation() -> None:
    created, modified = bytes((80, 1, 1, 0, 0, 0, 0)), bytes((100, 1, 2, 3, 4, 5, 0))
    assert _read(b"TF\x13\1\3" + created + modified).mtime_s == 946_782_245
