"""What holds of every plan: cut it anywhere, and the old or the new image serves, whole."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployer.choice import Offers
from deployer.plan import Plan, plan_deploy, plan_rollback
from slots.actions import Arm, Check, Confirm, Erase, Fill, Seal
from slots.manifest import Release
from slots.pack import PackFacts
from slots.patch import Identity
from slots.slot import SlotName, Verdict
from tests.deployer.simulator import (
    CrashError,
    FiredError,
    Frontend,
    UnhealthyError,
    release,
    serving,
    slot_set,
)

OLD, NEW, OTHER = release("a"), release("b"), release("c")
PACK = {"unit": 1, "moves": 1, "copied_bytes": 1, "literal_bytes": 1}
EVERY_PACK: Offers = {
    (old * 64, new * 64): PackFacts(
        sha256=f"{old}{new}" * 32,
        size_bytes=9,
        old=Identity(old * 64, 1 << 19),
        new=Identity(new * 64, 1 << 19),
        **PACK,
    )
    for old in "abc"
    for new in "abc"
    if old != new
}
WAYS = st.sampled_from([{}, EVERY_PACK])
# Where a run is cut: at which action, and after how many of that action's steps.
CUTS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 3), st.booleans()), min_size=0, max_size=6
)


def deploy(
    frontend: Frontend,
    wanted: Release,
    slot: SlotName | None = None,
    offers: Offers = EVERY_PACK,
) -> Plan:
    plan = plan_deploy(frontend.slots, frontend.state(), wanted, slot, offers=offers)
    assert isinstance(plan, Plan), plan
    return plan


def perform(frontend: Frontend, plan: Plan) -> bool:
    """Run a plan as execute does; False: it was undone."""
    frontend.begin()
    for action in plan.actions:
        try:
            frontend.run(action)
        except UnhealthyError:
            for back in plan.undo:
                frontend.run(back)
            return False
    return True


def perform_cut(
    frontend: Frontend, plan: Plan, at: int, steps: int, *, undoing: bool = False
) -> None:
    """Run a plan (and its way back, if a check fails), but end in the step that is given."""
    frontend.begin()
    actions, undo = list(plan.actions), list(plan.undo if undoing else ())
    for number, action in enumerate(actions):  # grows by the way back
        try:
            frontend.run(action, steps if number == at else None)
        except CrashError:
            return
        except UnhealthyError:
            del actions[number + 1 :]
            if not undo:
                return
            actions += undo
            undo.clear()


@given(at=st.integers(0, 10), steps=st.integers(0, 3), again=CUTS, offers=WAYS)
def test_every_prefix_of_a_plan_leaves_a_whole_mounted_image_served(
    at: int, steps: int, again: list[tuple[int, int, bool]], offers: Offers
) -> None:
    frontend = serving("a")
    for number, inside, _ in [(at, steps, False), *again]:
        perform_cut(frontend, deploy(frontend, NEW, offers=offers), number, inside)
        assert frontend.served in {"a" * 64, "b" * 64}
        assert frontend.cells[frontend.link or SlotName.A].whole == frontend.served


@given(cuts=CUTS, wanted=st.sampled_from([NEW, OTHER]), offers=WAYS)
def test_a_cut_plan_is_continued_by_the_next(
    cuts: list[tuple[int, int, bool]], wanted: Release, offers: Offers
) -> None:
    frontend = serving("a")
    for at, steps, power_cut in cuts:
        perform_cut(frontend, deploy(frontend, NEW, offers=offers), at, steps)
        if power_cut:
            frontend.reboot()
    perform(frontend, deploy(frontend, wanted, offers=offers))
    cell = frontend.cells[frontend.link or SlotName.A]
    assert frontend.served == cell.whole == cell.proof == wanted.artefacts[0].sha256
    assert cell.verdict == (Verdict.GOOD, cell.whole)
    assert frontend.restarted == frontend.served
    assert deploy(frontend, wanted).actions == ()


@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from([OLD, NEW, OTHER, None]),  # None: a rollback
            *(st.integers(0, 11), st.integers(0, 3), st.booleans(), st.booleans()),
        ),
        max_size=8,
    )
)
def test_whenever_nothing_is_to_do_the_services_run_from_what_is_served(
    runs: list[tuple[Release | None, int, int, bool, bool]],
) -> None:
    frontend = serving("a", healthy=lambda sha256: sha256 != "c" * 64)
    for wanted, at, steps, forget, power_cut in runs:
        plan = (
            plan_deploy(frontend.slots, frontend.state(), wanted, None, allow_bad=True)
            if wanted
            else plan_rollback(frontend.slots, frontend.state(), (OLD, NEW, OTHER))
        )
        if isinstance(plan, Plan):
            perform_cut(frontend, plan, at, steps, undoing=True)
        for cell in frontend.cells.values() if forget else ():
            cell.forget()
        if power_cut:
            frontend.reboot()
        for release_ in (OLD, NEW, OTHER):
            done = plan_deploy(frontend.slots, frontend.state(), release_, None, allow_bad=True)
            if isinstance(done, Plan) and not done.actions:
                assert frontend.running is frontend.link
                assert frontend.restarted == frontend.served == release_.artefacts[0].sha256


@given(cuts=CUTS)
def test_an_image_that_fails_its_checks_is_taken_back_whatever_was_cut(
    cuts: list[tuple[int, int, bool]],
) -> None:
    frontend = serving("a", healthy=lambda sha256: sha256 != "b" * 64)
    for at, steps, _ in cuts:
        perform_cut(frontend, deploy(frontend, NEW), at, steps)
    assert not perform(frontend, deploy(frontend, NEW))
    assert frontend.served == "a" * 64 == frontend.restarted
    refusal = plan_deploy(frontend.slots, frontend.state(), NEW, None)
    assert not isinstance(refusal, Plan)
    assert "bad" in refusal.message


@given(cuts=CUTS, count=st.integers(1, 5))
def test_a_rollback_of_a_rollback_works_whatever_was_cut(
    cuts: list[tuple[int, int, bool]], count: int
) -> None:
    frontend = serving("a")
    perform(frontend, deploy(frontend, NEW))
    for _ in range(count):
        before = frontend.served
        for at, steps, power_cut in cuts:
            plan = plan_rollback(frontend.slots, frontend.state(), ())
            assert isinstance(plan, Plan)
            if frontend.served == before:
                perform_cut(frontend, plan, at, steps)
            if power_cut:
                frontend.reboot()
        if frontend.served in {before, ""}:
            plan = plan_rollback(frontend.slots, frontend.state(), ())
            assert isinstance(plan, Plan)
            perform(frontend, plan)
        assert frontend.served in {"a" * 64, "b" * 64}


@given(
    releases=st.lists(st.sampled_from([OLD, NEW, OTHER]), min_size=1, max_size=8),
    slots=st.lists(st.sampled_from([None, *SlotName]), min_size=8, max_size=8),
)
def test_any_sequence_of_deploys_serves_what_was_deployed_last(
    releases: list[Release], slots: list[SlotName | None]
) -> None:
    frontend = Frontend(slot_set())
    for wanted, slot in zip(releases, slots, strict=False):
        plan: Any = plan_deploy(frontend.slots, frontend.state(), wanted, slot)
        if not isinstance(plan, Plan):
            assert "is active and holds" in plan.message
            continue
        written = [one.slot for one in plan.actions if isinstance(one, Erase | Fill | Seal)]
        assert frontend.link not in written
        perform(frontend, plan)
        assert frontend.served == wanted.artefacts[0].sha256
        assert any(isinstance(one, Check) for one in plan.actions) or not plan.actions


@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from([OLD, NEW, OTHER, None]),  # None: a rollback
            st.integers(0, 14),  # the action at which the deployer goes away
            st.integers(0, 3),
            st.sampled_from(["", "guard", "power", "guard, power"]),
            st.integers(0, 14),  # the action before which the guard's time is up, if it lives
        ),
        max_size=6,
    ),
    wanted=st.sampled_from([OLD, NEW]),
)
def test_whenever_the_guard_fires_an_image_serves_and_the_next_run_gets_there(
    runs: list[tuple[Release | None, int, int, str, int]], wanted: Release
) -> None:
    frontend = serving("a", healthy=lambda sha256: sha256 != "c" * 64)
    for release_, at, steps, happens, fire_at in runs:
        plan = (
            plan_deploy(frontend.slots, frontend.state(), release_, None, allow_bad=True)
            if release_
            else plan_rollback(frontend.slots, frontend.state(), (OLD, NEW, OTHER), allow_bad=True)
        )
        if isinstance(plan, Plan):
            perform_fired(frontend, plan, at, steps, fire_at if "guard" in happens else 99)
        assert frontend.served in {"a" * 64, "b" * 64, "c" * 64}
        if "guard" in happens:
            was_armed = frontend.armed is not None
            frontend.fire()  # nobody is left to confirm
            assert frontend.armed is None
            assert not was_armed or frontend.running in {frontend.link, None}
        if "power" in happens:
            frontend.reboot()
            frontend.boot_hook()
        assert frontend.cells[frontend.link or SlotName.A].whole
    last = plan_deploy(frontend.slots, frontend.state(), wanted, None, allow_bad=True)
    assert isinstance(last, Plan)
    assert perform(frontend, last)
    assert frontend.served == frontend.restarted == wanted.artefacts[0].sha256
    assert frontend.armed is None
    assert deploy(frontend, wanted).actions == ()


def perform_fired(frontend: Frontend, plan: Plan, at: int, steps: int, fire_at: int) -> None:
    """Run a plan as far as the deployer lives; the guard may fire amid it."""
    frontend.begin()
    actions, undo = list(plan.actions), list(plan.undo)
    for number, action in enumerate(actions):  # grows by the way back
        if number == fire_at:
            frontend.fire()
        try:
            frontend.run(action, steps if number == at else None)
        except (CrashError, FiredError):
            return
        except UnhealthyError:
            del actions[number + 1 :]
            actions += undo
            undo.clear()


@given(fire_at=st.integers(0, 14))
def test_a_guard_that_fires_before_it_is_confirmed_wins_and_never_after(fire_at: int) -> None:
    frontend = serving("a")
    plan = deploy(frontend, NEW)
    perform_fired(frontend, plan, 99, 0, fire_at)
    before = [type(one) for one in plan.actions[:fire_at]]
    taken_back = Arm in before and Confirm not in before
    assert frontend.served == ("a" if taken_back else "b") * 64
    assert frontend.fired == taken_back
