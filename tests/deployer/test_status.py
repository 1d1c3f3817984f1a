"""What each frontend is now, as a table."""

import pytest

from deployer.status import status_table

ROW = {
    "host": "www1.example.net", "slot": "A", "serves": "active", "state": "ready", "rollback": "-",
    "image": "cgi-2026.11.22", "verdict": "good", "mount": "mounted", "full": "43 %",
    "digest": "0123456789ab unproven", "format": "squashfs",
}  # fmt: skip


@pytest.mark.parametrize("width", [None, 200, 120, 100, 80, 60, 40])
def test_a_narrow_status_leaves_columns_out_and_never_cuts_one(width: int | None) -> None:
    head, row, *rest = status_table([ROW], width)
    for name in ("host", "slot", "serves", "state", "rollback"):
        assert name in head
        assert ROW[name] in row
    for name in head.split():
        assert ROW[name] in row
    left_out = [name for name in ROW if name not in head.split()]
    assert width is None or len(row) <= max(width, 46)
    assert bool(rest) == bool(left_out)
    assert all(name in rest[0] for name in left_out)


def test_a_status_that_is_no_terminal_s_is_whole() -> None:
    (head, row) = status_table([ROW], None)
    assert head.split() == list(ROW)
    assert row.endswith("squashfs")
