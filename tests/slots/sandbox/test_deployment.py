"""Whole deployments, probes and checks in a sandbox, as whoever runs the tests."""

import os
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls, scripts
from slots.actions import Erase, Fill, Flip, Judge, Mount, Restart, Seal, Unmount
from slots.probe import parse
from slots.sandbox import Sandbox
from slots.slot import DeviceKind, LinkKind, Service, SlotSet, SlotState, Verdict, active
from tests.slots import images
from tests.slots.hosts import Host, found_commands, write
from tests.slots.sandbox.frontend import A, B


def test_a_whole_deployment_and_the_way_back_under_each_shell(
    slots: SlotSet, shell: str, tmp_path: Path
) -> None:
    host = Host(Sandbox(), slots, shell=shell, noise="welcome!")
    one, two = images.squashfs(tmp_path, "one"), images.squashfs(tmp_path, "two")
    assert host.probe().link_kind is LinkKind.MISSING

    for name, image in ((A, one), (B, two)):
        with host.lock() as token:
            write(host, name, image, token)
            assert host.do(Mount(name, "squashfs"), token).status == 0
            assert host.do(Flip(name), token).first("link") == slots.target(name)
            assert host.do(Judge(name, Verdict.GOOD), token).status == 0
        state = host.probe()
        assert active(slots, state) is name
        status = state.status(name)
        assert status.state is SlotState.READY
        assert status.mounted
        assert status.holds is not None
        assert status.holds.sha256 == image.artefact.sha256
        assert status.proof is not None
        assert status.verdict is Verdict.GOOD

    served = Path(slots.link) / "version"
    assert served.read_text() == "two\n"
    with host.lock() as token:
        flipped = host.do(Flip(A), token)
        assert (flipped.first("previous"), flipped.first("link")) == ("cgi2", "cgi1")
        assert served.read_text() == "one\n"
        unmounted = host.do(Unmount(B), token)
        assert unmounted.all("unmounted") == (slots.slot(B).mount_point,)
    assert not host.probe().status(B).mounted


def test_every_verb_can_be_run_twice(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        for action, payload in (
            (Erase(A), b""),
            (Fill(A, art), image.body),
            (Seal(A, art, "r1"), image.head),
            (images.proof(A, art), b""),
            (Mount(A, "squashfs"), b""),
            (Flip(A), b""),
            (Restart(B, ()), b""),
            (Judge(A, Verdict.GOOD), b""),
            (Unmount(B), b""),
        ):
            for _ in range(2):
                answer = host.do(action, token, payload)
                assert answer.status == 0, (action, answer)
    assert active(host.slots, host.probe()) is A


def test_the_universal_probe_answers_for_linux(host: Host) -> None:
    nonce = secrets.token_hex(8)
    script = scripts.script(None, host.slots, calls.probe_call(), nonce)
    out = subprocess.run(("sh", "-c", script), capture_output=True, check=False).stdout
    answer = answers.answer(out, nonce)
    if os.geteuid() == 0:
        assert answer.first("platform") == "Linux"
    else:
        assert answer.status == 20
        assert "root" in answer.first("error")


def test_a_probe_changes_nothing(host: Host) -> None:
    folder = Path(host.slots.link).parent
    before = sorted(str(path) for path in folder.rglob("*"))
    host.probe()
    assert sorted(str(path) for path in folder.rglob("*")) == before


def test_a_command_that_the_host_lacks_leaves_its_slots_unknown(host: Host, tmp_path: Path) -> None:
    needed = host.run('say needed "$NEEDED"').first("needed").split()
    commands = found_commands(tmp_path / "commands", {*needed, "id"} - {"dd"})
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
    host.platform = replace(Sandbox(), path=str(commands))
    state = host.probe()
    assert state.missing == ("dd",)
    for status in state.statuses:
        assert (status.state, status.device_kind) == (SlotState.UNKNOWN, DeviceKind.UNKNOWN)
        assert (status.holds, status.mounted) == (None, False)
        assert status.mount_note == "not known: the host lacks dd"


def test_a_restart_command_that_the_host_lacks_is_told_by_the_probe(host: Host, shell: str) -> None:
    host.shell = shell
    services = (
        Service("web", ("web",), ("touch", "x")),
        Service("by path", ("web",), (f"{host.slots.records}/absent",)),
        Service("by-name", ("web",), ("no-such-cmd", "x")),
        Service("nameless", ("web",)),
    )
    state = parse(host.run(calls.probe_call(services)), host.slots)
    assert state.missing_restarts == (
        f"by path: {host.slots.records}/absent",
        "by-name: no-such-cmd",
        "nameless: no command is named",
    )


def test_a_check_tells_status_output_and_time(host: Host, shell: str) -> None:
    host.shell = shell
    fine = host.run(calls.check_call(("echo", "all 'well'\n$HOME"), 5))
    assert (fine.status, fine.first("exit")) == (0, "0")
    assert fine.all("output") == ("all 'well'", "$HOME")
    bad = host.run(calls.check_call(("sh", "-c", "echo broken; exit 7"), 5))
    assert (bad.status, bad.first("exit"), bad.all("output")) == (21, "7", ("broken",))
    late = host.run(calls.check_call(("sleep", "30"), 0.2))
    assert (late.status, late.first("exit")) == (21, "124")
    absent = host.run(calls.check_call(("/no/such/command",), 5))
    assert (absent.status, absent.first("exit")) == (21, "127")


def test_a_script_that_was_cut_anywhere_does_nothing(host: Host) -> None:
    nonce = secrets.token_hex(8)
    script = scripts.script(host.platform, host.slots, calls.lock_call("ann", "00000000"), nonce)
    for length in (*range(0, len(script) - 1, 997), *range(len(script) - 60, len(script) - 1)):
        done = subprocess.run(
            ("dash", "-c", script[:length]), capture_output=True, check=False, input=b""
        )
        assert b"begin" not in done.stdout, length
    assert not Path(host.slots.records).exists()


def test_an_ordinary_user_can_do_all_of_it(slots: SlotSet, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    image = images.squashfs(tmp_path, "one")
    for path in (*tmp_path.parents, tmp_path):
        if Path("/tmp") in path.parents:
            path.chmod(0o755)
    folder = Path(slots.link).parent
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    host = Host(
        Sandbox(),
        slots,
        before=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    )
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.do(Flip(A), token).status == 0
        assert (Path(slots.link) / "version").read_text() == "one\n"
        Path(slots.link).unlink()
        assert host.do(Unmount(A), token).status == 0
