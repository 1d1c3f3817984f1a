"""One contract for every Connection: the fake, an SSH server in this process, and a real sshd.

The real one goes through each kind of login shell, with noise before what the script says.
"""

import getpass
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deployer import me, ssh
from deployer.connection import STDOUT_LIMIT_BYTES, Connection
from deployer.inventory import Host, SshSettings
from slots.errors import ConfigError, UnreachableError
from slots.events import Event, Notice
from tests.deployer.local import LocalConnection
from tests.lab.embedded import _private_run
from tests.lab.embedded_ssh import EmbeddedSsh
from tests.lab.files import write_key
from tests.lab.processes import until

SHELLS = ("dash", "bash", "tcsh")
KINDS = ("local", "embedded", *(f"sshd-{shell}" for shell in SHELLS))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("id_ed25519", "host_key", "other"):
        write_key(folder / name)
    return folder


def host_at(at: int, keys: Path, **settings: object) -> Host:
    known = keys / f"known_hosts-{at}"
    key = " ".join((keys / "host_key.pub").read_text().split()[:2])
    known.write_text(f"[127.0.0.1]:{at} {key}\n")
    defaults: dict[str, object] = {
        "user": getpass.getuser(),
        "port": at,
        "identity_files": (keys / "id_ed25519",),
        "known_hosts": (known,),
        "config": Path(os.devnull),
        "connect_timeout_s": 15.0,
        "stall_timeout_s": 20.0,
    }
    ssh_settings = SshSettings(**{**defaults, **settings})  # type: ignore[arg-type]
    return Host("www1", "127.0.0.1", ssh_settings, frozenset(), None, {}, {})


def start_sshd(keys: Path, ends: ExitStack, *options: str) -> int:
    """Start an sshd of this user and return its port; skips where that cannot be."""
    sshd = shutil.which("sshd", path="/usr/local/sbin:/usr/sbin:/sbin")
    if sshd is None:
        pytest.skip("there is no sshd on this machine")
    if Path(pwd.getpwuid(os.geteuid()).pw_shell).name in {"nologin", "false"}:
        pytest.skip("this user has no login shell: no sshd lets it in")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    config = keys / f"sshd_config-{port}"
    lines = [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {keys}/host_key",
        f"AuthorizedKeysFile {keys}/id_ed25519.pub",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        *options,
    ]
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [*_private_run(), sshd, "-D", "-e", "-f", str(config)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        process.terminate()
        process.wait(timeout=10)

    ends.callback(end)

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    until("sshd listens", listens, within_s=10)
    return port


@pytest.fixture(scope="module", params=KINDS)
def connection(request: pytest.FixtureRequest, keys: Path) -> Iterator[Connection]:
    kind: str = request.param
    if kind == "local":
        yield LocalConnection()
        return
    with ExitStack() as ends:
        if kind == "embedded":
            server = EmbeddedSsh("127.0.0.1", keys / "host_key", keys / "id_ed25519", {})
            ends.callback(server.close)
            port = server.port
        else:
            shell = kind.removeprefix("sshd-")
            if shutil.which(shell) is None:
                pytest.skip(f"there is no {shell} on this machine")
            noise = "echo Welcome; echo complaint >&2"
            port = start_sshd(
                keys, ends, f'ForceCommand {noise}; exec {shell} -c "$SSH_ORIGINAL_COMMAND"'
            )
        yield ends.enter_context(ssh.connect(host_at(port, keys), lambda _: None))


def last_line(stdout: bytes) -> bytes:
    return stdout.rstrip(b"\n").rpartition(b"\n")[2]


def test_a_script_runs_and_its_output_and_status_come_back(connection: Connection) -> None:
    done = connection.run(b'echo "it\'s" here; echo there >&2; exit 7', timeout_s=10)
    assert (done.status, last_line(done.stdout)) == (7, b"it's here")
    assert done.stderr.endswith(b"there\n")
    assert not done.cut


def test_the_payload_arrives_whole_behind_the_script(connection: Connection) -> None:
    data = os.urandom(3_000_001)
    pieces = [memoryview(data)[start : start + 300_000] for start in range(0, len(data), 300_000)]
    done = connection.run(b"sha256sum\n# a last line\n", pieces, timeout_s=20)
    assert last_line(done.stdout).split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_script_without_payload_reads_the_end_of_its_input(connection: Connection) -> None:
    done = connection.run(b"cat; echo ended", timeout_s=10)
    assert last_line(done.stdout) == b"ended"


def test_a_script_that_ends_early_drops_the_payload(connection: Connection) -> None:
    done = connection.run(
        b"echo refused; exit 20", (bytes(1 << 20) for _ in range(8)), timeout_s=10
    )
    assert (done.status, last_line(done.stdout)) == (20, b"refused")


def test_a_script_that_talks_while_it_reads_does_not_block(connection: Connection) -> None:
    payload = (bytes(100_000) for _ in range(40))
    done = connection.run(b"tee /dev/stderr", payload, timeout_s=20)
    assert done.status == 0
    assert done.cut
    assert len(done.stdout) == STDOUT_LIMIT_BYTES


def test_a_script_that_does_not_end_is_given_up(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.5 s"):
        connection.run(b"exec sleep 5", timeout_s=0.5)
    assert time.monotonic() - began < 3


def test_a_child_that_keeps_the_output_open_is_not_waited_for(connection: Connection) -> None:
    began = time.monotonic()
    done = connection.run(b"sleep 9 & echo done", timeout_s=20)
    assert last_line(done.stdout) == b"done"
    assert time.monotonic() - began < 7


def test_a_session_speaks_lines_until_its_input_ends(connection: Connection) -> None:
    session = connection.start(b"echo one; echo two; cat >/dev/null")
    lines = iter(lambda: session.readline(5.0), b"two\n")
    assert b"one\n" in list(lines)
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.2 s"):
        session.readline(0.2)
    session.close()
    session.close()


def test_a_session_that_ends_by_itself_reads_empty(connection: Connection) -> None:
    session = connection.start(b"echo refused; exit 22")
    assert b"refused\n" in list(iter(lambda: session.readline(5.0), b""))
    session.close()


def test_a_session_stays_while_other_scripts_run(connection: Connection, tmp_path: Path) -> None:
    flag = tmp_path / "held"
    session = connection.start(f": >{flag}; echo held; cat >/dev/null; rm {flag}".encode())
    assert b"held\n" in iter(lambda: session.readline(5.0), b"")
    assert last_line(connection.run(f"ls {flag}".encode(), timeout_s=5).stdout) == bytes(flag)
    session.close()
    until("the session has ended", lambda: not flag.exists(), within_s=5)


def test_a_script_sees_when_the_payload_breaks_off(connection: Connection, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def pieces() -> Iterator[bytes]:
        yield bytes(1000)
        raise ConfigError("stopped")

    with pytest.raises(ConfigError):
        connection.run(f"cat >{kept}".encode(), pieces(), timeout_s=5)
    assert not kept.exists() or kept.stat().st_size <= 1000


# --- what only SSH can meet ---


def listener(answer: Callable[[socket.socket], None], ends: ExitStack) -> int:
    server = ends.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve() -> None:
        client, _ = server.accept()
        with client:
            answer(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ends.callback(thread.join, 10)
    port: int = server.getsockname()[1]
    return port


def refusal(host: Host) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        ssh.connect(host, lambda _: None).close()
    return caught.value


def test_a_server_that_says_nothing_is_given_up(keys: Path) -> None:
    with ExitStack() as ends:
        port = listener(lambda _: time.sleep(2), ends)
        began = time.monotonic()
        error = refusal(host_at(port, keys, connect_timeout_s=0.5))
        assert time.monotonic() - began < 2.5
    assert "does not speak SSH with us" in error.message


def test_a_server_of_another_kind_is_named(keys: Path) -> None:
    with ExitStack() as ends:
        port = listener(lambda client: client.sendall(b"HTTP/1.0 200 OK\r\n\r\n"), ends)
        error = refusal(host_at(port, keys))
    assert "does not speak SSH with us" in error.message


def test_a_server_that_hangs_up_is_named(keys: Path) -> None:
    with ExitStack() as ends:
        port = listener(lambda client: client.close(), ends)
        error = refusal(host_at(port, keys))
    assert f"127.0.0.1 port {port} does not speak SSH" in error.message


@pytest.fixture(scope="module")
def embedded(keys: Path) -> Iterator[EmbeddedSsh]:
    server = EmbeddedSsh("127.0.0.1", keys / "host_key", keys / "id_ed25519", {})
    yield server
    server.close()


def test_a_host_that_takes_no_more_bytes_is_given_up(keys: Path, embedded: EmbeddedSsh) -> None:
    payload = (bytes(1 << 20) for _ in range(64))
    with ssh.connect(
        host_at(embedded.port, keys, stall_timeout_s=2.0), lambda _: None
    ) as connection:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="took no bytes for 2 s"):
            connection.run(b"exec sleep 8", payload, timeout_s=20)
        assert time.monotonic() - began < 6


def test_a_connection_that_is_cut_is_told_at_once(keys: Path) -> None:
    server = EmbeddedSsh("127.0.0.1", keys / "host_key", keys / "id_ed25519", {})
    with ssh.connect(host_at(server.port, keys), lambda _: None) as connection:
        cut = threading.Timer(0.5, server.close)
        cut.start()
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="www1: lost the connection"):
            connection.run(b"exec sleep 8", timeout_s=20)
        assert time.monotonic() - began < 4
        cut.join()
        with pytest.raises(UnreachableError, match="opens no further session"):
            connection.run(b"true", timeout_s=5)


def test_ssh_config_gives_name_port_user_and_key(
    keys: Path, embedded: EmbeddedSsh, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host web\n HostName 127.0.0.1\n Port {embedded.port}\n User {getpass.getuser()}\n"
        f" IdentityFile {keys}/id_ed25519\n"
    )
    bare = host_at(embedded.port, keys, user=None, port=None, identity_files=(), config=config)
    host = Host("www1", "web", bare.ssh, frozenset(), None, {}, {})
    with ssh.connect(host, lambda _: None) as connection:
        assert connection.run(b"echo in", timeout_s=5).stdout == b"in\n"


@pytest.mark.parametrize("port", ["abc", "0", "70000"])
def test_a_port_in_ssh_config_that_is_none_is_refused(
    keys: Path, tmp_path: Path, port: str
) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n Port {port}\n")
    with pytest.raises(ConfigError, match=f"Port {port} in {config} is no port"):
        ssh.connect(host_at(22, keys, port=None, config=config), lambda _: None)


def test_who_has_no_name_and_no_home_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert me.name() == "uid4000000001"
    assert me.home() == Path("~")


def test_an_include_in_ssh_config_is_told_not_silently_dropped(
    keys: Path, embedded: EmbeddedSsh, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("Include ~/.ssh/config.d/*\n")
    events: list[Event] = []
    ssh.connect(host_at(embedded.port, keys, config=config), events.append).close()
    assert [event.message for event in events if isinstance(event, Notice)] == [
        f"Include in {config} is not read: name the included file as ssh.config"
    ]


def test_a_key_with_a_passphrase_is_named(
    keys: Path, embedded: EmbeddedSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = keys / "locked"
    if not locked.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked], check=True
        )
    error = refusal(host_at(embedded.port, keys, identity_files=(locked,)))
    assert f"{locked} (needs a passphrase: ssh-add it)" in error.message


def test_what_is_no_key_is_named(keys: Path, embedded: EmbeddedSsh, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no key at all\n")
    files = (tmp_path / "notes", tmp_path)
    error = refusal(host_at(embedded.port, keys, identity_files=files))
    assert f"{tmp_path}/notes (is not a private key)" in error.message
    assert f"{tmp_path} (Is a directory)" in error.message


def test_a_jump_host_is_gone_through(keys: Path, tmp_path: Path) -> None:
    with ExitStack() as ends:
        jump, port = start_sshd(keys, ends), start_sshd(keys, ends)
        known = tmp_path / "known_hosts"
        key = " ".join((keys / "host_key.pub").read_text().split()[:2])
        known.write_text(f"[127.0.0.1]:{port},[127.0.0.1]:{jump} {key}\n")
        config = tmp_path / "config"
        config.write_text(
            f"Host 127.0.0.1\n ProxyJump jump\nHost jump\n HostName 127.0.0.1\n Port {jump}\n"
        )
        host = host_at(port, keys, known_hosts=(known,), config=config)
        with ssh.connect(host, lambda _: None) as connection:
            assert connection.run(b"echo in", timeout_s=5).stdout == b"in\n"


def test_the_agent_s_key_lets_in(
    keys: Path, embedded: EmbeddedSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ssh-agent") is None:
        pytest.skip("there is no ssh-agent on this machine")
    path = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        until("the agent listens", path.exists, within_s=5)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        monkeypatch.setenv("HOME", str(tmp_path))
        subprocess.run(["ssh-add", "-q", keys / "id_ed25519"], check=True)
        with ssh.connect(host_at(embedded.port, keys, identity_files=()), lambda _: None) as way:
            assert way.run(b"echo in", timeout_s=5).stdout == b"in\n"
    finally:
        agent.terminate()
        agent.wait()


def test_a_session_is_fed_what_it_needs_and_its_input_stays_open(connection: Connection) -> None:
    session = connection.start(b'eval "$(dd bs=1 count=8 2>/dev/null)"; cat', [b"echo one"])
    assert b"one\n" in iter(lambda: session.readline(5.0), b"")
    with pytest.raises(UnreachableError):
        session.readline(0.2)
    session.close()
