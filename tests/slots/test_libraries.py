"""The libraries as text: the same verbs on each platform, under every shell, past shellcheck."""

import gzip
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from slots import calls, scripts
from slots.actions import (
    Arm,
    Confirm,
    Cover,
    Disarm,
    Drain,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Patch,
    Preflight,
    Prove,
    Restart,
    Seal,
    Unmount,
)
from slots.checks import CommandCheck, Level
from slots.platform import PLATFORMS
from slots.slot import (
    HostFile,
    InnerMount,
    MountKind,
    Service,
    Slot,
    SlotName,
    SlotSet,
    Treatment,
    Uncovered,
    Verdict,
)
from slots.trials import CgiTrial, CommandTrial, LibrariesTrial
from tests.slots import images
from tests.slots.hosts import SHELLS

A, B = SlotName.A, SlotName.B
NONCE, TOKEN = "0123456789abcdef", "fedcba9876543210"
GOLDEN = Path(__file__).parent.parent / "golden"
VERBS = {
    *("probe", "lock", "unlock", "unmount", "erase", "fill", "seal", "prove", "mount", "flip"),
    *(
        "users",
        "cover",
        "preflight",
        "restart",
        "drain",
        "check",
        "judge",
        "stage",
        "patch",
    ),
    *("fetch", "pull"),
    *("arm", "confirm", "disarm"),
}
# Done on purpose: `a && b || fail`, a dollar in quotes, variables and functions of another part.
ON_PURPOSE = "SC2015,SC2016,SC2034,SC2317,SC2329"
NASTY = 'it\'s; $(rm -rf /) `x` \\ "q" *'

SET = SlotSet(
    name="cgi",
    link="/webroot/cgi",
    slots=(
        Slot(A, "/dev/disk/by-partlabel/cgiA", "/webroot/cgi1"),
        Slot(B, "/dev/disk/by-partlabel/cgiB", f"/webroot/{NASTY}"),
    ),
    mounts=(
        InnerMount(MountKind.DEVFS, "dev"),
        InnerMount(MountKind.TMPFS, "tmp", size="64m", mode="1777"),
        InnerMount(MountKind.BIND, "home", source="/home", read_only=True),
        InnerMount(MountKind.NFS, "data", source="nas:/export"),
        InnerMount(MountKind.FILES, "etc/host", files=(HostFile(NASTY, "/etc/hosts"),)),
    ),
)
SERVICES = (
    Service("nginx", ("nginx", "php fpm")),
    Service("worker", ("worker",), ("sv", "restart", NASTY), always=True),
    Service("php_fpm", ("php-fpm*",), treatment=Treatment.GRACEFUL, deadline_s=2.5),
    Service("cgis", (NASTY,), treatment=Treatment.KILL, user="www-data"),
    Service("moved", ("d",), ("mv", "{pids}"), treatment=Treatment.COMMAND),
)
CHECKS = (
    CommandCheck(("test", "-e", NASTY), 2.5, Level.WANTED),
    CommandCheck(("curl", "-fsS", "http://127.0.0.1/it's")),
)
TRIALS = (
    CgiTrial("/cgi-bin/it's", (NASTY,), (("HTTP_COOKIE", NASTY),), NASTY, contains=NASTY),
    CommandTrial(("test", "-x", NASTY), (("LANG", "C"),), exit=1, user="www", deadline_s=2.5),
    LibrariesTrial(("/usr", f"/{NASTY}"), ("libnss_*", NASTY)),
)
REACH = calls.MirrorReach(("http://m/ab", f"file:/{NASTY}"), 90, 4711)
ARTEFACT = images.with_magic("uzip", 200_000).artefact


def some_calls(platform_name: str) -> dict[str, str]:
    platform = PLATFORMS[platform_name]
    actions = (
        *(Unmount(A), Erase(A), Fill(A, ARTEFACT), Seal(A, ARTEFACT, "cgi-1.0")),
        *(Prove(B, "cgi-1.0", "uzip", 65536, "ab" * 32, "cd" * 32), Mount(B, "squashfs"), Flip(B)),
        *(Cover(A, SERVICES), Restart(A, SERVICES, Uncovered.KILL), Drain(A, SERVICES, 30)),
        Preflight(B, TRIALS),
        *(Judge(B, Verdict.BAD), Patch(B, ARTEFACT, "ab" * 32, "cd" * 32)),
        *(Arm(B, "cgi-1.0", 90, ()), Confirm(B), Disarm(B)),
    )
    rendered = {type(one).__name__.lower(): calls.call(platform, one, TOKEN) for one in actions}
    return rendered | {
        "probe": calls.probe_call(SERVICES),
        "lock": calls.lock_call("ann @ desk\nrm -rf /", TOKEN),
        "lock-and-probe": calls.lock_and_probe_call("ann", TOKEN, SERVICES),
        "unlock": calls.unlock_call(),
        "fetch": calls.fetch_call(TOKEN, "ab" * 32, 4711, REACH),
        "pull": calls.pull_call(TOKEN, B, ARTEFACT, REACH),
        "erase-for-mirrors": calls.erase_call(TOKEN, B, ARTEFACT, REACH),
        "stage": calls.stage_call(TOKEN, "ab" * 32, 4711, 17),
        "users": calls.users_call(B),
        "check": calls.check_call(("test", "-x", NASTY), 2.5),
    }


@pytest.fixture(params=[*PLATFORMS, "universal"])
def script(request: pytest.FixtureRequest) -> bytes:
    platform = PLATFORMS.get(request.param)
    if platform is None:
        return scripts.script(None, SET, calls.probe_call(), NONCE)
    return scripts.script(platform, SET, f": {' '.join(functions_of(platform.name))}", NONCE)


def functions_of(name: str) -> list[str]:
    return re.findall(r"^([a-z_0-9]+)\(\)", scripts.library(PLATFORMS[name]), re.MULTILINE)


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_platform_has_the_same_verbs(name: str) -> None:
    library = scripts.library(PLATFORMS[name])
    assert set(re.findall(r"^verb_([a-z]+)\(\)", library, re.MULTILINE)) == VERBS | {"guard"}
    assert set(some_calls(name)) == VERBS | {"lock-and-probe", "erase-for-mirrors"}


@pytest.mark.parametrize("name", PLATFORMS)
def test_no_function_is_defined_twice(name: str) -> None:
    functions = functions_of(name)
    assert len(functions) == len(set(functions))


@pytest.mark.parametrize("name", PLATFORMS)
def test_calls_are_as_they_were_reviewed(name: str) -> None:
    rendered = "".join(f"# {verb}\n{call}\n" for verb, call in sorted(some_calls(name).items()))
    reviewed(f"calls.{name.lower()}.sh", rendered)


def test_the_set_is_as_it_was_reviewed() -> None:
    script = scripts.script(None, SET, "true", NONCE).decode()
    reviewed("prelude.sh", script[: script.index("NL='")])


def reviewed(name: str, text: str) -> None:
    """Compare with a golden file; UPDATE_GOLDEN=1 writes it, for a review of the difference."""
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_can_read_it(script: bytes, shell: str) -> None:
    argv = shlex.split(shell)
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    done = subprocess.run((*argv, "-n"), input=script, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_shellcheck_finds_nothing(script: bytes) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run(
        ("shellcheck", "-s", "sh", "-e", ON_PURPOSE, "-"),
        input=script,
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == ""


@pytest.mark.parametrize("name", PLATFORMS)
def test_only_what_a_call_reaches_travels(name: str) -> None:
    platform = PLATFORMS[name]
    whole = len(gzip.compress(scripts.library(platform).encode()))
    assert whole < 30_000
    packed = {
        verb: len(gzip.compress(scripts.script(platform, SET, call, NONCE)))
        for verb, call in some_calls(name).items()
    }
    assert packed["check"] < whole / 5
    assert packed["lock-and-probe"] < whole / 2
    assert max(packed.values()) < whole * 2 / 3


@pytest.mark.parametrize("name", PLATFORMS)
def test_no_function_of_a_library_is_taken_for_a_line_of_all(name: str) -> None:
    script = scripts.script(PLATFORMS[name], SET, "", NONCE).decode()
    assert len(script) < 12_000
    assert not re.search(r"^verb_", script, re.MULTILINE)


def test_the_script_for_a_host_that_nobody_knows_stays_small() -> None:
    assert len(scripts.script(None, SET, calls.probe_call(), NONCE)) < 30_000


@pytest.mark.parametrize("name", PLATFORMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_no_value_reaches_the_shell_unquoted(name: str, shell: str) -> None:
    argv = shlex.split(shell)
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    call = calls.call(PLATFORMS[name], Restart(A, SERVICES), TOKEN)
    script = scripts.script(PLATFORMS[name], SET, call, NONCE).decode()
    prelude = script[: script.index("NL='")]
    show = "show() { printf '<%s>' \"$@\"; }\n"
    after = 'each_inner show; each_service show; printf \'<%s>\' "$MOUNT_B" "$TARGET_B"'
    services = call[: call.index("verb_restart")]
    text = f"{prelude}{show}{services}{after}"
    done = subprocess.run((*argv, "-c", text), capture_output=True, check=True)
    assert done.stderr == b""
    out = done.stdout.decode()
    assert f"<etc/host><><><><rw><{NASTY}></etc/hosts>" in out
    assert f"<sv><restart><{NASTY}>" in out
    assert f"</webroot/{NASTY}><{NASTY}>" in out


def test_the_command_line_is_the_constant_one() -> None:
    assert (
        scripts.command_line(4711) == "exec /bin/sh -c 'eval \"$(dd bs=1 count=4711 2>/dev/null)\"'"
    )
