"""Many hosts: side by side, within a budget, and how the whole ends."""

import _thread
import signal
import threading
import time
from pathlib import Path

import pytest

from deployer.inventory import Host, SshSettings
from deployer.rollout import (
    Budget,
    Outcome,
    Stop,
    Terminated,
    exit_code,
    interruption_code,
    run_hosts,
)
from slots.errors import Exit, HostError

NONE = Budget(0)


def hosts(count: int) -> list[Host]:
    return [
        Host(f"www{n}", f"10.0.0.{n}", SshSettings(), frozenset(), None, {}, {})
        for n in range(count)
    ]


def run(
    count: int, failing: set[str], budget: Budget, parallel: int = 2
) -> tuple[tuple[Outcome, ...], list[str]]:
    begun: list[str] = []

    def work(host: Host) -> Outcome:
        begun.append(host.name)
        if host.name in failing:
            return Outcome.of(host.name, HostError(f"{host.name}: broken"))
        return Outcome(host.name, Exit.DONE)

    stop = Stop()
    done = run_hosts(hosts(count), work, parallel=parallel, budget=budget, stop=stop)
    return done, begun


def test_all_hosts_are_worked_on_and_told_in_order() -> None:
    outcomes, begun = run(20, set(), NONE, parallel=7)
    assert [one.host for one in outcomes] == [f"www{n}" for n in range(20)]
    assert sorted(begun) == sorted(one.host for one in outcomes)


def test_hosts_run_side_by_side() -> None:
    together = threading.Barrier(4, timeout=5)

    def work(host: Host) -> Outcome:
        together.wait()
        return Outcome(host.name, Exit.DONE)

    outcomes = run_hosts(hosts(8), work, parallel=4, budget=NONE, stop=Stop())
    assert all(one.done for one in outcomes)


def test_a_spent_budget_begins_no_further_host() -> None:
    outcomes, begun = run(10, {"www1"}, NONE, parallel=1)
    assert begun == ["www0", "www1"]
    assert outcomes[1].message == "broken"
    assert outcomes[2].message == "not begun: the budget of failures was spent"
    assert exit_code((), outcomes, NONE) is Exit.BUDGET


def test_failures_within_the_budget_let_the_rest_go_on() -> None:
    outcomes, begun = run(10, {"www1"}, Budget(1), parallel=1)
    assert len(begun) == 10
    assert exit_code((), outcomes, Budget(1)) is Exit.SOME_FAILED


@pytest.mark.parametrize(
    ("setting", "count", "allowed"),
    [(0, 10, 0), (3, 10, 3), ("10%", 10, 1), ("10%", 9, 0), ("100%", 4, 4), ("0%", 4, 0)],
)
def test_a_budget_is_a_count_or_a_share(setting: int | str, count: int, allowed: int) -> None:
    assert Budget.of(setting, count).max_failed == allowed


@pytest.mark.parametrize(
    ("left_out", "codes", "expected"),
    [
        ([], [Exit.DONE], Exit.DONE),
        ([Exit.UNREACHABLE], [Exit.DONE], Exit.UNREACHABLE),
        ([Exit.UNREACHABLE], [Exit.SOME_FAILED], Exit.BUDGET),
        ([], [Exit.DONE, Exit.ROLLED_BACK], Exit.ROLLED_BACK),
        ([], [Exit.ROLLED_BACK, Exit.VERIFICATION], Exit.VERIFICATION),
        ([], [Exit.VERIFICATION, Exit.LOCKED], Exit.LOCKED),
    ],
)
def test_the_whole_ends_as_its_worst_host(
    left_out: list[Exit], codes: list[Exit], expected: Exit
) -> None:
    absent = [Outcome("x", code) for code in left_out]
    assert exit_code(absent, [Outcome("y", code) for code in codes], NONE) is expected


def test_an_interruption_lets_the_begun_hosts_end_and_begins_no_other(tmp_path: Path) -> None:
    stop = Stop()

    def work(host: Host) -> Outcome:
        _thread.interrupt_main()
        assert stop.wait(5)
        time.sleep(0.1)
        (tmp_path / host.name).touch()
        return Outcome(host.name, Exit.DONE)

    outcomes = run_hosts(hosts(5), work, parallel=1, budget=NONE, stop=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["www0"]
    assert outcomes[0].done
    assert {one.message for one in outcomes[1:]} == {"not begun: stopped by the admin"}
    assert stop.exit_code == 130


def test_what_interrupted_decides_the_exit_code() -> None:
    assert interruption_code(KeyboardInterrupt()) == 130
    assert interruption_code(Terminated(signal.SIGTERM)) == 143
    assert interruption_code(Terminated(signal.SIGHUP)) == 129
    assert Stop().exit_code is None


def test_a_bug_in_the_work_is_not_taken_for_an_outcome() -> None:
    def work(host: Host) -> Outcome:
        raise KeyError(host.name)

    with pytest.raises(KeyError):
        run_hosts(hosts(3), work, parallel=2, budget=NONE, stop=Stop())
