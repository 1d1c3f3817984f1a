"""Three embedded frontends without root: a folder each, an SSH server, a web server.

The SSH server is a real sshd started as the user, or one inside this process where that does not
work; the frontends are of the `sandbox` platform: slots are plain files, mounting is unpacking.
"""

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from tests.lab import cgi_worker
from tests.lab.embedded_ssh import EmbeddedSsh
from tests.lab.files import write_key
from tests.lab.processes import LabError, until

NAMES = ("www1", "www2", "www3")
SLOT_BYTES = 64 << 20
TOOLS = Path(sys.executable).parent  # .venv/bin: `image` unpacks for the sandbox


@dataclass(frozen=True, slots=True)
class EmbeddedFrontend:
    """One embedded frontend. Each has its own address of 127.0.0.0/8."""

    name: str
    address: str
    folder: Path
    ssh_port: int
    http_port: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """Embedded frontends that run, and what their SSH servers are."""

    folder: Path
    frontends: tuple[EmbeddedFrontend, ...]
    ssh: str
    chroot: bool


@contextlib.contextmanager
def embedded_fleet(
    folder: Path, tree: Path, *, want_sshd: bool = True, names: Sequence[str] = NAMES
) -> Iterator[Fleet]:
    """Run the embedded frontends; `folder` gets their inventory, fleet.toml."""
    with contextlib.ExitStack() as ends:
        keys = folder / "keys"
        keys.mkdir()
        write_key(keys / "id_ed25519")
        for name in names:
            write_key(keys / f"{name}_host_key")
        chroot = cgi_worker.can_chroot(tree)
        http_port = _free_port()
        addresses = {name: f"127.0.0.{n}" for n, name in enumerate(names, 11)}
        ssh, ports = _start_ssh(keys, addresses, ends, want_sshd=want_sshd)
        frontends = tuple(
            EmbeddedFrontend(name, address, folder / "frontends" / name, ports[name], http_port)
            for name, address in addresses.items()
        )
        for frontend in frontends:
            _make_folder(frontend, chroot=chroot)
            ends.callback(cgi_worker.stop, frontend.folder)
            _start_worker(frontend)
        _write_inventory(folder, frontends)
        yield Fleet(folder, frontends, ssh, chroot)


def _start_worker(frontend: EmbeddedFrontend) -> None:
    """Start it as a service does: a child of nobody who would have to wait for it."""
    command = [sys.executable, str(cgi_worker.__file__), "restart", str(frontend.folder)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=30)


def _free_port() -> int:
    """Return a port that is free on every address: each frontend takes it on one of its own."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _make_folder(frontend: EmbeddedFrontend, *, chroot: bool) -> None:
    for part in ("webroot", "db", "disk"):
        (frontend.folder / part).mkdir(parents=True)
    for slot in ("A", "B"):
        with (frontend.folder / "disk" / f"cgi{slot}").open("xb") as device:
            device.truncate(SLOT_BYTES)
    settings = {
        "address": frontend.address,
        "port": frontend.http_port,
        "link": str(frontend.folder / "webroot" / "cgi"),
        "guardian": os.getpid(),
        "chroot": chroot,
    }
    (frontend.folder / "worker.json").write_text(json.dumps(settings) + "\n")


def _start_ssh(
    keys: Path, addresses: dict[str, str], ends: contextlib.ExitStack, *, want_sshd: bool
) -> tuple[str, dict[str, int]]:
    """Start an SSH server per frontend; return what they are and their ports."""
    reason = _why_no_sshd(keys) if want_sshd else "as asked"
    if reason:
        servers = {
            name: EmbeddedSsh(
                address, keys / f"{name}_host_key", keys / "id_ed25519", {"PATH": _path()}
            )
            for name, address in addresses.items()
        }
        for server in servers.values():
            ends.callback(server.close)
        kind = f"an SSH server inside the demo ({reason})"
        return kind, {name: server.port for name, server in servers.items()}
    port = _free_port()
    for name, address in addresses.items():
        _start_sshd(keys, name, address, port, ends)
    return f"OpenSSH's sshd, started as {getpass.getuser()}", dict.fromkeys(addresses, port)


def _path() -> str:
    return f"{TOOLS}:{os.environ.get('PATH', '/usr/bin:/bin')}"


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{_path()}:/usr/local/sbin:/usr/sbin:/sbin")


def _why_no_sshd(keys: Path) -> str:
    """Try an sshd of this user once; return why it does not do, or nothing."""
    if _sshd() is None:
        return "there is no sshd on this machine"
    port = _free_port()
    name = next(iter(keys.glob("*_host_key"))).name.removesuffix("_host_key")
    with contextlib.ExitStack() as ends:
        try:
            _start_sshd(keys, name, "127.0.0.1", port, ends)
            _log_in(keys, port)
        except (LabError, OSError, paramiko.SSHException) as error:
            return f"an sshd of this user does not work: {error}"
    return ""


def _start_sshd(keys: Path, name: str, address: str, port: int, ends: contextlib.ExitStack) -> None:
    sshd = _sshd()
    assert sshd is not None
    config = keys / f"{name}_sshd_config"
    lines = [
        f"ListenAddress {address}:{port}",
        f"HostKey {keys}/{name}_host_key",
        f"AuthorizedKeysFile {keys}/id_ed25519.pub",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",  # the folder is under /tmp
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        f'SetEnv "PATH={_path()}"',
    ]
    config.write_text("\n".join(lines) + "\n")
    log_path = keys / f"{name}_sshd.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*_private_run(), sshd, "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    ends.callback(_end, process)

    def listens() -> bool:
        if process.poll() is not None:
            raise LabError(log_path.read_text(errors="replace").strip().replace("\n", "; "))
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=1).close()
            return True
        return False

    until(f"sshd of {name} listens", listens, within_s=10)


def _private_run() -> list[str]:
    """Give root's sshd the /run/sshd that it insists on, for itself alone, where there is none."""
    if os.geteuid() != 0 or Path("/run/sshd").is_dir():
        return []
    script = 'mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && exec "$@"'
    return ["unshare", "--mount", "/bin/sh", "-c", script, "sshd"]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=10)


def _log_in(keys: Path, port: int) -> None:
    """Log in once: a user with no login shell cannot, although the sshd runs."""
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", port, key_filename=str(keys / "id_ed25519"), timeout=10,
            username=getpass.getuser(), allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        _, stdout, _ = client.exec_command("echo here; command -v image", timeout=10)
        said = stdout.read().decode().split()
    if said[:1] != ["here"]:
        raise LabError("a login runs no command (has this user a login shell?)")
    if said[1:] != [str(TOOLS / "image")]:
        raise LabError("it does not pass PATH on")


def _write_inventory(folder: Path, frontends: Sequence[EmbeddedFrontend]) -> None:
    keys = folder / "keys"
    known = ""
    hosts = ""
    for frontend in frontends:
        kind, key = (keys / f"{frontend.name}_host_key.pub").read_text().split()[:2]
        known += f"[{frontend.address}]:{frontend.ssh_port} {kind} {key}\n"
        hosts += (
            f'[hosts.{frontend.name}]\naddress = "{frontend.address}"\n'
            f'port = {frontend.ssh_port}\nplatform = "sandbox"\n'
        )
    (keys / "known_hosts").write_text(known)
    (folder / "fleet.toml").write_text(
        FLEET.format(
            user=getpass.getuser(),
            keys=keys,
            root=folder / "frontends" / "{name}",
            http_port=frontends[0].http_port,
            python=sys.executable,
            worker=cgi_worker.__file__,
            hosts=hosts,
        )
    )


FLEET = """\
[ssh]
user = "{user}"
identity_files = ["{keys}/id_ed25519"]
known_hosts = "{keys}/known_hosts"
config = "/dev/null"

[sets.cgi]
link = "{root}/webroot/cgi"
records = "{root}/db"

[sets.cgi.slots]
A = {{ device = "{root}/disk/cgiA", mount = "{root}/webroot/cgi1" }}
B = {{ device = "{root}/disk/cgiB", mount = "{root}/webroot/cgi2" }}

[[sets.cgi.services]]
name = "cgi-worker"
restart = ["{python}", "{worker}", "restart", "{root}"]

[[sets.cgi.checks]]
kind = "http"
url = "http://{{address}}:{http_port}/cgi-bin/version"

{hosts}"""
