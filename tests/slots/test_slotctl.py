"""slotctl, for real in a sandbox: by hand, and at boot after cuts of every kind."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slots import scripts
from slots.actions import Judge
from slots.platform import PLATFORMS
from slots.slot import GuardState, Service, Slot, SlotName, Verdict, active
from tests.slots.guards import frontend, ready
from tests.slots.hosts import DEADLINE_S, SHELLS, Host, process
from tests.slots.test_libraries import CHECKS, ON_PURPOSE, SERVICES, SET, TRIALS, reviewed

A, B = SlotName.A, SlotName.B
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass
class Frontend:
    """A sandbox with its slotctl, whose boots are counted in a file."""

    host: Host
    folder: Path

    @property
    def records(self) -> Path:
        return Path(self.host.slots.records)

    def slotctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run it as it is installed, under the host's shell."""
        program = self.folder / "slotctl"
        text = scripts.slotctl(self.host.platform, (self.host.slots,))
        text = text.replace("/bin/sh", self.host.shell)
        program.write_text(text.replace(BOOT_ID, shlex.quote(f"{self.folder}/boot_id")))
        argv = (*shlex.split(self.host.shell), str(program), *words)
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=self.folder
        )

    def done(self, *words: str) -> str:
        """Run it, and it must do its work."""
        ended = self.slotctl(*words)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def boots(self, number: int = 2) -> None:
        """Take away what a boot does: mounts, and what was proven."""
        (self.folder / "boot_id").write_text(f"boot-{number}\n")
        for name in "AB":
            (self.records / f"cgi.{name}.mounted").unlink(missing_ok=True)

    def spoil(self, name: SlotName) -> None:
        """Change a byte behind the head of what a slot holds."""
        device = Path(self.host.slots.slot(name).device)
        data = bytearray(device.read_bytes())
        data[70_000] ^= 0xFF
        device.write_bytes(data)

    @property
    def serves(self) -> SlotName | None:
        return active(self.host.slots, self.host.probe())

    def mounted(self) -> list[bool]:
        return [(self.records / f"cgi.{name}.mounted").exists() for name in "AB"]

    def arm(self, back_from: SlotName) -> None:
        """Leave the record that a guard of the boot before was cut with."""
        lines = f"token=ab\nback={back_from.other}\ntarget={back_from}\nseconds=60\nrelease=r\nat=1"
        (self.records / "cgi.armed.abababab").write_text(f"{lines}\nboot_id=boot-1\n")


def made(folder: Path, shell: str) -> Frontend:
    folder.mkdir(parents=True)
    host = ready(folder, frontend(folder / "a frontend", shell))
    one = Frontend(host, folder)
    one.boots(1)
    one.done("boot")
    one.done("stop")
    return one


@pytest.fixture
def here(tmp_path: Path) -> Frontend:
    return made(tmp_path / "here", "dash")


@pytest.fixture(params=SHELLS)
def in_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Frontend:
    if shutil.which(shlex.split(request.param)[0]) is None:
        pytest.skip(f"needs {request.param}")
    return made(tmp_path / "here", request.param)


def test_every_verb_works_in_each_shell(in_shell: Frontend) -> None:
    told = in_shell.done("--help")
    assert "slotctl rollback" in told
    assert "\n    --confirm-within N " in told
    assert in_shell.slotctl("dance").returncode == 2
    assert in_shell.slotctl("status", "none").returncode == 2
    assert "slot A: r1 (squashfs)" in in_shell.done("status")
    assert in_shell.done("verify").count("is proven") == 2
    assert "serves slot B" in in_shell.done("flip", "cgi", "B")
    assert in_shell.serves is B
    in_shell.done("rollback")
    in_shell.done("rollback", "cgi")
    assert in_shell.serves is B
    assert "nothing waits" in in_shell.done("confirm")
    assert "nothing is armed" in in_shell.done("guard")
    in_shell.boots()
    in_shell.arm(B)
    assert "serves slot A" in in_shell.done("boot")
    assert in_shell.mounted() == [True, True]
    assert [one.name for one in in_shell.records.glob(".cgi*")] == []
    assert in_shell.host.probe().lock is None


def test_a_normal_boot_serves_what_the_link_names_and_keeps_its_verdict(here: Frontend) -> None:
    with here.host.lock() as token:
        assert here.host.do(Judge(A, Verdict.GOOD), token).status == 0
    here.done("stop")
    here.boots()
    assert "proven" not in here.done("boot")
    assert here.host.probe().status(A).verdict is Verdict.GOOD
    assert (here.serves, here.mounted()) == (A, [True, True])
    here.done("boot")  # again: it is so already
    assert (here.serves, here.mounted()) == (A, [True, True])


def test_a_slot_filled_since_the_last_clean_stop_is_read_again(here: Frontend) -> None:
    (here.records / "cgi.B.kept").unlink()  # as erase does
    here.boots()
    out = here.done("boot")
    assert "slot B is proven" in out
    assert "slot A is proven" not in out
    here.boots(3)
    assert "is proven" not in here.done("boot")  # what outlived a cut need not be read again


def test_what_a_drive_lied_about_is_not_served(here: Frontend) -> None:
    here.done("flip", "cgi", "B")
    (here.records / "cgi.B.kept").unlink()
    here.boots()
    here.spoil(B)
    ended = here.slotctl("boot")
    assert ended.returncode == 0
    assert "slot B is damaged" in ended.stderr
    assert "slot A serves instead: slot B is damaged" in ended.stdout
    assert (here.serves, here.mounted()) == (A, [True, False])
    assert "slot A serves instead" in here.done("status")


def test_a_slot_that_cannot_be_mounted_is_stood_in_for_by_a_proven_one(here: Frontend) -> None:
    here.boots()
    Path(here.host.slots.slot(A).device).write_bytes(bytes(1 << 20))
    ended = here.slotctl("boot")
    assert ended.returncode == 0, ended
    assert "slot B serves instead: slot A is empty" in ended.stdout
    assert here.serves is B


def test_no_valid_slot_is_a_state_that_is_told(here: Frontend) -> None:
    for name in "AB":
        (here.records / f"cgi.{name}.kept").unlink()
        here.spoil(SlotName(name))
    here.boots()
    ended = here.slotctl("boot")
    assert ended.returncode == 8
    assert "no slot serves: slot A is damaged; slot B is damaged" in ended.stderr
    assert "state=none" in (here.records / "cgi.state").read_text()
    assert here.mounted() == [False, False]
    assert "no slot serves" in here.done("status")


def test_a_slot_that_stands_in_is_proven_first(here: Frontend) -> None:
    here.boots()
    Path(here.host.slots.slot(A).device).write_bytes(bytes(1 << 20))
    here.spoil(B)
    assert here.slotctl("boot").returncode == 8
    assert here.mounted() == [False, False]


def test_found_armed_it_goes_back_and_says_so(here: Frontend) -> None:
    here.done("flip", "cgi", "B")
    here.boots()
    here.arm(B)
    assert "nobody confirmed was cut: slot A is to serve" in here.done("boot")
    guard = here.host.probe().guard
    assert guard is not None
    assert (here.serves, guard.state, guard.error) == (A, GuardState.FIRED, "")
    assert guard.why == "found armed at boot"
    assert "the guard went back to slot A" in here.done("status")


def test_armed_before_the_flip_leaves_nothing_to_take_back(here: Frontend) -> None:
    here.boots()
    here.arm(B)
    here.done("boot")
    assert (here.serves, here.host.probe().guard) == (A, None)


def test_where_the_way_back_is_damaged_the_new_one_serves_and_the_record_says_why(
    here: Frontend,
) -> None:
    here.done("flip", "cgi", "B")
    here.boots()
    here.arm(B)
    (here.records / "cgi.A.kept").unlink()
    here.spoil(A)
    assert here.slotctl("boot").returncode == 0
    guard = here.host.probe().guard
    assert guard is not None
    assert (here.serves, guard.state, guard.error) == (B, GuardState.FIRED, "slot A is damaged")


def test_a_guard_that_was_cut_while_it_went_back_is_brought_to_its_end(here: Frontend) -> None:
    here.boots()
    here.arm(B)
    (here.records / "cgi.armed.abababab").rename(here.records / "cgi.firing")
    here.done("boot")
    guard = here.host.probe().guard
    assert guard is not None
    assert (here.serves, guard.state) == (A, GuardState.FIRED)


def test_a_guard_that_was_killed_is_stood_in_for_by_hand(here: Frontend) -> None:
    here.done("flip", "cgi", "B")
    here.arm(B)
    record = here.records / "cgi.armed.abababab"
    record.write_text(record.read_text().replace("=60", "=1").replace("=ab\n", "=abababab\n"))
    ended = here.slotctl("guard")
    assert (ended.returncode, "back to slot A" in ended.stderr) == (5, True)
    guard = here.host.probe().guard
    assert guard is not None
    assert (here.serves, guard.state, guard.error) == (A, GuardState.FIRED, "")
    assert here.slotctl("confirm").returncode == 5
    here.done("flip", "cgi", "B")  # begins anew
    assert here.host.probe().guard is None


def test_a_slot_that_was_found_damaged_is_not_trusted_after_a_clean_stop(here: Frontend) -> None:
    here.spoil(B)
    assert here.slotctl("verify").returncode == 8
    here.done("stop")
    here.boots()
    ended = here.slotctl("boot")
    assert (ended.returncode, "slot B is damaged" in ended.stderr) == (0, True)
    assert (here.serves, here.mounted()) == (A, [True, False])


def test_a_boot_that_is_cut_anywhere_is_done_by_the_next(here: Frontend) -> None:
    here.done("flip", "cgi", "B")
    for number, wait_s in enumerate((0.05, 0.15, 0.3, 0.5, 0.8), start=2):
        here.boots(number)
        for name in "AB":
            (here.records / f"cgi.{name}.kept").unlink(missing_ok=True)
        here.arm(B)
        argv = ("dash", str(here.folder / "slotctl"), "boot")
        with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL) as child:
            time.sleep(wait_s)
            os.killpg(child.pid, signal.SIGKILL)
        here.boots(number + 10)
        assert here.slotctl("boot").returncode == 0
        assert (here.serves, here.mounted()) == (A, [True, True])
        here.done("flip", "cgi", "B")


def test_a_claim_of_an_earlier_boot_is_nobodys(here: Frontend) -> None:
    claim = f"holder=x\ntoken=ab\npid={os.getpid()}\nstart=1\nboot_id=boot-1\nsince=1\n"
    for name in ("lock", "A.writer", "switch", "guardian"):
        (here.records / f"cgi.{name}").write_text(claim)
    here.boots()
    here.done("boot")
    assert here.serves is A


def test_lost_records_are_no_reason_not_to_serve_what_the_link_names(here: Frontend) -> None:
    shutil.rmtree(here.records)
    shutil.rmtree(here.host.slots.slot(A).mount_point)
    here.boots()
    assert "served unproven" in here.done("boot")
    assert here.serves is A


def test_where_the_link_names_nothing_nothing_is_served(here: Frontend) -> None:
    Path(here.host.slots.link).unlink()
    here.boots()
    ended = here.slotctl("boot")
    assert ended.returncode == 8
    assert "names no slot" in ended.stderr


def test_verify_names_the_damaged_slot_and_reads_the_other_too(here: Frontend) -> None:
    here.spoil(A)
    ended = here.slotctl("verify")
    assert ended.returncode == 8
    assert "slot A is damaged" in ended.stderr
    assert "slot B is proven" in ended.stdout
    assert "DAMAGED" in here.done("status")


def test_a_damaged_slot_is_not_flipped_to(here: Frontend) -> None:
    here.spoil(B)
    assert here.slotctl("flip", "cgi", "B").returncode == 8
    assert here.slotctl("rollback").returncode == 8
    assert here.serves is A


def test_an_image_that_was_judged_bad_is_served_only_by_name(here: Frontend) -> None:
    with here.host.lock() as token:
        assert here.host.do(Judge(B, Verdict.BAD), token).status == 0
    ended = here.slotctl("rollback")
    assert (ended.returncode, "judged bad" in ended.stderr) == (2, True)
    here.done("flip", "cgi", "B")
    assert here.serves is B


def test_who_is_at_work_is_not_disturbed(here: Frontend) -> None:
    (here.folder / "boot_id").write_text(Path(BOOT_ID).read_text())
    with here.host.lock():
        for verb in ("rollback", "verify", "confirm"):
            assert here.slotctl(verb).returncode == 7
    assert here.serves is A


def test_what_used_the_old_slot_is_restarted_by_its_rule(here: Frontend) -> None:
    mark = here.folder / "restarted"
    service = Service("sleep", ("sleep",), ("touch", str(mark)), deadline_s=0.5)
    here.host.slots = replace(here.host.slots, services=(service,), drain_s=0.5)
    here.done("boot")
    with process("sleep", "60", cwd=here.host.slots.slot(A).mount_point) as child:
        ended = here.slotctl("rollback")
        assert (ended.returncode, str(child.pid) in ended.stderr) == (3, True)
    assert mark.exists()
    assert here.serves is B


def test_a_process_that_no_rule_covers_stops_the_flip(here: Frontend) -> None:
    here.done("boot")
    with process("sleep", "60", cwd=here.host.slots.slot(A).mount_point):
        assert here.slotctl("rollback").returncode == 2
    assert here.serves is A


def test_several_sets_are_told_apart(here: Frontend) -> None:
    slots = here.host.slots
    other = replace(slots, name="it's", slots=(Slot(A, "/none", "/none1"), slots.slots[1]))
    program = here.folder / "several"
    program.write_text(scripts.slotctl(here.host.platform, (slots, other)))

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = ("sh", str(program), *words)
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert run("rollback").returncode == 2
    ended = run("status")
    assert ended.returncode == 0
    assert "cgi: " in ended.stdout
    assert "it's: " in ended.stdout
    assert "no slot: /none is missing" in ended.stdout


@pytest.mark.parametrize("name", PLATFORMS)
def test_it_is_as_it_was_reviewed(name: str) -> None:
    text = rendered(name)
    reviewed(f"slotctl.{name.lower()}.sh", text[text.index("RESTART_TIMEOUT_S=") :])


@pytest.mark.parametrize("name", PLATFORMS)
def test_shellcheck_finds_nothing_in_it(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    argv = ("shellcheck", "-s", "sh", "-e", ON_PURPOSE, "-")
    done = subprocess.run(argv, input=rendered(name).encode(), capture_output=True, check=False)
    assert done.stdout.decode() == ""


@pytest.mark.parametrize("name", PLATFORMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_can_read_it(name: str, shell: str) -> None:
    argv = shlex.split(shell)
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    done = subprocess.run(
        (*argv, "-n"), input=rendered(name).encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def rendered(name: str) -> str:
    slots = replace(SET, services=SERVICES, preflight=TRIALS, checks=CHECKS)
    return scripts.slotctl(PLATFORMS[name], (slots, replace(SET, name="static")))
