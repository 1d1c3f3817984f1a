"""The whole command over SSH against sandbox frontends: deploy, again, back and forth, cut."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.deployer.conftest import AdminBox
from tests.lab.processes import until


@pytest.fixture(scope="module")
def box(admin_box: AdminBox) -> AdminBox:
    """www1 serves release 1 from slot A; release 2 and one whose CGI fails are there too."""
    admin_box.release("1")
    admin_box.release("2")
    admin_box.release("broken", broken=True)
    text = admin_box.inventory.read_text()
    admin_box.inventory.write_text(text.replace('kind = "http"', 'kind = "http"\ndeadline_s = 1'))
    assert admin_box.deploy("--image", "cgi-1", "--slot", "A", "--yes").status == 0
    return admin_box


def test_deploys_to_the_other_slot_and_rolls_back_three_times(box: AdminBox) -> None:
    only = ("--yes", "--hosts", "www1")
    assert box.deploy("--image", "cgi-1", *only).status == 0
    first = (box.target(), box.served())
    assert box.deploy("--image", "cgi-2", *only).status == 0
    second = (box.target(), box.served())
    assert {first, second} in ({("cgi1", "1"), ("cgi2", "2")}, {("cgi1", "2"), ("cgi2", "1")})
    for expected in (first, second, first):
        assert box.deploy("rollback", *only).status == 0
        assert (box.target(), box.served()) == expected
    again = box.deploy("--image", "cgi-1", "--json", "--hosts", "www1")
    assert again.status == 0
    assert "serves cgi-1 already" in json.loads(again.stdout)["hosts"][0]["message"]


def test_a_release_with_the_bytes_of_the_recorded_one_serves_already_and_both_are_named(
    box: AdminBox,
) -> None:
    box.release("twin-1")
    assert box.deploy("--image", "cgi-twin-1", "--yes", "--hosts", "www1").status == 0
    first = box.folder / "images/out/cgi-twin-1"
    second = shutil.copytree(first, first.with_name("cgi-twin-2"))
    text = (second / "release.json").read_text()
    (second / "release.json").write_text(text.replace('"twin-1"', '"twin-2"'))
    told = box.deploy("--image", "cgi-twin-2", "--hosts", "www1").stdout
    assert "serves cgi-twin-2 already (recorded there as cgi-twin-1, which has the" in told
    shown = box.deploy("plan", "--image", "cgi-twin-2", "--hosts", "www1").stdout
    assert "nothing to do (recorded there as cgi-twin-1, which has the same bytes)" in shown
    status = box.deploy("status", "--hosts", "www1").stdout
    assert "cgi-twin-1 has the same bytes as cgi-twin-2" in " ".join(status.split())
    slots = json.loads(box.deploy("status", "--json", "--hosts", "www1").stdout)["hosts"][0][
        "slots"
    ]
    twin = next(one for one in slots.values() if one["image"]["release"] == "cgi-twin-1")
    assert twin["same_bytes"] == ["cgi-twin-2"]


def test_who_uses_the_slot_that_is_written_is_waited_for_unless_force_is_asked_for(
    box: AdminBox,
) -> None:
    for version in ("1", "2"):  # both slots are mounted now
        assert box.deploy("--image", f"cgi-{version}", "--yes", "--hosts", "www1").status == 0
    box.release("forced")

    def before_the_unmount(*options: str) -> list[str]:
        shown = ("--image", "cgi-forced", "--hosts", "www1", "--dry-run", "--json")
        (host,) = json.loads(box.deploy(*shown, *options).stdout)["hosts"]
        actions: list[str] = host["plan"]["actions"]
        return actions[: actions.index("unmount")]

    assert "drain" in before_the_unmount()
    assert "drain" not in before_the_unmount("--force-unmount")


def test_an_image_that_fails_its_checks_is_taken_back_and_not_tried_again(box: AdminBox) -> None:
    before = (box.target("www2"), box.served("www2"))
    ran = box.deploy("--image", "cgi-broken", "--yes", "--hosts", "www2", "--json")
    assert ran.status == 5
    message = next(one for one in json.loads(ran.stdout)["hosts"])["message"]
    assert "cgi-broken failed: http://127.0.0.12" in message
    assert "rolled back, slot " in message
    assert (box.target("www2"), box.served("www2")) == before
    again = box.deploy("--image", "cgi-broken", "--yes", "--hosts", "www2")
    assert again.status == 2
    assert "is recorded as bad: its checks failed" in again.stdout
    status = json.loads(box.deploy("status", "--json", "--hosts", "www2").stdout)["hosts"][0]
    assert not status["rollback"]["ready"]
    assert "bad" in status["rollback"]["why_not"]


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("fill", signal.SIGKILL),
        ("flip", signal.SIGKILL),
        ("erase", signal.SIGINT),
        ("check", signal.SIGINT),
        ("erase", signal.SIGTERM),
        ("check", signal.SIGHUP),
    ],
)
def test_a_deployer_that_is_ended_in_a_step_is_continued_by_the_next(
    box: AdminBox, step: str, kind: signal.Signals
) -> None:
    only = ("--yes", "--hosts", "www1")
    version, before = f"{step}-{kind.value}", box.served()
    box.release(version)
    with box.start("--image", f"cgi-{version}", *only, held_at=step) as cut:
        _await_stop(cut)
        cut.send_signal(kind)
        cut.send_signal(signal.SIGCONT)
        assert cut.stderr is not None
        rest = "".join(cut.stderr)
        assert cut.stdout is not None
        result = cut.stdout.read()
        status = cut.wait(30)
    assert box.served() in {before, version}
    assert "Traceback" not in rest
    assert status == (-kind if kind is signal.SIGKILL else 128 + kind), rest
    assert (f"interrupted (exit {status})" in result) == (kind is not signal.SIGKILL)
    if step == "check":  # behind the flip it is brought to its end
        assert box.served() == version
    assert _once_the_lock_is_free(box, "--image", f"cgi-{version}", *only) == 0
    assert box.served() == version
    assert box.deploy("plan", "--check", "--image", f"cgi-{version}", *only[1:]).status == 0


def test_a_switch_back_to_a_good_image_that_is_killed_at_its_flip_is_not_taken_for_done(
    box: AdminBox,
) -> None:
    only = ("--yes", "--hosts", "www1")
    for version in ("good-1", "good-2"):
        box.release(version)
        assert box.deploy("--image", f"cgi-{version}", *only).status == 0
    with box.start("rollback", *only) as cut:
        assert cut.stderr is not None
        for line in cut.stderr:
            if '"finished","step":"flip"' in line:
                cut.kill()
                break
        cut.wait(30)
    assert box.served() == "good-1"
    until("the lock is free", lambda: not list(box.folder.rglob("*.lock")), within_s=10)
    check = ("--image", "cgi-good-1", "--hosts", "www1")
    plan = json.loads(box.deploy("plan", "--json", *check).stdout)["hosts"][0]["plan"]
    steps = ["disarm", "prove", "mount", "arm", "restart", "drain", "check", "confirm", "judge"]
    assert plan["actions"] == steps
    assert box.deploy("--image", "cgi-good-1", *only).status == 0
    assert box.deploy("plan", "--check", *check).status == 0


def _await_stop(process: "subprocess.Popen[str]") -> None:
    """Wait until a process holds still, without taking its end from whoever waits for that."""
    seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert seen is not None
    assert seen.si_code == os.CLD_STOPPED, "it was over before it came to that step"


def _once_the_lock_is_free(box: AdminBox, *arguments: str) -> int:
    """The host sees a killed deployer only when its connection ends, a moment later."""
    deadline = time.monotonic() + 10
    while (status := box.deploy(*arguments).status) == 7 and time.monotonic() < deadline:
        time.sleep(0.2)
    return status


def test_a_set_that_someone_else_works_on_is_refused_until_it_is_unlocked(
    box: AdminBox, tmp_path: Path
) -> None:
    version = "locked"
    box.release(version)
    slow = tmp_path / "slow.toml"
    hook = 'restart = ["sleep", "3"]\nalways = true'
    text = box.inventory.read_text()
    slow.write_text(
        "\n".join(hook if line.startswith("restart =") else line for line in text.splitlines())
    )
    first = box.start(
        "--image", f"cgi-{version}", "--yes", "--hosts", "www1", "--inventory", str(slow)
    )
    with first:
        assert first.stderr is not None
        for line in first.stderr:
            if '"started","step":"restart"' in line:
                break
        drain = threading.Thread(target=first.stderr.read)
        drain.start()
        refused = box.deploy("--image", f"cgi-{version}", "--yes", "--hosts", "www1")
        assert refused.status == 7
        assert "is at work on the set cgi" in refused.stdout
        assert "`deploy unlock`" in refused.stdout
        freed = box.deploy("unlock", "--yes", "--hosts", "www1")
        assert freed.status == 0
        assert "unlocked: " in freed.stdout
        first.wait(30)
        drain.join()
    assert box.deploy("--image", f"cgi-{version}", "--yes", "--hosts", "www1").status == 0
    assert box.served() == version


def test_status_tells_what_each_slot_holds(box: AdminBox) -> None:
    ran = box.deploy("status")
    assert ran.status == 0
    assert "www1" in ran.stdout
    document = json.loads(box.deploy("status", "--json").stdout)
    assert document["schema"] == "flipslot.status/1"
    for host in document["hosts"]:
        active = host["slots"][host["active"]]
        assert active["mounted"]
        assert active["verdict"] == "good"
        assert active["proven_at_epoch_s"] > 0
    until("no lock is left", lambda: not list(box.folder.rglob("*.lock")), within_s=5)
