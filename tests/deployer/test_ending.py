"""How a command ends: an error is one line and an exit code, a bug keeps its traceback."""

import errno
import json
import signal

import pytest

from deployer.console import show_outcomes
from deployer.ending import run
from deployer.rollout import Outcome, Terminated
from slots.errors import ConfigError, Exit


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


def test_what_is_missing_and_has_no_name_is_a_bug_and_not_where_we_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    assert run("deploy", command) == Exit.INTERNAL
    assert "Traceback" in capsys.readouterr().err


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


def test_a_hint_of_several_hosts_is_said_once_below_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_outcomes(
        [
            Outcome("www1", Exit.UNREACHABLE, "192.0.2.1 is not reachable", "is it up?"),
            Outcome("www2", Exit.UNREACHABLE, "192.0.2.2 is not reachable", "is it up?"),
            Outcome("www3", Exit.LOCKED, "it is locked", "unlock it"),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "www1: 192.0.2.1 is not reachable",
        "www2: 192.0.2.2 is not reachable",
        "    is it up?",
        "www3: it is locked",
        "    unlock it",
    ]
