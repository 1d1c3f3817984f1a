"""A web server of objects on this machine, with a folder for each way in which a mirror fails."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 4096
# Folders of which none gives an object: each fails in its own way.
FAULTS = ("empty", "wrong", "old", "short", "broken", "cut", "cut-wrong", "endless", "redirect")
HANGS = ("hang", "stalls")  # and these cost a deadline


class Mirror:
    """What the server has, and what it was asked for."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []  # folder, range
        self.gave: list[int] = []  # bytes, where it is honest
        self.let_go = threading.Event()

    def url(self, folder: str, name: str) -> str:
        return f"{self.folder(folder)}/{name}"

    def folder(self, name: str) -> str:
        return f"http://{self.address}:{self.port}/{name}"


def here(make: Callable[[], ThreadingHTTPServer]) -> ThreadingHTTPServer:
    """Make a server in the network of this process."""
    return make()


@contextmanager
def mirror(
    address: str = "127.0.0.1",
    within: Callable[[Callable[[], ThreadingHTTPServer]], ThreadingHTTPServer] = here,
) -> Iterator[Mirror]:
    """Serve until the block ends, at an address of the network within which it is made."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, folder, name = self.path.split("/")
            serve(self, made, folder, name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
            del format, args

    server = within(lambda: ThreadingHTTPServer((address, 0), Handler))
    made = Mirror(address, server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.let_go.set()
        server.shutdown()
        server.server_close()


def serve(  # noqa: C901, PLR0912 - a case for each way
    request: BaseHTTPRequestHandler, mirror: Mirror, folder: str, name: str
) -> None:
    """Answer as the folder says."""
    asked = request.headers.get("Range", "")
    mirror.asked.append((folder, asked))
    data = mirror.objects.get(name)
    if data is None or folder == "empty":
        request.send_error(404)
        return
    match folder:
        case "good":
            mirror.gave.append(len(data) - start_of(asked))
            whole(request, data, asked)
        case "noranges":
            whole(request, data, "")
        case "wrong":
            whole(request, bytes(len(data)), asked)
        case "old":
            whole(request, b"an older object" * 100, asked)
        case "short":
            whole(request, data[: len(data) // 2], asked)
        case "cut":  # promises all that is asked for, gives half
            whole(request, data, asked, gives=0.5)
        case "cut-wrong":
            whole(request, bytes(len(data)), asked, gives=0.5)
        case "broken":  # promises all, gives half, and knows no ranges
            headers(request, 200, len(data))
            request.wfile.write(data[: len(data) // 2])
        case "hang":
            mirror.let_go.wait(60)
        case "stalls":
            headers(request, 200, len(data))
            request.wfile.write(data[:PIECE])
            request.wfile.flush()
            mirror.let_go.wait(60)
        case "slow":
            headers(request, 200, len(data))
            for at in range(0, len(data), len(data) // 5 + 1):
                mirror.let_go.wait(0.4)
                request.wfile.write(data[at : at + len(data) // 5 + 1])
        case "endless":
            headers(request, 200, None)
            endless(request)
        case "redirect":
            request.send_response(302)
            request.send_header("Location", f"/elsewhere/{name}")
            request.end_headers()
        case _:
            request.send_error(404)


def dated(request: BaseHTTPRequestHandler) -> None:
    """Say when it was changed, in which mirrors do not agree."""
    day = 1 + len(request.path.split("/")[1]) % 9
    request.send_header("Last-Modified", f"Sun, {day:02} Nov 2026 00:00:00 GMT")


def headers(request: BaseHTTPRequestHandler, status: int, length: int | None) -> None:
    request.send_response(status)
    dated(request)
    if length is not None:
        request.send_header("Content-Length", str(length))
    request.end_headers()


def whole(request: BaseHTTPRequestHandler, data: bytes, asked: str, gives: float = 1) -> None:
    """Send it, from where the client asked on, or a part of that."""
    start = start_of(asked)
    if start >= len(data):
        request.send_error(416)
        return
    request.send_response(206 if start else 200)
    dated(request)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    request.send_header("Content-Length", str(len(data) - start))
    request.end_headers()
    request.wfile.write(data[start:][: int((len(data) - start) * gives)])


def start_of(asked: str) -> int:
    """Return where a range begins."""
    return int(asked.removeprefix("bytes=").rstrip("-") or 0)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Send until nobody listens."""
    try:
        while True:
            request.wfile.write(bytes(1 << 16))
    except OSError:
        pass


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port of this machine where a connection is never made: its queue is full."""
    with ExitStack() as held:
        deaf = held.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield int(deaf.getsockname()[1])


def closed_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
