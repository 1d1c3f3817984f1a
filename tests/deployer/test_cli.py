"""The command as a process: its help, and output that nobody takes."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.deployer.conftest import DEPLOY

INVENTORY = """
[sets.cgi]
link = "/webroot/cgi"
[sets.cgi.slots]
A = { device = "/dev/a", mount = "/webroot/cgi1" }
B = { device = "/dev/b", mount = "/webroot/cgi2" }
[hosts.www1]
address = "127.0.0.1"
port = 1
"""


def deploy(folder: Path, words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", f"{DEPLOY} {words}"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(INVENTORY)
    return tmp_path


@pytest.mark.parametrize("command", ["", "rollback", "status", "plan", "confirm", "unlock"])
def test_help_has_examples_and_exit_codes(folder: Path, command: str) -> None:
    done = deploy(folder, f"{command} --help")
    assert done.returncode == 0
    assert f"  deploy {command}".rstrip() in done.stdout
    assert "7 locked by someone else" in done.stdout


def test_the_list_of_commands_is_of_whole_sentences_and_the_version_is_told(folder: Path) -> None:
    assert "..." not in deploy(folder, "--help").stdout.partition("Commands:")[2]
    done = deploy(folder, "--version")
    assert (done.returncode, done.stdout) == (0, f"flipslot {version('flipslot')}\n")


def test_a_full_disk_under_the_output_is_one_line(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this machine")
    done = deploy(folder, "status > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "deploy: the output cannot be written: No space left on device\n"
    done = deploy(folder, "status --no-such 2> /dev/full")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_who_has_gone_ends_the_command_quietly(folder: Path) -> None:
    done = deploy(folder, "status 2>err | true; cat err")
    assert done.stdout == ""
    done = deploy(folder, "status >&-")
    assert (done.returncode, done.stderr) == (6, "")


def test_no_color_is_neither_colour_nor_bold(folder: Path) -> None:
    done = subprocess.run(
        ["script", "-qec", f"{DEPLOY} status --no-such", "/dev/null"],
        cwd=folder, capture_output=True, text=True, check=False, env={"NO_COLOR": "1"},
    )  # fmt: skip
    assert "\x1b[" not in done.stdout
    assert "No such option" in done.stdout
