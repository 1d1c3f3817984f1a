"""Which rule deals with which process: the decider and the hosts' shells say the same."""

import shlex
import shutil
import subprocess

import pytest

from slots import calls, scripts
from slots.actions import Cover
from slots.errors import HostError
from slots.platform import PLATFORMS
from slots.rules import User, rule_of
from slots.slot import Service, SlotName, Treatment
from tests.slots.hosts import SHELLS

RULES = (
    Service("web", ("nginx", "php fpm")),
    Service("long", ("a-name-that-is-longer-than-kernels-keep",)),
    Service("pool", ("php-fpm*", "h[ti]t?d"), treatment=Treatment.GRACEFUL),
    Service("ann", ("*",), user="ann", treatment=Treatment.WAIT),
    Service("late", ("nginx", "perl"), treatment=Treatment.KILL),
)
CASES = {
    ("root", "nginx"): "web",
    ("ann", "nginx"): "web",  # the first rule that covers it
    ("www", "php fpm"): "web",
    ("www", "php"): "",
    ("www", "a-name-that-is-"): "long",  # as Linux cuts it
    ("www", "a-name-that-is-long"): "long",  # as FreeBSD does
    ("www", "a-name"): "",
    ("www", "php-fpm8.2"): "pool",
    ("www", "httpd"): "pool",
    ("www", "hxtpd"): "",
    ("ann", "vim"): "ann",
    ("bob", "vim"): "",
    ("bob", "perl"): "late",
    ("bob", "*"): "",
}


@pytest.mark.parametrize(("user", "command"), CASES)
def test_the_first_rule_that_covers_a_process_deals_with_it(user: str, command: str) -> None:
    rule = rule_of(User.parse(f"7 {user} 0 cwd {command}"), RULES)
    assert (rule.name if rule else "") == CASES[user, command]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_host_s_shell_finds_the_same_rule(shell: str) -> None:
    argv = shlex.split(shell)
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    library = scripts.library(PLATFORMS["sandbox"])
    call = calls.call(PLATFORMS["sandbox"], Cover(SlotName.A, RULES), "0123456789abcdef")
    rules = call[: call.index("verb_cover")]
    asked = "".join(f'rule_of {shlex.join(case)}; printf "%s\\n" "$rule"\n' for case in CASES)
    script = f"{library}{rules}set -eu\n{asked}"
    done = subprocess.run((*argv, "-c", script), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert dict(zip(CASES, done.stdout.split("\n"), strict=False)) == CASES


@pytest.mark.parametrize("line", ["", "x root 0 cwd sleep", "7 root now cwd sleep", "7 root 0 cwd"])
def test_a_line_that_names_no_process_is_the_host_s_error(line: str) -> None:
    with pytest.raises(HostError, match="names no process"):
        User.parse(line)
