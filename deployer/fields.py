"""The types of an inventory's fields: each is checked as it is read, and told in plain words."""

import re
from ipaddress import ip_address
from posixpath import normpath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from slots.platform import PLATFORMS
from slots.settings import nearest

PAYLOAD_MAX_BYTES = 1 << 14  # of a request: it travels in the script


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{value!r} is not an absolute path without '..'")
    return normpath(_without_control(value))


def _inside(value: str) -> str:
    parts = value.split("/")
    if value.startswith("/") or ".." in parts or not value.strip("/."):
        raise ValueError(f"{value!r} is not a path inside the slot (relative, without '..')")
    return normpath(_without_control(value))


def _without_control(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{value!r} holds a control character")
    return value


def _own_file(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return _without_control(value)


def _plain_name(value: str) -> str:
    if "/" in value or value in {"", ".", ".."} or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{value!r} is not a plain file name")
    return value


def _address(value: str) -> str:
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if "@" in bare or "://" in bare or re.fullmatch(r"(?:[^:]+|\[.*\]):[0-9]+", bare):
        raise ValueError(
            f"{value!r} is more than an address: a user and a port are settings of their own, "
            "user and port"
        )
    if ":" in bare or re.fullmatch(r"[0-9.]+", bare):
        ip_address(bare)  # its ValueError says what is wrong
    elif not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?", bare):
        raise ValueError(f"{value!r} is neither a host name nor an IP address")
    return bare


def _process(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f\\()/|]", value) or not value:
        raise ValueError(f"{value!r} is not the name of a command, or a glob such as php-fpm*")
    return value


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0]:
        raise ValueError("a command needs at least its name")
    if any("\x00" in word for word in value):
        raise ValueError("a command cannot hold a NUL byte")
    return value


def _text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("a NUL byte cannot be handed to a program")
    return value


def _line(value: str) -> str:
    if re.search(r"[\x00\n]", value):
        raise ValueError("must be one line")
    return value


def _payload(value: str) -> str:
    if len(value.encode()) > PAYLOAD_MAX_BYTES:
        raise ValueError(f"at most {PAYLOAD_MAX_BYTES} bytes")
    return _text(value)


def _written_as(pattern: str, rule: str) -> AfterValidator:
    """Return the check of a text that says in words how it must be written."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {rule}")
        return value

    return AfterValidator(check)


def _platform(value: str) -> str:
    if value not in PLATFORMS:
        meant = nearest(value, PLATFORMS)
        suggestion = f" (did you mean {meant}?)" if meant else ""
        raise ValueError(f"{value!r} is not one of {', '.join(PLATFORMS)}{suggestion}")
    return value


def _budget(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,2}%|100%", value):
        return value
    raise ValueError(f"{value!r} is neither a count of hosts nor a share of them such as '10%'")


_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
SLOWEST_BYTES_PER_S = 1000


def _bandwidth(value: object) -> int:
    """Return bytes a second; below SLOWEST_BYTES_PER_S a unit was forgotten."""
    rate = _rate(value)
    if rate is None or rate == 0:
        raise ValueError(f"{value!r} is neither bytes a second nor such as '50 Mbit/s' or '6 MB/s'")
    if rate < SLOWEST_BYTES_PER_S:
        raise ValueError(
            f"{value!r} is {rate} bytes a second, less than {SLOWEST_BYTES_PER_S}: "
            "write a unit, such as '50 Mbit/s' or '6 MB/s'"
        )
    return rate


def _rate(value: object) -> int | None:
    """Return bytes a second, None if that says no rate."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([kMG]?)(B|bit)/s", value)
    if found is None:
        return None
    number, unit, kind = found.groups()
    return int(float(number) * _UNITS[unit]) // (8 if kind == "bit" else 1)


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
InsidePath = Annotated[str, AfterValidator(_inside)]
OwnFile = Annotated[str, AfterValidator(_own_file)]  # on the admin box
PlainName = Annotated[str, AfterValidator(_plain_name)]
Address = Annotated[str, AfterValidator(_address)]
ProcessName = Annotated[str, AfterValidator(_process)]
Command = Annotated[tuple[str, ...], AfterValidator(_command)]
Name = Annotated[
    str,
    _written_as(
        r"[A-Za-z0-9][A-Za-z0-9._-]*", "a name of letters, digits, '.', '_', '-', such as web-1"
    ),
]
User = Annotated[str, _written_as(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?", "the name of a user")]
Text = Annotated[str, AfterValidator(_text)]
Line = Annotated[str, AfterValidator(_line)]
Payload = Annotated[str, AfterValidator(_payload)]
VariableName = Annotated[
    str, _written_as(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")
]
HeaderName = Annotated[str, _written_as(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "the name of a header")]
Seconds = Annotated[float, Field(gt=0, le=86_400, strict=True)]
MountSize = Annotated[str, _written_as(r"[0-9]+[kmgKMG]?", "a size such as 512k, 64m or 2g")]
Mode = Annotated[str, _written_as(r"[0-7]{3,4}", "an octal mode such as 1777")]
NfsSource = Annotated[
    str,
    _written_as(
        r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):/[^\x00-\x1f\x7f]*", "written as server:/path"
    ),
]
Url = Annotated[str, _written_as(r"https?://[^\x00-\x20]+", "a URL of http:// or https://")]
Mirror = Annotated[
    str,
    _written_as(
        r"https?://[^\x00-\x20]+|file:(///|/(?!/))[^\x00-\x1f\x7f]+",
        "a mirror's URL of http://, https:// or file:/",
    ),
]
Bandwidth = Annotated[Any, AfterValidator(_bandwidth)]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
PlatformName = Annotated[str, AfterValidator(_platform)]
HostBudget = Annotated[Any, AfterValidator(_budget)]
Mirrors = Annotated[tuple[Mirror, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
OwnFiles = Annotated[tuple[OwnFile, ...], BeforeValidator(_one_or_more)]


class Model(BaseModel):
    """A table of the file: what it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)
