"""Which rule deals with which process; the same answer as templates/common/users.sh gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from slots.errors import HostError
from slots.slot import Service, Treatment

COMMAND_NAME_BYTES = (15, 19)  # so much of a name the kernels of Linux and FreeBSD keep


@dataclass(frozen=True, slots=True)
class User:
    """A process that uses a slot, as the host named it."""

    pid: int
    user: str
    since_epoch_s: int
    holds: tuple[str, ...]  # root, cwd, text, map, file, socket
    command: str

    @classmethod
    def parse(cls, line: str) -> "User":
        """Return the process of a line `PID USER SINCE HOLDS COMMAND`; HostError if it is none."""
        words = line.split(" ", 4)
        if len(words) != 5 or not (words[0].isdigit() and words[2].isdigit()):
            raise HostError(f"the host answered {line[:80]!r}, which names no process")
        pid, user, since, holds, command = words
        return cls(int(pid), user, int(since), tuple(holds.split(",")), command)


def rule_of(user: User, services: Sequence[Service]) -> Service | None:
    """Return the first rule that covers this process."""
    return next((one for one in services if _covers(one, user)), None)


def acts_by_command(service: Service) -> bool:
    """Tell whether the rule needs a command on the host."""
    return service.treatment not in {Treatment.WAIT, Treatment.KILL}


def _covers(service: Service, user: User) -> bool:
    if service.user not in {"", user.user}:
        return False
    return any(_fits(name, user.command) for name in service.processes)


def _fits(name: str, command: str) -> bool:
    """Tell whether a command's name, of which the kernel may have cut the end, is this one."""
    cut = len(command.encode()) in COMMAND_NAME_BYTES and name.startswith(command)
    return cut or fnmatchcase(command, name)
