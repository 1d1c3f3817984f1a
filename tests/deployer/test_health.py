"""Health checks: what is asked, what is a good answer, and when it is too late."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployer.health import check_http
from deployer.inventory import HttpCheck
from slots.errors import HostError


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
