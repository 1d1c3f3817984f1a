"""What an admin sees: events as a table or as JSON lines, and errors as one line."""

import json
import signal

import pytest
from rich.console import Console

from deployer.console import JsonLines, LiveTable, run, status_table
from deployer.rollout import Terminated
from slots.errors import ConfigError, Exit
from slots.events import Failed, Finished, Notice, Progress, Started


def rendered(table: LiveTable) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table.render())
    return captured.get()


def test_the_table_has_a_row_per_host_with_bytes_rate_and_time_left() -> None:
    table = LiveTable()
    table(Started("fill", "www1", 10_000_000))
    table(Progress("fill", 5_000_000, "www1"))
    table(Started("prove", "www2"))
    table(Finished("prove", "www2", "read back"))
    table(Started("flip", "www3"))
    table(Failed("flip", "read-only", "www3"))
    lines = rendered(table).splitlines()
    assert lines[0].split() == ["host", "step", "rate", "left"]
    assert lines[1].split()[:7] == ["www1", "fill", "5.0", "MB", "of", "10.0", "MB"]
    assert "MB/s" in lines[1]
    assert lines[2].split() == ["www2", "prove", "read", "back"]
    assert lines[3].split() == ["www3", "flip", "read-only"]


def test_markup_in_what_a_host_says_is_shown_as_it_is() -> None:
    table = LiveTable()
    table(Started("flip", "www1"))
    table(Failed("flip", "[red]no[/red] [link=x]", "www1"))
    assert "[red]no[/red] [link=x]" in rendered(table)


def test_without_a_terminal_each_event_is_a_line_and_progress_is_rare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sink = JsonLines()
    sink(Started("fill", "www1", 100))
    for done in range(50):
        sink(Progress("fill", done, "www1"))
    sink(Progress("fill", 1, "www2"))
    sink(Notice("made the mount point", "www1"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {"event": "started", "step": "fill", "subject": "www1", "total_bytes": 100}
    assert [line["event"] for line in lines] == ["started", "progress", "progress", "notice"]


def test_an_expected_error_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ConfigError("no [such] thing", hint="make one")

    assert run("deploy", command) == Exit.REFUSED
    assert capsys.readouterr().err.splitlines() == ["deploy: no [such] thing", "    make one"]


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyError("slot")

    assert run("deploy", command) == Exit.INTERNAL
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "internal error" in said


def test_an_interruption_is_told_and_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run("deploy", command) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_termination_is_an_interruption_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        raise Terminated(signal.SIGTERM)

    assert run("deploy", command, as_json=True) == 143
    assert json.loads(capsys.readouterr().out)["exit_code"] == 143


def test_an_error_is_one_json_object_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ConfigError("no such thing", hint="make one")

    assert run("deploy", command, as_json=True) == Exit.REFUSED
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "schema": "flipslot.error/1",
        "error": "ConfigError",
        "message": "no such thing",
        "hint": "make one",
        "exit_code": 2,
    }
    assert said.err.splitlines() == ["deploy: no such thing", "    make one"]


def test_a_step_of_the_whole_that_fails_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines()(Failed("verify", "cgi-1 is damaged", "cgi-1"))
    assert capsys.readouterr().err == ""


def test_who_only_looks_is_told_notices_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sink = JsonLines(notices_only=True)
    sink(Started("probe", "www1"))
    sink(Notice("Include is not read", "www1"))
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "notice"
    ]


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
