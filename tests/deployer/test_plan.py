"""Plans: each refusal with its line, and what is skipped because it is there already."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from deployer.image import Image
from deployer.plan import Plan, plan_deploy, plan_rollback, rollback_hindrance
from deployer.wording import percent
from slots.actions import (
    Action,
    Arm,
    Baseline,
    Check,
    Confirm,
    Cover,
    Disarm,
    Drain,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Preflight,
    Prove,
    Restart,
    Seal,
    Unmount,
)
from slots.errors import Exit, LockedError, ProductError
from slots.slot import (
    DeviceKind,
    FrontendState,
    LinkKind,
    Lock,
    Service,
    SlotName,
    SlotState,
    Verdict,
)
from tests.deployer.simulator import DamagedError, Frontend, release, serving, slot_set

OLD, NEW = release("a"), release("b")
Change = Callable[[FrontendState], FrontendState]


def with_b(**changes: object) -> Change:
    def change(state: FrontendState) -> FrontendState:
        first, second = state.statuses
        return replace(state, statuses=(first, replace(second, **changes)))  # type: ignore[arg-type]

    return change


def with_a(**changes: object) -> Change:
    def change(state: FrontendState) -> FrontendState:
        first, second = state.statuses
        return replace(state, statuses=(replace(first, **changes), second))  # type: ignore[arg-type]

    return change


def with_state(**changes: object) -> Change:
    return lambda state: replace(state, **changes)  # type: ignore[arg-type]


def lock(*, alive: bool) -> Lock:
    return Lock("root@admin", 77, "boot1", 0, alive=alive)


def refusal(change: Change, wanted: SlotName | None = None) -> ProductError:
    frontend = serving("a")
    refused = plan_deploy(frontend.slots, change(frontend.state()), NEW, wanted)
    assert not isinstance(refused, Plan)
    return refused


def planned(frontend: Frontend, wanted: SlotName | None = None) -> Plan:
    plan = plan_deploy(frontend.slots, frontend.state(), NEW, wanted)
    assert isinstance(plan, Plan)
    return plan


def kinds(actions: tuple[Action, ...]) -> list[type]:
    return [type(action) for action in actions]


SERVE = [
    *(Mount, Preflight, Cover, Baseline, Arm, Flip),
    *(Restart, Drain, Check, Confirm, Judge),
]
FINISH = [Disarm, Prove, Mount, Arm, Restart, Drain, Check, Confirm, Judge]


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        (with_state(lock=lock(alive=True)), "root@admin is at work on the set cgi", Exit.LOCKED),
        (with_state(missing=("gzip", "dd")), "the host lacks gzip, dd", Exit.REFUSED),
        (with_state(link_kind=LinkKind.OTHER), "/webroot/cgi is there, but is not a symlink", 2),
        (with_state(link_target="cgi-old"), "points to cgi-old, which is neither slot", 2),
        (with_b(device_kind=DeviceKind.MISSING), "slot B: there is no /dev/disk/by-partl", 2),
        (with_b(device_kind=DeviceKind.FILE), "cgiB is a plain file, not a device", 2),
        (with_b(device_kind=DeviceKind.OTHER), "cgiB is not a device that a slot", 2),
        (with_b(size_bytes=0), "cgiB has no size", 2),
        (with_a(device_kind=DeviceKind.MISSING), "slot A: there is no /dev/disk/by-partl", 2),
        (with_a(device_kind=DeviceKind.OTHER), "cgiA is not a device that a slot", 2),
        (with_a(mounted=False, mount_note="another device (8:1) is mounted"), "slot A: anoth", 2),
        (with_state(missing_restarts=("worker: nope",)), "what restarts worker: nope", 2),
        (with_b(size_bytes=1 << 18), "slot B is too small: 0.3 MB for the 0.5 MB of cgi-b", 2),
        (with_b(mount_note="/dev/sdz is mounted there"), "slot B: /dev/sdz is mounted there", 2),
        (with_state(formats=("uzip",)), "it is squashfs, the host mounts uzip", 2),
        (with_state(formats=()), "the host mounts nothing that we build", 2),
    ],
)
def test_a_frontend_that_cannot_be_worked_on_is_refused(
    change: Change, message: str, code: int
) -> None:
    refused = refusal(change)
    assert message in refused.message
    assert refused.exit_code == code


def test_the_active_slot_is_refused_for_another_image() -> None:
    refused = refusal(lambda state: state, SlotName.A)
    assert str(refused) == (
        "slot A is active and holds cgi-a (deploy to slot B, or roll back first)"
    )


def test_the_whole_image_goes_to_an_empty_slot_and_the_old_one_is_the_way_back() -> None:
    plan = planned(serving("a"))
    assert (plan.active, plan.target) == (SlotName.A, SlotName.B)
    assert kinds(plan.actions) == [Cover, Erase, Fill, Seal, Prove, *SERVE]
    assert kinds(plan.undo) == [Flip, Judge, Restart, Drain, Check, Judge, Disarm]
    assert plan.undo[-2] == Judge(SlotName.A, Verdict.GOOD)
    assert plan.undo[0] == Flip(SlotName.A)
    assert plan.undo[1] == Judge(SlotName.B, Verdict.BAD)
    assert plan.facts[0] == "cgi-b as squashfs, 0.5 MB: slot B 50 % full"
    assert plan.sends_bytes == NEW.artefacts[0].size_bytes


def test_a_mounted_slot_is_unmounted_before_it_is_written() -> None:
    frontend = serving("a")
    frontend.cells[SlotName.B].mounted = "c" * 64
    assert kinds(planned(frontend).actions)[:5] == [Cover, Restart, Drain, Unmount, Erase]


def test_services_that_a_cut_switch_left_are_moved_only_where_they_are_used() -> None:
    frontend = serving("a")
    frontend.cells[SlotName.B].mounted = "c" * 64
    services = (Service("web", ("web",), always=True),)
    slots = replace(frontend.slots, services=services)
    plan = plan_deploy(slots, frontend.state(), NEW, None)
    assert isinstance(plan, Plan)
    assert plan.actions[1] == Restart(SlotName.B, (Service("web", ("web",)),))
    assert Restart(SlotName.A, services) in plan.actions
    without_link = replace(frontend.state(), link_kind=LinkKind.MISSING)
    plan = plan_deploy(slots, without_link, NEW, SlotName.B)
    assert isinstance(plan, Plan)
    assert plan.actions[0] == Unmount(SlotName.B)


def test_an_image_that_is_there_is_not_sent_again_but_proven_before_each_switch() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions[:4]:
        frontend.run(action)
    plan = planned(frontend)
    assert kinds(plan.actions) == [Prove, *SERVE]
    assert plan.sends_bytes == 0
    frontend.reboot()
    assert kinds(planned(frontend).actions) == [Prove, *SERVE]


def test_what_serves_is_proven_again_once_its_proof_holds_no_more() -> None:
    frontend = serving("a")
    there = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(there, Plan)
    assert there.actions == ()
    frontend.cells[SlotName.A].proof = ""
    plan = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(plan, Plan)
    assert (plan.target, plan.sends_bytes) == (SlotName.A, 0)
    assert kinds(plan.actions)[0] is Prove


def test_an_image_of_which_the_record_is_lost_is_known_by_its_head_and_proven() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions[:4]:
        frontend.run(action)
    for cell in frontend.cells.values():
        cell.forget()
    plan = planned(frontend)
    assert kinds(plan.actions) == [Prove, *SERVE]
    assert "its record is lost: it is proven" in plan.facts[1]
    # What A holds nobody can say: no verdict on it.
    assert kinds(plan.undo) == [Flip, Judge, Restart, Drain, Check, Disarm]
    again = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(again, Plan)
    assert (again.target, again.sends_bytes) == (SlotName.A, 0)


def test_a_damaged_slot_is_written_anew_and_not_rolled_back_to() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions[:4]:
        frontend.run(action)
    frontend.cells[SlotName.B].damaged = True
    plan = planned(frontend)
    with pytest.raises(DamagedError):
        frontend.run(plan.actions[0])
    assert frontend.state().status(SlotName.B).damaged
    refused = plan_rollback(frontend.slots, frontend.state(), [NEW])
    assert str(refused) == (
        "slot B is damaged: its digest is dddddddddddd…, not bbbbbbbbbbbb… of cgi-b "
        "(deploy it again to slot B)"
    )
    plan = planned(frontend)
    assert kinds(plan.actions)[:2] == [Cover, Erase]
    assert "slot B holds a damaged cgi-b" in plan.facts[1]


def test_a_damaged_active_slot_is_named_and_the_other_one_taken() -> None:
    frontend = serving("a")
    frontend.cells[SlotName.A].proof = "d" * 64
    refused = plan_deploy(frontend.slots, frontend.state(), OLD, SlotName.A)
    assert "slot A is active and is a damaged cgi-a" in str(refused)
    plan = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(plan, Plan)
    assert plan.target is SlotName.B


def test_a_mount_inside_that_is_gone_is_mounted_again() -> None:
    frontend = serving("a")
    frontend.cells[SlotName.A].inner_mounts = False
    plan = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(plan, Plan)
    assert kinds(plan.actions) == [Prove, Mount, Restart, Drain, Check, Judge]
    assert "slot A lacks its mount dev: mounted again" in plan.facts


def test_a_flip_that_was_cut_to_a_good_image_is_not_taken_for_done() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions:
        frontend.run(action)
    back = plan_rollback(frontend.slots, frontend.state(), ())
    assert isinstance(back, Plan)
    for action in back.actions[:7]:  # up to the flip
        frontend.run(action)
    assert frontend.restarted != frontend.served
    plan = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(plan, Plan)
    assert kinds(plan.actions) == FINISH


def test_the_first_deploy_has_no_way_back_and_says_so() -> None:
    plan = planned(Frontend(slot_set()))
    assert (plan.active, plan.target, plan.undo) == (None, SlotName.A, ())
    assert "there is no way back from a failed check" in " ".join(plan.facts)


def test_without_a_link_the_way_back_is_the_other_slot_if_it_holds_an_image() -> None:
    frontend = serving("a")
    frontend.link = None
    plan = planned(frontend, SlotName.B)
    assert plan.undo[0] == Flip(SlotName.A)
    assert "a failed check goes to slot A" in plan.facts[-1]


def test_what_was_cut_behind_the_flip_is_finished_with_a_way_back() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions[:11]:
        frontend.run(action)
    plan = planned(frontend)
    assert kinds(plan.actions) == FINISH
    assert plan.undo[0] == Flip(SlotName.A)


def test_a_bad_image_is_refused_unless_asked_for() -> None:
    frontend = serving("a")
    for action in (*planned(frontend).actions[:11], *planned(frontend).undo):
        frontend.run(action)
    refused = plan_deploy(frontend.slots, frontend.state(), NEW, None)
    assert not isinstance(refused, Plan)
    assert "cgi-b in slot B is recorded as bad" in refused.message
    again = plan_deploy(frontend.slots, frontend.state(), NEW, None, allow_bad=True)
    assert isinstance(again, Plan)
    assert kinds(again.actions) == [Prove, *SERVE]


def test_a_dead_holder_s_lock_is_told_and_taken_over() -> None:
    frontend = serving("a")
    state = replace(frontend.state(), lock=lock(alive=False))
    plan = plan_deploy(frontend.slots, state, NEW, None)
    assert isinstance(plan, Plan)
    assert "the lock of root@admin is left from a dead holder" in plan.facts[-1]


def test_plans_for_the_same_work_are_the_same_whatever_they_say() -> None:
    plan = planned(serving("a"))
    assert plan.same_work(replace(plan, facts=()))
    assert not plan.same_work(replace(plan, actions=plan.actions[1:]))


def test_a_rollback_goes_to_what_the_other_slot_holds() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions:
        frontend.run(action)
    plan = plan_rollback(frontend.slots, frontend.state(), ())
    assert isinstance(plan, Plan)
    assert (plan.target, plan.image.release) == (SlotName.A, "cgi-a")
    assert kinds(plan.actions) == [Prove, *SERVE]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda state: state, "slot B is empty"),
        (with_b(state=SlotState.WRITING), "slot B is writing"),
        (with_b(state=SlotState.READY, head_sha256="9" * 64), "of which no record is left"),
        (with_state(link_kind=LinkKind.MISSING), "nothing serves"),
        (with_state(lock=lock(alive=True)), "is at work"),
    ],
)
def test_a_rollback_says_why_it_cannot_be(change: Change, why: str) -> None:
    frontend = serving("a")
    assert why in str(rollback_hindrance(frontend.slots, change(frontend.state()), ()))


def test_a_lost_record_is_made_up_for_by_a_release_that_is_known() -> None:
    frontend = serving("a")
    for action in planned(frontend).actions[:4]:
        frontend.run(action)
    frontend.cells[SlotName.B].record = None
    frontend.cells[SlotName.B].proof = ""
    assert rollback_hindrance(frontend.slots, frontend.state(), ()) is not None
    plan = plan_rollback(frontend.slots, frontend.state(), [OLD, NEW])
    assert isinstance(plan, Plan)
    assert plan.image == Image.of(NEW.artefacts[0], "cgi-b")
    assert kinds(plan.actions) == [Prove, *SERVE]


def test_a_locked_set_is_an_error_of_its_own() -> None:
    assert isinstance(refusal(with_state(lock=lock(alive=True))), LockedError)


@pytest.mark.parametrize(("part", "whole", "shown"), [(0, 9, 0), (999, 1000, 99), (9, 9, 100)])
def test_full_is_told_only_of_what_is_full(part: int, whole: int, shown: int) -> None:
    assert percent(part, whole) == shown
