"""What is tried inside the inactive slot before the flip: the preflight of a set, as data."""

import shlex
from dataclasses import dataclass
from math import ceil
from typing import assert_never

USER = "nobody"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Variables = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CgiTrial:
    """Run a program of the slot as a web server runs a CGI; its header tells the status."""

    path: str  # inside the slot
    arguments: tuple[str, ...] = ()
    environment: Variables = ()  # over RFC 3875's meta-variables of a plain request
    stdin: str = ""
    status: int = 200
    exit: int = 0
    contains: str = ""
    user: str = USER
    deadline_s: float = 10.0


@dataclass(frozen=True, slots=True)
class CommandTrial:
    """Run a command inside the slot."""

    command: tuple[str, ...]
    environment: Variables = ()
    exit: int = 0
    contains: str = ""
    user: str = USER
    deadline_s: float = 30.0


@dataclass(frozen=True, slots=True)
class LibrariesTrial:
    """Let the slot's own loader find the libraries of all programs and libraries below folders."""

    folders: tuple[str, ...] = ("/",)  # inside the slot
    ignore: tuple[str, ...] = ()  # globs, of libraries or of the files that want them
    user: str = USER
    deadline_s: float = 120.0


Trial = CgiTrial | CommandTrial | LibrariesTrial


def label(trial: Trial) -> str:
    """Return by which name a trial is told."""
    match trial:
        case CgiTrial(path=path):
            return f"cgi {path}"
        case CommandTrial(command=command):
            return f"command {shlex.join(command)}"
        case LibrariesTrial(folders=folders):
            return f"ldd {' '.join(folders)}"
        case _:
            assert_never(trial)


def words(trial: Trial) -> tuple[object, ...]:
    """Return a trial as templates/common/preflight.sh takes it."""
    head = (label(trial), trial.user, ceil(trial.deadline_s))
    match trial:
        case CgiTrial():
            variables = [f"{name}={value}" for name, value in _request(trial).items()]
            wanted: tuple[object, ...] = (trial.exit, trial.status, trial.contains, trial.stdin)
            run = (len(variables), *variables, trial.path, *trial.arguments)
            return ("cgi", *head, *wanted, *run)
        case CommandTrial():
            own = {"PATH": PATH} | dict(trial.environment)
            variables = [f"{name}={value}" for name, value in own.items()]
            wanted = (trial.exit, "", trial.contains, "")
            return ("command", *head, *wanted, len(variables), *variables, *trial.command)
        case LibrariesTrial(folders=folders, ignore=ignore):
            return ("ldd", *head, 0, "", "", "", len(ignore), *ignore, *folders)
        case _:
            assert_never(trial)


def _request(trial: CgiTrial) -> dict[str, str]:
    """Return the meta-variables of a plain request (RFC 3875, 4.1), the inventory's over them."""
    plain = {
        "PATH": PATH,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "flipslot",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "POST" if trial.stdin else "GET",
        "QUERY_STRING": "",
        "SCRIPT_NAME": trial.path,
        "SCRIPT_FILENAME": trial.path,
        "REDIRECT_STATUS": "200",  # php-cgi answers nothing without it
    }
    if trial.stdin:
        plain["CONTENT_LENGTH"] = str(len(trial.stdin.encode()))
        plain["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    return plain | dict(trial.environment)
