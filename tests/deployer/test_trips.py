"""Which actions go to a host in one script."""

from collections.abc import Iterator, Sequence

import pytest

from deployer.errands import on_host
from deployer.plan import Plan, plan_deploy
from deployer.trips import together
from slots.actions import (
    Action,
    Arm,
    Baseline,
    Check,
    Confirm,
    Drain,
    Erase,
    Flip,
    Judge,
    Restart,
    Unmount,
)
from slots.slot import SlotName, Verdict
from tests.deployer.simulator import Frontend, release, serving

B = SlotName.B


def planned(frontend: Frontend) -> Plan:
    plan = plan_deploy(frontend.slots, frontend.state(), release("b"), None)
    assert isinstance(plan, Plan)
    return plan


def trips(actions: Sequence[Action]) -> Iterator[tuple[Action, ...]]:
    """Yield what goes together, if nothing fails."""
    while actions:
        first = on_host(actions[0])
        group = (actions[0],) if first is None else together(first, actions[1:])
        yield group
        actions = actions[len(group) :]


def test_all_actions_go_in_their_order() -> None:
    plan = planned(serving("a"))
    for actions in (plan.actions, plan.undo):
        assert tuple(one for group in trips(actions) for one in group) == actions


def test_a_rollout_is_a_writing_a_switch_and_a_confirmation() -> None:
    groups = [group for group in trips(planned(serving("a")).actions) if on_host(group[0])]
    writing, switch, confirmed = groups
    assert not any(isinstance(one, Arm | Flip) for one in writing)
    assert isinstance(switch[0], Arm)
    assert isinstance(switch[1], Flip)
    assert [type(one) for one in confirmed] == [Confirm, Judge]


def test_the_way_back_is_begun_by_its_flip() -> None:
    groups = [group for group in trips(planned(serving("a")).undo) if on_host(group[0])]
    assert isinstance(groups[0][0], Flip)
    assert isinstance(groups[0][-1], Drain)


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ((Erase(B), Flip(B)), 1),
        ((Arm(B, "r", 9, ()), Flip(B), Restart(SlotName.A, ())), 3),
        ((Drain(B, (), 9), Judge(B, Verdict.GOOD)), 1),
        ((Drain(B, (), 9), Unmount(B), Erase(B)), 3),
        ((Erase(B), Check(B), Erase(B)), 1),
        ((Erase(B), Baseline(B), Erase(B)), 1),
        ((Judge(B, Verdict.BAD), Confirm(B)), 1),
    ],
)
def test_a_trip_ends_where_our_word_is_needed(actions: tuple[Action, ...], count: int) -> None:
    first = on_host(actions[0])
    assert first is not None
    assert len(together(first, actions[1:])) == count
