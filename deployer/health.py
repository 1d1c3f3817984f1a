"""Does it work? HTTP from the admin box and commands on the host, each until a deadline."""

import http.client
import math
import ssl
import time
from collections.abc import Callable
from typing import assert_never
from urllib.parse import urlsplit

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from deployer.frontend import Frontend
from deployer.inventory import CheckSpec, CommandCheck, HttpCheck
from slots import scripts
from slots.errors import HostError

ATTEMPT_S = 5.0
PAUSE_S = 0.5
BODY_LIMIT_BYTES = 1 << 20
READ_BYTES = 1 << 16


def check(frontend: Frontend, specs: tuple[CheckSpec, ...]) -> str:
    """Run all checks, one after the other; raises HostError with what the last try found."""
    for spec in specs:
        match spec:
            case HttpCheck():
                _until(spec.deadline_s, lambda spec=spec: check_http(spec))  # type: ignore[misc]
            case CommandCheck():
                _until(
                    spec.deadline_s,
                    lambda spec=spec: check_command(frontend, spec),  # type: ignore[misc]
                )
            case _:
                assert_never(spec)
    return f"{len(specs)} checks passed" if specs else "no checks in the inventory"


def check_http(spec: HttpCheck) -> None:
    """Ask once; raises HostError if the answer is not as it should be."""
    timeout_s = min(ATTEMPT_S, spec.deadline_s)
    try:
        status, body = _get(spec, timeout_s)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise HostError(f"{spec.url} does not answer: {why}") from error
    if status != spec.status:
        raise HostError(f"{spec.url} answers {status}, not {spec.status}")
    if spec.contains.encode() not in body:
        raise HostError(f"{spec.url} answers without {spec.contains!r}")


def check_command(frontend: Frontend, spec: CommandCheck) -> None:
    """Run the command once on the host."""
    seconds = max(1, math.ceil(spec.deadline_s))
    answer = frontend.try_(
        scripts.check_call(spec.command, seconds),
        timeout_s=frontend.host.ssh.command_timeout_s + seconds,
    )
    if answer.status == 0:
        return
    said = " / ".join(answer.all("output"))[-300:]
    why = answer.first("error") or f"exit status {answer.first('exit')}"
    raise HostError(f"`{' '.join(spec.command)}` failed: {why}{f' ({said})' if said else ''}")


def _until(deadline_s: float, attempt: Callable[[], None]) -> None:
    retrying = Retrying(
        stop=stop_after_delay(deadline_s),
        wait=wait_fixed(PAUSE_S),
        retry=retry_if_exception_type(HostError),
    )
    try:
        retrying(attempt)
    except RetryError as error:
        last = error.last_attempt.exception()
        raise HostError(f"{last} (tried for {deadline_s:g} s)") from last


def _get(spec: HttpCheck, timeout_s: float) -> tuple[int, bytes]:
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
        return response.status, body
    finally:
        connection.close()
