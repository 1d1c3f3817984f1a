"""Does it work? HTTP from the admin box and commands on the host, before the flip and after it."""

import http.client
import math
import ssl
import time
from dataclasses import replace
from email.message import Message
from typing import assert_never
from urllib.parse import urlsplit

from deployer.frontend import Frontend
from deployer.inventory import CheckSpec, HttpCheck
from deployer.wording import counted
from slots import calls
from slots.checks import CommandCheck, Level
from slots.errors import HostError
from slots.events import Notice

ATTEMPT_S = 5.0
PAUSE_S = 0.5
BODY_LIMIT_BYTES = 1 << 20
READ_BYTES = 1 << 16


class Health:
    """The checks of one frontend, and which of them failed before the flip."""

    def __init__(self, frontend: Frontend, wanted_failed: list[str]) -> None:
        """Take the checks that the inventory has for the set; what is only wanted is noted."""
        self._wanted_failed = wanted_failed
        self._frontend = frontend
        self._specs = frontend.host.checks[frontend.slots.name]
        self._failed_before: dict[CheckSpec, str] = {}

    def before(self) -> str:
        """Run each check once, while the old slot serves; returns what there is to say."""
        self._failed_before.clear()
        for spec in self._specs:
            try:
                self._try(replace(spec, deadline_s=min(ATTEMPT_S, spec.deadline_s)))
            except HostError as error:
                self._failed_before[spec] = error.message
                self._tell(f"before the flip already: {error.message}")
        failed = len(self._failed_before)
        return f"{len(self._specs) - failed} of {len(self._specs)} checks pass"

    def check(self) -> str:
        """Run each check until it passes; HostError of a required one that does not in its time."""
        if not self._specs:
            return "no checks in the inventory"
        self._wanted_failed.clear()
        # Required ones first: what decides is not kept waiting by what does not.
        for spec in sorted(self._specs, key=lambda one: one.level is Level.WANTED):
            try:
                self._until(spec)
            except HostError as error:
                also = " (it failed before the flip too)" if spec in self._failed_before else ""
                if spec.level is Level.REQUIRED:
                    raise HostError(f"{error.message}{also}") from error
                self._wanted_failed.append(f"{error.message}{also}")
                self._tell(f"wanted, but {error.message}{also}")
        failed = len(self._wanted_failed)
        passed = f"{counted(len(self._specs) - failed, 'check')} passed"
        return f"{passed}, {counted(failed, 'wanted one')} failed" if failed else passed

    def _tell(self, message: str) -> None:
        self._frontend.emit(Notice(message, self._frontend.host.name))

    def _until(self, spec: CheckSpec) -> None:
        """Try again until the deadline; what nobody waits for and failed before is not awaited."""
        known = spec.level is Level.WANTED and spec in self._failed_before
        deadline_s = min(ATTEMPT_S, spec.deadline_s) if known else spec.deadline_s
        give_up_at = time.monotonic() + deadline_s
        while True:
            try:
                self._try(spec)
            except HostError as error:
                if time.monotonic() >= give_up_at:
                    raise HostError(f"{error} (tried for {deadline_s:g} s)") from error
            else:
                return
            time.sleep(PAUSE_S)

    def _try(self, spec: CheckSpec) -> None:
        match spec:
            case HttpCheck():
                check_http(spec)
            case CommandCheck():
                check_command(self._frontend, spec)
            case _:
                assert_never(spec)


def check_http(spec: HttpCheck) -> None:
    """Ask once; raises HostError if the answer is not as it should be."""
    timeout_s = min(ATTEMPT_S, spec.deadline_s)
    try:
        status, headers, body = _get(spec, timeout_s)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise HostError(f"{spec.url} does not answer: {why}") from error
    if status != spec.status:
        raise HostError(f"{spec.url} answers {status}, not {spec.status}")
    for name, wanted in spec.header:
        values = headers.get_all(name, [])
        if not values:
            raise HostError(f"{spec.url} answers without a header {name}")
        if not any(wanted in value for value in values):
            given = ", ".join(values)[:100]
            raise HostError(f"{spec.url} answers with {name}: {given!r}, not {wanted!r}")
    if spec.contains.encode() not in body:
        raise HostError(f"{spec.url} answers without {spec.contains!r}")


def check_command(frontend: Frontend, spec: CommandCheck) -> None:
    """Run the command once on the host."""
    seconds = max(1, math.ceil(spec.deadline_s))
    answer = frontend.try_(
        calls.check_call(spec.command, seconds),
        timeout_s=frontend.host.ssh.command_timeout_s + seconds,
    )
    if answer.status == 0:
        return
    said = " / ".join(answer.all("output"))[-300:]
    why = answer.first("error") or f"exit status {answer.first('exit')}"
    raise HostError(f"`{' '.join(spec.command)}` failed: {why}{f' ({said})' if said else ''}")


def _get(spec: HttpCheck, timeout_s: float) -> tuple[int, Message, bytes]:
    """Fetch a URL within the time, all of it counted, without following redirects."""
    deadline = time.monotonic() + timeout_s
    url = urlsplit(spec.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    # Without a port http.client takes the end of an IPv6 address for one.
    connection = kind(url.hostname or "", url.port or kind.default_port, timeout=timeout_s)
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("GET", path, headers={"Connection": "close", **dict(spec.headers)})
        response = connection.getresponse()
        body = b""
        while len(body) < BODY_LIMIT_BYTES and (piece := response.read1(READ_BYTES)):
            body += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"the answer took longer than {timeout_s:g} s")
        return response.status, response.headers, body
    finally:
        connection.close()
