"""Where events go: a row per host, or JSON lines."""

import json

import pytest
from rich.console import Console

from deployer.live import JsonLines, LiveTable
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
