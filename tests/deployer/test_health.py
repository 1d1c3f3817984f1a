"""Health checks: what is asked, what is a good answer, and when it is too late."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployer.frontend import Frontend
from deployer.health import Health, check_http
from deployer.inventory import CheckSpec, Host, HttpCheck, SshSettings
from slots.checks import CommandCheck, Level
from slots.errors import HostError
from slots.events import Event, Notice
from slots.sandbox import Sandbox
from slots.slot import SlotSet
from tests.deployer.local import LocalConnection
from tests.deployer.simulator import slot_set


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(30):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)
            return
        status = {"/": 200, "/moved": 302}.get(self.path.partition("?")[0], 404)
        body = f"version 7 for {self.headers['Host']} {self.path}".encode()
        self.send_response(status)
        self.send_header("Location", "/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that gave up
            super().handle()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_good_answer_passes(url: str) -> None:
    check_http(HttpCheck(f"{url}/", contains="version 7"))
    check_http(HttpCheck(f"{url}/?a=b", contains="/?a=b"))
    check_http(HttpCheck(f"{url}/none", status=404))


def test_headers_are_sent_so_that_a_virtual_host_can_be_asked(url: str) -> None:
    check_http(HttpCheck(f"{url}/", contains="www.example", headers=(("Host", "www.example"),)))


def test_redirects_are_an_answer_of_their_own(url: str) -> None:
    check_http(HttpCheck(f"{url}/moved", status=302))
    with pytest.raises(HostError, match="/moved answers 302, not 200"):
        check_http(HttpCheck(f"{url}/moved"))


def test_a_wrong_status_and_a_missing_text_are_told(url: str) -> None:
    with pytest.raises(HostError, match="/none answers 404, not 200"):
        check_http(HttpCheck(f"{url}/none"))
    with pytest.raises(HostError, match="/ answers without 'version 8'"):
        check_http(HttpCheck(f"{url}/", contains="version 8"))


def test_nobody_there_is_told() -> None:
    with pytest.raises(HostError, match=r"does not answer: .*refused"):
        check_http(HttpCheck("http://127.0.0.1:1/"))


def test_an_answer_that_trickles_is_given_up(url: str) -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match="does not answer"):
        check_http(HttpCheck(f"{url}/slow", deadline_s=0.5))
    assert time.monotonic() - began < 2


def test_a_header_of_the_answer_must_contain_what_is_expected(url: str) -> None:
    check_http(HttpCheck(f"{url}/moved", status=302, header=(("location", "/"),)))
    with pytest.raises(HostError, match="answers with Location: '/', not 'https:'"):
        check_http(HttpCheck(f"{url}/moved", status=302, header=(("Location", "https:"),)))
    with pytest.raises(HostError, match="answers without a header X-Version"):
        check_http(HttpCheck(f"{url}/", header=(("X-Version", "7"),)))


def health(
    told: list[Event], slots: SlotSet, *specs: CheckSpec, missed: list[str] | None = None
) -> Health:
    host = Host("www1", "www1", SshSettings(), frozenset(), None, {}, {slots.name: specs})
    return Health(
        Frontend(host, slots, LocalConnection(), Sandbox(), told.append),
        [] if missed is None else missed,
    )


def messages(told: list[Event]) -> list[str]:
    return [one.message for one in told if isinstance(one, Notice)]


def test_a_wanted_check_that_fails_is_told_and_stops_nothing(url: str) -> None:
    told: list[Event] = []
    wanted = HttpCheck(f"{url}/none", deadline_s=0.2, level=Level.WANTED)
    missed = ["of the check before"]
    checks = health(told, slot_set(), wanted, HttpCheck(f"{url}/"), missed=missed)
    assert checks.check() == "1 check passed, 1 wanted one failed"
    assert missed == [f"{url}/none answers 404, not 200 (tried for 0.2 s)"]
    assert messages(told) == [f"wanted, but {missed[0]}"]


def test_a_required_check_is_tried_until_it_passes(tmp_path: Path) -> None:
    grows = CommandCheck(("mkdir", str(tmp_path / "a/b")), deadline_s=30)
    checks = health([], slot_set(), grows)
    timer = threading.Timer(0.7, (tmp_path / "a").mkdir)
    timer.start()
    assert checks.check() == "1 check passed"
    timer.join()


def test_what_failed_before_the_flip_is_told_then_and_again_afterwards(url: str) -> None:
    told: list[Event] = []
    required = HttpCheck(f"{url}/none", deadline_s=0.2)
    wanted = HttpCheck(f"{url}/moved", deadline_s=0.2, level=Level.WANTED)
    checks = health(told, slot_set(), wanted, HttpCheck(f"{url}/"), required)
    assert checks.before() == "1 of 3 checks pass"
    assert messages(told)[1] == f"before the flip already: {url}/none answers 404, not 200"
    with pytest.raises(HostError, match=r"/none answers 404, .* \(it failed before the flip too\)"):
        checks.check()
    only = health(told, slot_set(), wanted)
    only.before()
    assert only.check() == "0 checks passed, 1 wanted one failed"
    assert messages(told)[-1].endswith("(tried for 0.2 s) (it failed before the flip too)")
