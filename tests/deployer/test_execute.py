"""The loop that changes a frontend, run against the simulator: what fails where, and what then."""

from collections.abc import Callable

import pytest

from deployer.execute import perform
from deployer.plan import Plan, plan_deploy
from slots.actions import Action, Check, Drain, Flip, Judge, Restart, Stage
from slots.errors import (
    HostError,
    LockedError,
    LockLostError,
    ProductError,
    RolledBackError,
    StragglersError,
    UnreachableError,
)
from slots.slot import SlotName, Verdict
from tests.deployer.simulator import Frontend, UnhealthyError, release, serving, slot_set

NEW = release("b")
Fault = Callable[[Frontend, Action], None]


def planned(frontend: Frontend) -> Plan:
    plan = plan_deploy(frontend.slots, frontend.state(), NEW, None)
    assert isinstance(plan, Plan)
    return plan


def nothing(frontend: Frontend, action: Action) -> None:
    del frontend, action


def run_plan(
    frontend: Frontend, fault: Fault = nothing, stop_at: int = 99, plan: Plan | None = None
) -> list[Action]:
    done: list[Action] = []
    told: list[str] = []

    def run(action: Action) -> None:
        fault(frontend, action)
        try:
            frontend.run(action)
        except UnhealthyError as error:
            raise HostError("the check failed") from error
        done.append(action)

    def stop_point() -> None:
        if len(done) >= stop_at:
            raise HostError("stopped by the admin")

    perform(plan or planned(frontend), run, stop_point, told.append)
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


@pytest.mark.parametrize("stop_at", range(13))
def test_an_admin_s_stop_takes_effect_before_the_flip_or_not_at_all(stop_at: int) -> None:
    frontend = serving("a")
    try:
        run_plan(frontend, stop_at=stop_at)
    except HostError:
        assert frontend.served == "a" * 64
        assert stop_at < 9
    else:
        assert frontend.served == "b" * 64
        assert stop_at >= 9
