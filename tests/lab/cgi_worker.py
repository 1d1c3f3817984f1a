"""The embedded frontends' web server: a long-lived process that serves CGIs from one slot.

It resolves the link once, goes into that slot and stays there until it is restarted, as a service
chrooted into /webroot/cgi does. It ends with the process that it was started for.

    cgi_worker.py restart FOLDER   (FOLDER/worker.json says address, port, link and guardian)
    cgi_worker.py stop FOLDER
    cgi_worker.py serve FOLDER
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = "cgi-worker"
CGI_FOLDER = "usr/lib/cgi-bin"
REQUEST = re.compile(r"/cgi-bin/([A-Za-z0-9._-]+)(?:\?(.*))?")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where one worker listens and what it serves. It ends when the guardian process does."""

    address: str
    port: int
    link: str
    guardian: int
    chroot: bool


def settings_of(folder: Path) -> Settings:
    """Read a worker's settings."""
    return Settings(**json.loads((folder / "worker.json").read_text()))


def can_chroot(slot: Path) -> bool:
    """Tell whether an ordinary user may chroot here, and the slot holds a shell to run."""
    command = [*chrooted(slot), "/bin/sh", "-c", ":"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def chrooted(slot: Path) -> list[str]:
    """Return what an ordinary user puts in front of a command to run it inside the slot."""
    return ["unshare", "--user", "--map-root-user", f"--root={slot}"]


class Worker(ThreadingHTTPServer):
    """Holds the slot that the link named when it was first needed."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slot: Path | None = None
        self.taking = threading.Lock()
        super().__init__((settings.address, settings.port), Request)
        self.take_slot()

    def take_slot(self) -> Path | None:
        """Go into the slot that the link names, unless one is held already."""
        with self.taking:
            link = Path(self.settings.link)
            if self.slot is None and link.is_dir():
                slot = link.resolve()
                os.chdir(slot)
                self.slot = slot
            return self.slot


class Request(BaseHTTPRequestHandler):
    """One request for a CGI."""

    def do_GET(self) -> None:
        """Answer with what the CGI says."""
        assert isinstance(self.server, Worker)
        matched = REQUEST.fullmatch(self.path)
        slot = self.server.take_slot()
        if slot is None:
            self._say(503, b"no slot is active yet\n")
        elif matched is None or not (slot / CGI_FOLDER / matched[1]).is_file():
            self._say(404, b"no such CGI\n")
        else:
            self._run(slot, matched[1], matched[2] or "", chroot=self.server.settings.chroot)

    def _run(self, slot: Path, name: str, query: str, *, chroot: bool) -> None:
        inside = [*chrooted(slot), f"/{CGI_FOLDER}/{name}"]
        command = inside if chroot else [str(slot / CGI_FOLDER / name)]
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": f"/cgi-bin/{name}",
            "QUERY_STRING": query,
            "CGI_ROOT": "" if chroot else str(slot),  # where the image's files are
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=10
        )
        head, separator, body = done.stdout.replace(b"\r\n", b"\n").partition(b"\n\n")
        if done.returncode != 0 or not separator:
            self._say(502, b"the CGI failed: " + done.stderr[-500:] + b"\n")
            return
        kind = re.search(rb"(?mi)^content-type:\s*(.+)$", head)
        self._say(200, body, kind[1].decode() if kind else "text/plain")

    def _say(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent: the demo's screen is for the admin's commands."""


def serve(folder: Path) -> None:
    """Serve until ended, or until the guardian is gone."""
    Path("/proc/self/comm").write_text(NAME)
    settings = settings_of(folder)
    # Before it listens: who finds it listening must find whom to end.
    (folder / "worker.pid").write_text(str(os.getpid()))
    worker = Worker(settings)
    threading.Thread(target=_end_with, args=(settings.guardian,), daemon=True).start()
    worker.serve_forever()


def _end_with(guardian: int) -> None:
    while Path(f"/proc/{guardian}").exists():
        time.sleep(0.5)
    os._exit(0)


def stop(folder: Path) -> None:
    """End the worker of this folder, if one runs, and wait until it is gone."""
    try:
        pid = int((folder / "worker.pid").read_text())
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + 5
    with contextlib.suppress(ProcessLookupError):
        while _is_worker(pid):
            os.kill(pid, signal.SIGKILL if time.monotonic() > deadline else signal.SIGTERM)
            time.sleep(0.02)
    (folder / "worker.pid").unlink(missing_ok=True)


def _is_worker(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return f"({NAME})" in status and not status.rpartition(")")[2].startswith(" Z")


def restart(folder: Path) -> None:
    """End the worker and start it anew, in the slot that the link names now."""
    stop(folder)
    settings = settings_of(folder)
    with (folder / "worker.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, __file__, "serve", str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection((settings.address, settings.port), timeout=1).close()
            return
        time.sleep(0.02)
    sys.exit(f"the worker of {folder} does not listen")


if __name__ == "__main__":
    {"serve": serve, "stop": stop, "restart": restart}[sys.argv[1]](Path(sys.argv[2]))
