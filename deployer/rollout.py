"""Many hosts side by side, within a budget of failures."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from deployer.connection import AnotherKeyError
from deployer.inventory import Host
from slots.errors import Exit, HostError, ProductError, Refused, UnreachableError, worst

INTERRUPTED = 130
ASK_PARALLEL = 32


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: as Ctrl-C, with an exit code of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def interruption_code(cause: KeyboardInterrupt) -> int:
    """Return the exit code of an interruption."""
    return cause.exit_code if isinstance(cause, Terminated) else INTERRUPTED


class Stop(threading.Event):
    """Set when the admin interrupts; it keeps by what."""

    cause: KeyboardInterrupt | None = None

    def interrupt(self, cause: KeyboardInterrupt) -> None:
        """Ask all who work to come to a safe end."""
        self.cause = cause
        self.set()

    @property
    def exit_code(self) -> int | None:
        """The exit code of the interruption, if there was one."""
        return interruption_code(self.cause) if self.cause is not None else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work on one host ended. `message` is empty where there is nothing to say."""

    host: str
    exit_code: Exit
    message: str = ""
    hint: str = ""
    seconds: float = 0.0
    another_key: bool = False  # the host shows another host key than the known one
    travelled_bytes: int | None = None  # of packs and images; None: it was not worked on
    wanted_failed: tuple[str, ...] = ()  # checks that are wanted, and failed behind the flip

    @classmethod
    def of(cls, host: str, error: ProductError, seconds: float = 0.0) -> "Outcome":
        """Return the outcome that an expected error means for its host."""
        message = error.message.removeprefix(f"{host}: ")  # the host is shown beside it
        another_key = isinstance(error, AnotherKeyError)
        return cls(host, error.exit_code, message, error.hint, seconds, another_key)

    @property
    def done(self) -> bool:
        """Whether the host is where it should be."""
        return self.exit_code is Exit.DONE


@dataclass(frozen=True, slots=True)
class Budget:
    """How many hosts may fail before no further one is begun."""

    max_failed: int

    @classmethod
    def of(cls, setting: int | str, hosts: int) -> "Budget":
        """Return the budget of a count, or of a percentage of so many hosts (rounded down)."""
        if isinstance(setting, int):
            return cls(setting)
        return cls(hosts * int(setting.removesuffix("%")) // 100)

    def exceeded(self, outcomes: Iterable[Outcome]) -> bool:
        """Tell whether too many have failed."""
        return sum(not outcome.done for outcome in outcomes) > self.max_failed


def outcome_of(host: Host, work: Callable[[], str]) -> Outcome:
    """Do one host's work; what it has to say, or the expected error that ended it, is the outcome.

    An expected error is the outcome of its host, and none of the others'.
    """
    started = time.monotonic()
    try:
        message = work()
    except ProductError as error:
        return Outcome.of(host.name, error, time.monotonic() - started)
    return Outcome(host.name, Exit.DONE, message, seconds=time.monotonic() - started)


@contextmanager
def looked_at(hint: str) -> Iterator[None]:
    """Work on a host that answered a look: if it refuses or is gone now, it is one that failed."""
    try:
        yield
    except (Refused, UnreachableError) as error:
        raise HostError(error.message, hint=error.hint or hint) from error


def run_hosts(
    hosts: Sequence[Host],
    work: Callable[[Host], Outcome],
    *,
    parallel: int,
    budget: Budget,
    stop: Stop,
) -> tuple[Outcome, ...]:
    """Do the work on all hosts, some at a time; those never begun say why.

    An interruption sets `stop` and lets those that were begun come to a safe end.
    """
    desk = _Desk(work, stop)
    pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="host")
    try:
        waiting, running = list(hosts), set[Future[None]]()
        while running or waiting:
            if budget.exceeded(desk.outcomes()) or stop.is_set():
                waiting.clear()
            while waiting and len(running) < parallel:
                running.add(pool.submit(desk.work_on, waiting.pop(0)))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()  # a bug in the work is raised here
    except KeyboardInterrupt as cause:
        stop.interrupt(cause)
        desk.wait_for_the_begun()  # a second interruption goes through here
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return tuple(desk.ended.get(host.name) or _not_begun(host, stop) for host in hosts)


def ask_hosts(hosts: Sequence[Host], ask: Callable[[Host], str]) -> tuple[Outcome, ...]:
    """Ask all hosts, many at a time, whoever of them fails; an interruption is raised again."""

    def ask_one(host: Host) -> Outcome:
        return outcome_of(host, lambda: ask(host))

    stop = Stop()
    unlimited = Budget(len(hosts))
    outcomes = run_hosts(hosts, ask_one, parallel=ASK_PARALLEL, budget=unlimited, stop=stop)
    if stop.cause is not None:
        raise stop.cause
    return outcomes


class _Desk:
    """Who was begun and how it ended, kept by the threads themselves.

    An interruption may strike anywhere in the main thread, even inside the pool's own code: what
    it knows of its threads is then not to be relied on.
    """

    def __init__(self, work: Callable[[Host], Outcome], stop: Stop) -> None:
        self.ended: dict[str, Outcome] = {}
        self._work, self._stop = work, stop
        self._at_work = 0
        self._changed = threading.Condition()

    def work_on(self, host: Host) -> None:
        with self._changed:
            if self._stop.is_set():
                return
            self._at_work += 1
        try:
            outcome = self._work(host)
            with self._changed:
                self.ended[host.name] = outcome
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def outcomes(self) -> tuple[Outcome, ...]:
        with self._changed:
            return tuple(self.ended.values())

    def wait_for_the_begun(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work)


def _not_begun(host: Host, stop: Stop) -> Outcome:
    why = "stopped by the admin" if stop.is_set() else "the budget of failures was spent"
    return Outcome(host.name, Exit.SOME_FAILED, f"not begun: {why}")


def exit_code(left_out: Iterable[Outcome], outcomes: Sequence[Outcome], budget: Budget) -> Exit:
    """Return how the whole ended: hosts that were never reached, and those that were worked on."""
    codes = [outcome.exit_code for outcome in (*left_out, *outcomes)]
    if budget.exceeded(outcomes):
        codes.append(Exit.BUDGET)
    return worst(codes)
