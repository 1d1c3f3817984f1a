"""The boot hook on Linux, enabled by the real update-rc.d and systemctl, in an /etc of ours."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slots import hooks
from slots.hooks import HOOKS, File
from slots.linux import Linux
from slots.slot import Slot, SlotName, SlotSet
from tests.slots.hosts import Host

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts in a namespace"),
]
# An /etc that is thrown away, a /run on which systemd may be said to run.
SETUP = """
mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work &&
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc &&
mount -t tmpfs tmpfs /run && echo up && while read -r line; do :; done
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A machine whose first process is called init, as sysvinit's is."""
    init, commands = tmp_path / "init", tmp_path / "commands"
    shutil.copy("/bin/dash", init)
    commands.mkdir()
    systemctl = commands / "systemctl"  # the real one, but for what asks a running systemd
    systemctl.write_text(
        '#!/bin/sh\n[ "$1" != daemon-reload ] || exit 0\nSYSTEMD_OFFLINE=1 exec '
        f'{shutil.which("systemctl")} "$@"\n'
    )
    systemctl.chmod(0o755)
    argv = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    slots = SlotSet(
        "cgi",
        f"{tmp_path}/web/cgi",
        (
            Slot(SlotName.A, "/dev/a", f"{tmp_path}/web/cgi1"),
            Slot(SlotName.B, "/dev/b", f"{tmp_path}/web/cgi2"),
        ),
        records=f"{tmp_path}/records",
    )
    platform = replace(Linux(), path=f"{commands}:{Linux().path}")
    with subprocess.Popen(
        (*argv, str(init), "-c", SETUP), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        if child.stdout.readline() != b"up\n":
            pytest.skip("no overlay over /etc here")
        (first,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        yield Host(platform, slots, before=("nsenter", "--target", first, "--mount", "--pid"))
        child.send_signal(signal.SIGKILL)


def inside(host: Host, command: str) -> str:
    done = subprocess.run((*host.before, "sh", "-c", command), capture_output=True, check=True)
    return done.stdout.decode()


def found(host: Host, file: File) -> hooks.Found:
    return hooks.found(host.run(hooks.installed_call(host.platform, (), (file.path,))), 0, 1)


def install(host: Host, system: str) -> File:
    hook = next(one for one in HOOKS["Linux"] if one.system == system)
    file = File(hook.path, hook.mode, hook.render("/usr/local/libexec/slotctl", (host.slots,)))
    before = found(host, file)
    assert (before.system, before.enabled, before.files) == (system, False, ("missing",))
    with host.lock() as token:
        for call, payload in (
            (hooks.install_call(host.platform, token, file), file.data),
            (hooks.enable_call(host.platform, token), b""),
        ):
            answer = host.run(call, payload)
            assert answer.status == 0, answer
    after = found(host, file)
    assert (after.enabled, after.files) == (True, (f"{file.sha256} {file.mode:o}",))
    return file


@pytest.mark.skipif(shutil.which("update-rc.d") is None, reason="needs update-rc.d")
def test_an_init_script_is_installed_and_started_in_its_runlevels(host: Host) -> None:
    install(host, "init.d")
    links = inside(host, "ls -d /etc/rc?.d/???flipslot")
    assert [f"/etc/rc{level}.d/S" in links for level in "2345"] == [True] * 4
    assert "/etc/rc6.d/K" in links


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="needs systemctl")
def test_a_unit_is_installed_and_wanted_before_all_services(host: Host) -> None:
    inside(host, "mkdir -p /run/systemd/system")
    install(host, "systemd")
    wanted = inside(host, "readlink /etc/systemd/system/basic.target.wants/flipslot.service")
    assert wanted.strip() == "/etc/systemd/system/flipslot.service"


def test_where_nothing_starts_things_at_boot_enabling_is_refused(host: Host) -> None:
    inside(host, "mv /etc/init.d /etc/was.init.d")
    with host.lock() as token:
        answer = host.run(hooks.enable_call(host.platform, token))
    assert (answer.status, answer.first("error")) == (20, "nothing here starts flipslot at boot")


def test_folders_are_made_one_by_one_and_a_folder_is_never_replaced(
    host: Host, tmp_path: Path
) -> None:
    deep = tmp_path / "a b/c'd/e"
    with host.lock() as token:
        for _ in range(2):
            assert host.run(hooks.folder_call(host.platform, token, str(deep))).status == 0
        assert deep.is_dir()
        file = File(str(deep), 0o755, "x")
        answer = host.run(hooks.install_call(host.platform, token, file), file.data)
        assert answer.status == 20, answer
        (tmp_path / "file").write_text("")
        answer = host.run(hooks.folder_call(host.platform, token, f"{tmp_path}/file/e"))
        assert answer.status == 21, answer
    late = host.run(hooks.install_call(host.platform, "ab" * 8, replace(file, path="/etc/x")), b"x")
    assert late.status == 24
