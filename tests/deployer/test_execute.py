"""The loop that changes a frontend, run against the simulator: what fails where, and what then."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from deployer.execute import perform
from deployer.plan import Plan, plan_deploy
from slots.actions import (
    Action,
    Check,
    Confirm,
    Drain,
    Fill,
    Flip,
    Judge,
    Patch,
    Prove,
    Restart,
    Stage,
)
from slots.errors import (
    HostError,
    LockedError,
    LockLostError,
    ProductError,
    Refused,
    RolledBackError,
    StragglersError,
    UnreachableError,
    VerificationError,
)
from slots.slot import SlotName, Verdict
from tests.deployer.simulator import (
    DamagedError,
    Frontend,
    UnfitError,
    UnhealthyError,
    release,
    serving,
    slot_set,
)

NEW = release("b")
Fault = Callable[[Frontend, Action], None]


def planned(frontend: Frontend) -> Plan:
    plan = plan_deploy(frontend.slots, frontend.state(), NEW, None)
    assert isinstance(plan, Plan)
    return plan


def nothing(frontend: Frontend, action: Action) -> None:
    del frontend, action


def run_plan(
    frontend: Frontend,
    fault: Fault = nothing,
    stop_at: int = 99,
    plan: Plan | None = None,
    told: list[str] | None = None,
) -> list[Action]:
    frontend.begin()
    done: list[Action] = []

    def run(action: Action, _following: Sequence[Action]) -> None:
        fault(frontend, action)
        try:
            frontend.run(action)
        except UnhealthyError as error:
            raise HostError("the check failed") from error
        except DamagedError as error:
            raise VerificationError("damaged") from error
        except UnfitError as error:
            raise HostError("slot B fails its preflight") from error
        done.append(action)

    def stop_point() -> None:
        if len(done) >= stop_at:
            raise HostError("stopped by the admin")

    perform(plan or planned(frontend), run, stop_point, (told if told is not None else []).append)
    return done


def failing(kind: type[Action], error: ProductError, slot: SlotName = SlotName.B) -> Fault:
    """Fail the action of this kind on this slot."""

    def fault(_: Frontend, action: Action) -> None:
        if isinstance(action, Stage):
            return
        named = action.left.other if isinstance(action, Restart | Drain) else action.slot
        if isinstance(action, kind) and named is slot:
            raise error

    return fault


def test_a_plan_is_run_to_its_end() -> None:
    frontend = serving("a")
    run_plan(frontend)
    assert frontend.served == "b" * 64


@pytest.mark.parametrize("number", range(7))
def test_a_failure_before_the_flip_changes_nothing_that_serves(number: int) -> None:
    frontend = serving("a")
    victim = planned(frontend).actions[number]

    def fault(_: Frontend, action: Action) -> None:
        if action == victim:
            raise HostError("broken")

    with pytest.raises((HostError, RolledBackError), match="broken"):
        run_plan(frontend, fault)
    assert frontend.served == "a" * 64


def test_a_slot_that_fails_its_preflight_is_not_flipped_to_nor_judged() -> None:
    frontend = serving("a")
    frontend.tried = lambda image: image != "b" * 64
    with pytest.raises(HostError, match="slot B fails its preflight"):
        run_plan(frontend)
    assert frontend.served == "a" * 64 == frontend.restarted
    assert (frontend.link, frontend.armed) == (SlotName.A, None)
    assert frontend.cells[SlotName.B].verdict is None
    frontend.tried = lambda _: True
    run_plan(frontend)
    assert frontend.served == "b" * 64


@pytest.mark.parametrize("kind", [Restart, Check])
def test_a_failure_behind_the_flip_goes_back_and_judges(kind: type[Action]) -> None:
    frontend = serving("a")
    with pytest.raises(RolledBackError) as caught:
        run_plan(frontend, failing(kind, HostError("broken")))
    assert caught.value.message == ("cgi-b failed: broken; rolled back, slot A serves again")
    assert frontend.served == "a" * 64 == frontend.restarted
    assert frontend.cells[SlotName.B].verdict == (Verdict.BAD, "b" * 64)
    assert frontend.cells[SlotName.A].verdict == (Verdict.GOOD, "a" * 64)


def test_what_fails_after_going_back_is_told_too() -> None:
    frontend = serving("a", healthy=lambda _: False)
    with pytest.raises(RolledBackError, match="again; and then: the check failed") as caught:
        run_plan(frontend)
    assert "the old image fails its check too: look at the check" in caught.value.hint
    assert frontend.served == "a" * 64
    assert frontend.cells[SlotName.A].verdict is None  # nobody has seen it work again
    assert frontend.cells[SlotName.B].verdict == (Verdict.BAD, "b" * 64)


def test_a_way_back_that_fails_is_no_rollback_and_says_what_may_serve() -> None:
    frontend = serving("a", healthy=lambda _: False)
    with pytest.raises(HostError, match="going back to slot A failed: read-only") as caught:
        run_plan(frontend, failing(Flip, HostError("read-only"), SlotName.A))
    assert "may serve a broken cgi-b" in caught.value.hint


def test_the_first_deploy_that_fails_has_no_way_back_and_says_so() -> None:
    frontend = Frontend(slot_set(), healthy=lambda _: False)
    with pytest.raises(HostError, match="there is no other image to go back to"):
        run_plan(frontend)


@pytest.mark.parametrize("error", [UnreachableError, LockLostError, LockedError])
def test_what_is_lost_behind_the_flip_says_nothing_of_the_image(error: type[ProductError]) -> None:
    frontend = serving("a")
    lost = error("www1: lost it")
    with pytest.raises(HostError, match="after the flip: slot B serves cgi-b, not yet checked"):
        run_plan(frontend, failing(Check, lost))
    assert frontend.served == "b" * 64
    run_plan(frontend)
    assert frontend.cells[SlotName.B].verdict == (Verdict.GOOD, "b" * 64)


def test_a_verdict_that_cannot_be_noted_does_not_take_a_good_image_back() -> None:
    frontend = serving("a")
    with pytest.raises(HostError, match="no room"):
        run_plan(frontend, failing(Judge, HostError("no room")))
    assert frontend.served == "b" * 64


def test_stragglers_fail_the_host_while_the_new_image_serves_and_the_next_deploy_drains() -> None:
    frontend = serving("a")
    stays = StragglersError("slot A is still used by process 7 worker (ann)")
    with pytest.raises(StragglersError) as caught:
        run_plan(frontend, failing(Drain, stays))
    assert caught.value.message == f"slot B serves cgi-b, but {stays.message}"
    assert frontend.served == "b" * 64
    assert frontend.cells[SlotName.B].verdict is None
    again = run_plan(frontend)
    assert [one for one in again if isinstance(one, Drain)]
    assert frontend.cells[SlotName.B].verdict == (Verdict.GOOD, "b" * 64)


@pytest.mark.parametrize("stop_at", range(15))
def test_an_admin_s_stop_takes_effect_before_the_flip_or_not_at_all(stop_at: int) -> None:
    frontend = serving("a")
    try:
        run_plan(frontend, stop_at=stop_at)
    except HostError:
        assert frontend.served == "a" * 64
        assert stop_at < 11
    else:
        assert frontend.served == "b" * 64
        assert stop_at >= 11


def by_pack(frontend: Frontend) -> Plan:
    """The plan of a deploy whose image is patched together, and written whole if that fails."""
    plan = planned(frontend)
    at = next(n for n, one in enumerate(plan.actions) if isinstance(one, Fill))
    (erase, fill, seal, prove), rest = plan.actions[at - 1 : at + 3], plan.actions[at + 3 :]
    assert isinstance(fill, Fill)
    stage = Stage("e" * 64, 4711)
    patch = Patch(SlotName.B, fill.artefact, "e" * 64, "a" * 64)
    actions = (stage, erase, patch, seal, prove, *rest)
    return replace(plan, actions=actions, fallback=(erase, fill, seal, prove))


def kinds(actions: list[Action]) -> list[str]:
    return [type(one).__name__ for one in actions]


def test_a_patch_that_works_needs_no_fallback() -> None:
    frontend = serving("a")
    told: list[str] = []
    done = run_plan(frontend, plan=by_pack(frontend), told=told)
    assert kinds(done)[:5] == ["Stage", "Erase", "Patch", "Seal", "Prove"]
    assert (frontend.served, frontend.staged, told) == ("b" * 64, "", [])


@pytest.mark.parametrize("kind", [Stage, Patch])
@pytest.mark.parametrize("error", [HostError, VerificationError, Refused])
def test_a_patch_that_fails_calls_for_the_whole_image(
    kind: type[Action], error: type[ProductError]
) -> None:
    frontend = serving("a")
    told: list[str] = []

    def fault(_: Frontend, action: Action) -> None:
        if isinstance(action, kind):
            raise error("no room")

    done = run_plan(frontend, fault, plan=by_pack(frontend), told=told)
    assert kinds(done)[kinds(done).index("Fill") - 1 :][:4] == ["Erase", "Fill", "Seal", "Prove"]
    assert frontend.served == "b" * 64
    assert told == ["no room: the whole image is written"]


def test_a_damaged_old_slot_is_caught_by_the_proof_and_the_whole_image_written() -> None:
    frontend = serving("a")
    frontend.cells[SlotName.A].damaged = True
    told: list[str] = []
    done = run_plan(frontend, plan=by_pack(frontend), told=told)
    assert kinds(done).count("Fill") == 1
    assert frontend.served == "b" * 64
    assert len(told) == 1


@pytest.mark.parametrize("error", [UnreachableError, LockLostError, LockedError])
def test_a_frontend_that_is_lost_gets_nothing_whole(error: type[ProductError]) -> None:
    frontend = serving("a")

    def fault(_: Frontend, action: Action) -> None:
        if isinstance(action, Stage):
            raise error("gone")

    with pytest.raises(error):
        run_plan(frontend, fault, plan=by_pack(frontend))
    assert frontend.served == "a" * 64


def test_the_whole_image_is_written_once_and_no_more() -> None:
    frontend = serving("a")

    def fault(_: Frontend, action: Action) -> None:
        if isinstance(action, Prove):
            raise VerificationError("damaged")

    with pytest.raises(VerificationError):
        run_plan(frontend, fault, plan=by_pack(frontend))
    assert frontend.served == "a" * 64


def test_what_a_cut_transfer_left_is_gone_on_with_and_sent_anew_if_it_was_damaged() -> None:
    frontend = serving("a")
    cell = frontend.cells[SlotName.B]
    cell.writing, cell.written, cell.part_damaged = True, ("b" * 64, 100), True
    plan = planned(frontend)
    assert kinds([*plan.fallback])[-4:] == ["Erase", "Fill", "Seal", "Prove"]
    done = run_plan(frontend)
    assert kinds(done).count("Fill") == 2
    assert frontend.served == "b" * 64


@pytest.mark.parametrize("kind", [Restart, Check, Confirm])
def test_what_the_guard_took_back_is_not_undone_once_more(kind: type[Action]) -> None:
    frontend = serving("a")
    taken = RolledBackError("the guard flips back to slot A: nobody confirmed in time")

    def fault(frontend: Frontend, action: Action) -> None:
        if isinstance(action, kind):
            frontend.fire()
            raise taken

    with pytest.raises(RolledBackError) as caught:
        run_plan(frontend, fault)
    assert caught.value is taken
    assert frontend.served == "a" * 64 == frontend.restarted
    assert frontend.cells[SlotName.B].verdict is None
    run_plan(frontend)
    assert frontend.served == "b" * 64


def test_a_guard_that_is_faster_than_the_deployer_s_own_way_back_is_no_second_failure() -> None:
    frontend = serving("a")
    taken = RolledBackError("the guard flips back to slot A: nobody confirmed in time")

    def fault(frontend: Frontend, action: Action) -> None:
        if isinstance(action, Check):
            raise HostError("broken")
        if action == Flip(SlotName.A):
            frontend.fire()
            raise taken

    with pytest.raises(RolledBackError) as caught:
        run_plan(frontend, fault)
    assert caught.value is taken
    assert frontend.served == "a" * 64


def test_a_confirmation_that_does_not_get_through_says_what_will_happen() -> None:
    frontend = serving("a")
    with pytest.raises(HostError, match="not yet checked") as caught:
        run_plan(frontend, failing(Confirm, UnreachableError("www1 does not answer")))
    assert "the guard of that frontend goes back" in caught.value.hint
    assert frontend.served == "b" * 64
    frontend.fire()
    assert frontend.served == "a" * 64
