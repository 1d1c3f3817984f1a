"""What a frontend is set up with: the hooks as text, and the verbs that install them."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slots import hooks, scripts
from slots.linux import Linux
from slots.platform import PLATFORMS
from slots.slot import InnerMount, MountKind
from tests.slots.hosts import SHELLS
from tests.slots.test_libraries import (
    NASTY,
    ON_PURPOSE,
    SERVICES,
    SET,
    TOKEN,
    functions_of,
    reviewed,
)

PLAIN = replace(SET, mounts=(InnerMount(MountKind.DEVFS, "dev"),), services=SERVICES)
SLOTCTL = Linux().slotctl
RENDERED = {
    "flipslot.rc": hooks.rc_script(SLOTCTL, (PLAIN,)),
    "flipslot.init": hooks.init_script(SLOTCTL, (PLAIN,)),
    "flipslot.service": hooks.unit(SLOTCTL, (PLAIN,)),
    "flipslot-network.rc": hooks.rc_script(f"/opt/{NASTY}", (SET,)),
    "flipslot-network.init": hooks.init_script(f"/opt/{NASTY}", (SET,)),
    "flipslot-network.service": hooks.unit(SLOTCTL, (replace(SET, records="/srv/a b%$c"),)),
}


@pytest.mark.parametrize("name", RENDERED)
def test_hooks_are_as_they_were_reviewed(name: str) -> None:
    reviewed(name, RENDERED[name])


@pytest.mark.parametrize("name", [name for name in RENDERED if not name.endswith("service")])
def test_shellcheck_finds_nothing_in_the_scripts(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run(
        ("shellcheck", "-s", "sh", "-e", "SC1091,SC2016", "-"),
        input=RENDERED[name].encode(),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", [name for name in RENDERED if not name.endswith("service")])
def test_every_shell_can_read_the_scripts(name: str, shell: str) -> None:
    argv = shell.split()
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    done = subprocess.run(
        (*argv, "-n"), input=RENDERED[name].encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", [name for name in RENDERED if name.endswith("service")])
def test_systemd_understands_the_unit(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "flipslot.service"
    unit.write_text(RENDERED[name].replace(SLOTCTL, "/bin/true"))
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", str(unit)), capture_output=True, check=False
    )
    said = [line for line in done.stderr.decode().splitlines() if "flipslot" in line]
    assert (done.returncode, said) == (0, [])


def test_a_device_is_named_as_systemd_escapes_it() -> None:
    if shutil.which("systemd-escape") is None:
        pytest.skip("needs systemd-escape")
    for path in ("/dev/disk/by-partlabel/cgi A", "/dev/.x/ü-1"):
        done = subprocess.run(
            ("systemd-escape", "--path", "--suffix=device", path), capture_output=True, check=True
        )
        assert hooks._unit_of(path) == done.stdout.decode().strip()


@pytest.mark.parametrize("name", PLATFORMS)
def test_shellcheck_finds_nothing_in_what_provisioning_sends(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    platform = PLATFORMS[name]
    file = hooks.File(f"/opt/{NASTY}", 0o755, "x")
    asked = hooks.installed_call(platform, ("/a", NASTY), ("/b", NASTY))
    does = (
        hooks.folder_call(platform, TOKEN, NASTY),
        hooks.install_call(platform, TOKEN, file),
        hooks.enable_call(platform, TOKEN),
    )
    whole = f": {' '.join(functions_of(name))}"
    call = "\n".join((asked, *(one.splitlines()[-1] for one in does), whole))
    done = subprocess.run(
        ("shellcheck", "-s", "sh", "-e", ON_PURPOSE, "-"),
        input=scripts.script(platform, SET, call, TOKEN),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == ""
