"""The start of `deploy`: what it does not load, and that this is there when it is wanted."""

import subprocess
import sys

import pytest

HELP = """
import sys
from deployer.start import main
sys.argv = ["deploy", "--help"]
main()
"""
MATCH_EXEC = """
import sys
from deployer import start
sys.modules["invoke"] = start.Later("invoke")
import paramiko
assert "yaml" not in sys.modules
config = paramiko.SSHConfig.from_text("Match exec true\\nUser one\\nMatch exec false\\nUser two")
print(config.lookup("www1")["user"])
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    told = _python(HELP, "-X", "importtime").stderr.splitlines()
    return [line.rpartition("|")[2].strip() for line in told]


@pytest.mark.parametrize("slow", ["yaml", "asyncio", "jinja2"])
def test_what_few_commands_need_is_not_loaded_by_all(loaded: list[str], slow: str) -> None:
    assert "paramiko" in loaded
    assert slow not in loaded


def test_a_command_in_an_ssh_config_is_run_all_the_same() -> None:
    assert _python(MATCH_EXEC).stdout == "one\n"


def _python(program: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=True
    )
