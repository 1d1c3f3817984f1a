"""Who uses the slots of the frontends, and which rule of the inventory deals with each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployer.fleet import Fleet, ask_each
from deployer.frontend import Frontend
from deployer.rollout import Outcome
from deployer.wording import age
from slots import calls
from slots.rules import User, rule_of
from slots.slot import FrontendState, SlotName, SlotSet, active

GAP = "  "
COLUMNS = ("host", "slot", "pid", "user", "since", "holds", "command", "rule")


@dataclass(frozen=True, slots=True)
class SlotUser:
    """A process that uses a slot; `rule` is empty where none covers it."""

    slot: SlotName
    active: bool
    process: User
    rule: str
    treatment: str  # of the rule, or of what no rule covers


HostUsers = Mapping[str, tuple[SlotUser, ...]]


def ask_users(fleet: Fleet, wanted: SlotName | None) -> tuple[HostUsers, tuple[Outcome, ...]]:
    """Ask all hosts who uses the slot (None: both); those that do not say it are outcomes."""
    found: dict[str, tuple[SlotUser, ...]] = {}

    def ask(frontend: Frontend, state: FrontendState) -> str:
        served = active(frontend.slots, state)
        users: list[SlotUser] = []
        for name in SlotName if wanted is None else (wanted,):
            answer = frontend.ask(calls.users_call(name))
            processes = map(User.parse, answer.all("user"))
            users += [_ruled(frontend.slots, name, served, one) for one in processes]
        found[frontend.host.name] = tuple(users)
        return ""

    return found, tuple(one for one in ask_each(fleet, "users", ask) if not one.done)


def _ruled(slots: SlotSet, name: SlotName, served: SlotName | None, process: User) -> SlotUser:
    rule = rule_of(process, slots.services)
    if rule is None:
        return SlotUser(name, name is served, process, "", slots.uncovered)
    return SlotUser(name, name is served, process, rule.name, rule.treatment)


def users_table(hosts: Sequence[str], found: HostUsers, now_epoch_s: float) -> list[str]:
    """Return the head and a line per process."""
    rows = [COLUMNS]
    for host in hosts:
        for one in found.get(host, ()):
            process = one.process
            rows.append((
                *(host, f"{one.slot}{' active' if one.active else ''}", str(process.pid)),
                *(process.user, age(now_epoch_s - process.since_epoch_s)),
                *(",".join(process.holds), process.command),
                f"{one.rule or 'none'}: {one.treatment}",
            ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows]
