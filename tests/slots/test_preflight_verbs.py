"""What is tried inside a slot before the flip: in real chroots, under each shell."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from slots.actions import Flip, Preflight
from slots.answers import Answer
from slots.sandbox import Sandbox
from slots.slot import SlotName, SlotSet
from slots.trials import CgiTrial, CommandTrial, LibrariesTrial, Trial
from tests.slots import images
from tests.slots.hosts import SHELLS, Host, sandbox_slots

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 24 << 20
PROGRAMS = ("sh", "cat", "id", "sleep", "env", "head")
CGI = """\
#!/bin/sh
echo "warning: $REQUEST_METHOD" >&2
printf 'Content-Type: text/plain\\r\\nStatus: %s\\r\\n\\r\\n' "${WANTED:-200 OK}"
echo "$SCRIPT_NAME by $(id -u) of $(id -G)"
cat
exit "${ENDS:-0}"
"""


def libraries_of(program: str) -> set[str]:
    """Return the libraries and the loader that a program of this system needs."""
    done = subprocess.run(("ldd", program), capture_output=True, text=True, check=True)
    words = done.stdout.replace("=>", " ").split()
    return {word for word in words if word.startswith("/")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chroot with a shell, and one library of which nothing is left."""
    if os.geteuid() != 0:
        done = subprocess.run(("unshare", "-U", "-r", "true"), capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("needs root, or unshare for all users")
    root = tmp_path_factory.mktemp("tree")
    for program in PROGRAMS:
        path = shutil.which(program)
        assert path is not None
        for file in (path, *libraries_of(path)):
            name = f"bin/{program}" if file == path else file.lstrip("/")
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / name)
    for folder in ("cgi-bin", "dev", "tmp"):
        (root / folder).mkdir()
    for name, text in (("ok", CGI), ("bare", "#!/bin/sh\necho hello\n")):
        (root / "cgi-bin" / name).write_text(text)
        (root / "cgi-bin" / name).chmod(0o755)
    (root / "away").symlink_to("/etc")
    subprocess.run(("chmod", "-R", "go+rX", root), check=True)
    return root


def image_of(tree: Path, folder: Path) -> images.Image:
    if shutil.which("mksquashfs") is None:
        pytest.skip("needs mksquashfs (squashfs-tools)")
    out = folder / "tree.squashfs"
    quick = ("-quiet", "-no-progress", "-all-root", "-noappend", "-Xcompression-level", "1")
    subprocess.run(("mksquashfs", tree, out, *quick), check=True)
    return images.of_bytes(out.read_bytes(), "squashfs")


@pytest.fixture
def slots(tmp_path: Path) -> SlotSet:
    return sandbox_slots(tmp_path, SLOT_BYTES, mounts=("c i", "cgi2"))


@pytest.fixture
def host(slots: SlotSet, tree: Path) -> Host:
    """A sandbox whose slot A is that tree, as a mount would show it."""
    host = Host(Sandbox(), slots)
    mount = Path(slots.slots[0].mount_point)
    shutil.copytree(tree, mount, symlinks=True)
    records = Path(slots.records)
    records.mkdir()
    about = Path(slots.slots[0].device).stat()
    (records / "cgi.A.mounted").write_text(f"device={about.st_dev}:{about.st_ino}\n")
    return host


def tried(host: Host, *trials: Trial) -> Answer:
    with host.lock() as token:
        return host.do(Preflight(A, trials), token)


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user is a right of root")


@pytest.mark.parametrize("shell", SHELLS)
def test_programs_run_inside_the_slot_under_each_shell(host: Host, shell: str) -> None:
    host.shell = shell
    answer = tried(
        host,
        CgiTrial("/cgi-bin/ok", contains="/cgi-bin/ok by", stdin="it's $HOME\nnothing"),
        CgiTrial("/cgi-bin/ok", environment=(("WANTED", "404 it's none"),), status=404),
        CommandTrial(("sh", "-c", 'echo "$0"', "it's * $(x)"), contains="it's * $(x)"),
        CommandTrial(("sh", "-c", "exit 3"), exit=3),
        LibrariesTrial(),
    )
    assert answer.status == 0, answer
    assert len(answer.all("passed")) == 5
    assert answer.all("passed")[-1] == "ldd /"


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        (CgiTrial("/cgi-bin/ok", environment=(("ENDS", "3"),)),
         "cgi /cgi-bin/ok: exit status 3, not 0: warning: GET"),
        (CgiTrial("/cgi-bin/ok", environment=(("WANTED", "500 no"),)),
         "cgi /cgi-bin/ok: it answers with status 500, not 200: warning: GET"),
        (CgiTrial("/cgi-bin/ok", contains="version 2"),
         "cgi /cgi-bin/ok: its output does not contain 'version 2': warning: GET"),
        (CgiTrial("/cgi-bin/bare"),
         "cgi /cgi-bin/bare: its output begins with no CGI header: hello"),
        (CommandTrial(("sh", "-c", "echo one; echo two; echo; exit 7")),
         "command sh -c 'echo one; echo two; echo; exit 7': exit status 7, not 0: two"),
        (CommandTrial(("sleep", "30"), deadline_s=0.5),
         "command sleep 30: no end within 1 s"),
        (CommandTrial(("true",), user="nobody-knows"),
         "command true: this host has no user nobody-knows"),
        (LibrariesTrial(("/none",)), "ldd /none: the slot has no folder /none"),
        (LibrariesTrial(("/away",)), "ldd /away: the slot has no folder /away"),
        (LibrariesTrial(("/tmp",)), "ldd /tmp: no program lies there"),
    ],
)  # fmt: skip
def test_a_failing_trial_is_named_with_its_exit_and_its_last_line(
    host: Host, trial: Trial, why: str
) -> None:
    if os.geteuid() != 0 and trial.user != "nobody":
        pytest.skip("needs root: without it the user is not changed")
    answer = tried(host, trial)
    assert answer.status == 21
    assert answer.first("error") == f"slot A fails its preflight: {why}"


def test_a_missing_program_is_told_by_who_looked_for_it(host: Host) -> None:
    answer = tried(host, CommandTrial(("nothing-there",)), CommandTrial(("true",)))
    assert answer.status == 21
    assert "command nothing-there: exit status 127, not 0: " in answer.first("error")
    assert "; command true: exit status 127" in answer.first("error")  # all are tried


@pytest.mark.parametrize("shell", SHELLS)
def test_missing_libraries_are_named_with_the_file_that_lacks_them(host: Host, shell: str) -> None:
    host.shell = shell
    mount = Path(host.slots.slots[0].mount_point)
    subprocess.run(("chmod", "-R", "u+w", mount), check=True)
    for lost in mount.rglob("libselinux.so.1"):
        lost.unlink()
    (mount / "a prog's").mkdir()
    shutil.copy(mount / "bin/id", mount / "a prog's/id $x")
    answer = tried(host, LibrariesTrial())
    assert answer.status == 21
    assert answer.all("missing") == (
        "/a prog's/id $x lacks libselinux.so.1",
        "/bin/id lacks libselinux.so.1",
    )
    assert answer.first("error") == (
        "slot A fails its preflight: ldd /: " + ", ".join(answer.all("missing"))
    )
    for ignore in ("libselinux*", "/*"):
        assert tried(host, LibrariesTrial(ignore=(ignore,))).status == 0


@ROOT
def test_a_trial_has_no_rights_and_no_groups_of_root(host: Host) -> None:
    nobody = subprocess.run(("id", "-u", "nobody"), capture_output=True, check=True, text=True)
    group = subprocess.run(("id", "-g", "nobody"), capture_output=True, check=True, text=True)
    said = f"by {nobody.stdout.strip()} of {group.stdout.strip()}"
    assert tried(host, CgiTrial("/cgi-bin/ok", contains=said)).status == 0


def test_what_a_trial_leaves_behind_is_ended_with_it(host: Host) -> None:
    began = time.monotonic()
    left = CommandTrial(("sh", "-c", "sleep 4711 & exit 0"))
    late = CommandTrial(("sh", "-c", "sleep 4711 & sleep 4711"), deadline_s=1)
    assert tried(host, left).status == 0
    assert "no end within 1 s" in tried(host, late).first("error")
    assert time.monotonic() - began < 30
    users = subprocess.run(("pgrep", "-f", "^sleep 4711$"), capture_output=True, check=False)
    assert users.stdout == b""
    assert list(Path(host.slots.records).glob(".cgi.*")) == []


def test_a_trial_that_writes_without_end_is_ended(host: Host) -> None:
    answer = tried(
        host, CommandTrial(("sh", "-c", "while :; do echo endless; done"), deadline_s=20)
    )
    assert answer.status == 21
    assert "exit status 1" in answer.first(
        "error"
    )  # of the signal, whose number systems disagree on


def test_the_active_slot_and_one_that_is_not_mounted_are_never_entered(host: Host) -> None:
    with host.lock() as token:
        refused = host.do(Preflight(B, (CommandTrial(("true",)),)), token)
        assert (refused.status, "is not mounted" in refused.first("error")) == (20, True)
        assert host.do(Flip(A), token).status == 0
        refused = host.do(Preflight(A, (CommandTrial(("true",)),)), token)
        assert (refused.status, "slot A is active" in refused.first("error")) == (20, True)
