"""Logging in to a host: where, with which key, through which jump hosts, and is it the right host?

Host keys are always checked. What is said of a host in the inventory goes before ~/.ssh/config.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko

from deployer import known_hosts, me
from deployer.connection import AnotherKeyError
from deployer.inventory import Host, SshSettings
from slots.errors import ConfigError, UnreachableError
from slots.events import Emit, Notice

KEEPALIVE_S = 15
LOST_AFTER_S = 60  # unacknowledged bytes for this long: the kernel gives the connection up
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
MAX_JUMPS = 4
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Target:
    """One sshd to log in to, with everything that inventory and ssh_config say of it."""

    label: str  # what the admin calls it
    address: str
    port: int
    user: str
    key_name: str  # how known_hosts knows it
    identity_files: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    jumps: tuple[str, ...]


def resolve(host: Host, emit: Emit) -> Target:
    """Return where and how to log in: the inventory first, then ~/.ssh/config, then ssh's own."""
    return _target(host.name, host.address, host.ssh, emit)


# --- where to log in ---


def _target(label: str, address: str, settings: SshSettings, emit: Emit) -> Target:
    path = settings.config or me.home() / ".ssh/config"
    config = _ssh_config(path, address, required=settings.config is not None)
    if "include" in config:
        emit(Notice(f"Include in {path} is not read: name the included file as ssh.config", label))
    if config.get("proxycommand", "none") != "none":
        raise ConfigError(
            f"{label}: ProxyCommand in {path} is not supported", hint="use ProxyJump instead"
        )
    port = settings.port or _port(str(config.get("port", 22)), label, path)
    name = str(config.get("hostname", address))
    files = tuple(me.expanded(one) for one in config.get("identityfile", ()))
    jump = str(config.get("proxyjump", "none"))
    return Target(
        label=label,
        address=name,
        port=port,
        user=settings.user or str(config.get("user", "")) or me.name(),
        key_name=str(config.get("hostkeyalias", "")) or known_hosts.host_id(name, port),
        identity_files=settings.identity_files or files,
        known_hosts=settings.known_hosts or _default_known_hosts(config),
        jumps=() if jump == "none" else tuple(jump.split(",")),
    )


def _port(text: str, label: str, path: Path) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= PORT_MAX):
        raise ConfigError(
            f"{label}: Port {text} in {path} is no port",
            hint=f"1 to {PORT_MAX}; correct it there, or give the host its `port` in the inventory",
        )
    return int(text)


def _ssh_config(path: Path, address: str, *, required: bool) -> dict[str, str | list[str]]:
    try:
        return dict(paramiko.SSHConfig.from_path(str(path)).lookup(address))
    except FileNotFoundError as error:
        if required:
            raise ConfigError(f"there is no ssh configuration {path}") from error
        return {}
    except (OSError, UnicodeDecodeError, paramiko.SSHException, ValueError) as error:
        raise ConfigError(
            f"ssh configuration {path} cannot be used: {phrase(error)}",
            hint="name another with ssh.config in the inventory",
        ) from error


def _default_known_hosts(config: dict[str, str | list[str]]) -> tuple[Path, ...]:
    named = str(config.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
    return (*(me.expanded(one) for one in named.split()), SYSTEM_KNOWN_HOSTS)


# --- logging in ---


def log_in(
    target: Target, settings: SshSettings, emit: Emit, jumps_left: int = MAX_JUMPS
) -> tuple[paramiko.Transport, ...]:
    """Log in to a target, through its jump hosts: all transports, the target's last."""
    if not target.jumps:
        return (_authenticated(_socket(target, settings), target, settings),)
    if jumps_left == 0:
        raise ConfigError(f"{target.label}: more than {MAX_JUMPS} jump hosts, or a circle of them")
    *before, jump = target.jumps
    through = _jump_target(jump, settings, emit)
    through = replace(through, jumps=tuple(before) or through.jumps)
    transports = log_in(through, settings, emit, jumps_left - 1)
    try:
        channel = transports[-1].open_channel(
            "direct-tcpip",
            (target.address, target.port),
            ("127.0.0.1", 0),
            timeout=settings.connect_timeout_s,
        )
        return (*transports, _authenticated(channel, target, settings))
    except (paramiko.SSHException, OSError, EOFError) as error:
        _close(transports)
        raise UnreachableError(
            f"{target.label}: not reached through {jump}: {phrase(error)}"
        ) from error
    except UnreachableError:
        _close(transports)
        raise


def _jump_target(jump: str, settings: SshSettings, emit: Emit) -> Target:
    user, _, place = jump.rpartition("@")
    name, _, port = place.rpartition(":") if place.count(":") == 1 else (place, "", "")
    own = replace(settings, user=user or None, port=int(port) if port.isdigit() else None)
    return _target(f"jump host {name}", name.strip("[]"), own, emit)


def _close(transports: tuple[paramiko.Transport, ...]) -> None:
    for transport in reversed(transports):
        transport.close()


def _socket(target: Target, settings: SshSettings) -> socket.socket:
    where = f"{target.label}: {target.address} port {target.port}"
    try:
        sock = socket.create_connection((target.address, target.port), settings.connect_timeout_s)
    except socket.gaierror as error:
        raise UnreachableError(
            f"{target.label}: the name {target.address} is unknown: {error.strerror}",
            hint="give the host its `address` in the inventory, or a HostName in the ssh_config",
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            f"{where} did not answer within {settings.connect_timeout_s:g} s",
            hint="is it up, and does a firewall let us through? the others go on without it",
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"{where} refused the connection: no sshd there",
            hint="start sshd on it, or correct its `port` in the inventory",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"{where} is not reachable: {error.strerror or error}",
            hint="is it up, and is there a route? the others go on without it",
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_S * 1000)
    return sock


def _authenticated(
    sock: "socket.socket | paramiko.Channel", target: Target, settings: SshSettings
) -> paramiko.Transport:
    known = _known_keys(target.known_hosts)
    try:
        transport = paramiko.Transport(sock)
    except (paramiko.SSHException, OSError) as error:
        sock.close()
        raise UnreachableError(f"{target.label}: no SSH there: {phrase(error)}") from error
    try:
        _negotiate(transport, target, known, settings)
        _check_host_key(transport, target, known)
        _authenticate(transport, target)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(KEEPALIVE_S)
    return transport


def _negotiate(
    transport: paramiko.Transport,
    target: Target,
    known: tuple[known_hosts.KnownKey, ...],
    settings: SshSettings,
) -> None:
    options = transport.get_security_options()
    options.ciphers = tuple(one for one in CIPHERS if one in options.ciphers)
    options.key_types = _preferred_types(
        tuple(options.key_types), known_hosts.key_types(known, target.key_name)
    )
    transport.banner_timeout = settings.connect_timeout_s
    transport.handshake_timeout = settings.connect_timeout_s
    transport.auth_timeout = settings.connect_timeout_s
    transport.channel_timeout = settings.connect_timeout_s
    try:
        transport.start_client(timeout=settings.connect_timeout_s)
        transport.get_remote_server_key()  # start_client returns silently when its time is up
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise UnreachableError(
            f"{target.label}: {target.address} port {target.port} does not speak SSH with us: "
            f"{phrase(error)}",
            hint="is that the port of its sshd? `port` in the inventory names it",
        ) from error


def _preferred_types(supported: tuple[str, ...], written: tuple[str, ...]) -> tuple[str, ...]:
    """Ask for the types of host key that are written down first."""
    names = {"rsa-sha2-512": "ssh-rsa", "rsa-sha2-256": "ssh-rsa"}
    first = tuple(one for one in supported if names.get(one, one) in written)
    return first + tuple(one for one in supported if one not in first)


def _known_keys(files: tuple[Path, ...]) -> tuple[known_hosts.KnownKey, ...]:
    return tuple(key for path in files for key in _keys_of(path))


def _keys_of(path: Path) -> Iterator[known_hosts.KnownKey]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"known hosts {path} cannot be read: {error.strerror}") from error
    yield from known_hosts.parse(lines, str(path))


def _check_host_key(
    transport: paramiko.Transport, target: Target, known: tuple[known_hosts.KnownKey, ...]
) -> None:
    key = transport.get_remote_server_key()
    text = key.get_base64()
    shown = f"{key.get_name()} {known_hosts.fingerprint(text)}"
    match known_hosts.judge(known, target.key_name, key.get_name(), text):
        case known_hosts.Trusted():
            return
        case known_hosts.Unknown():
            port = "" if target.port == 22 else f" -p {target.port}"
            raise UnreachableError(
                f"{target.label}: the host key of {target.key_name} is unknown ({shown})",
                hint=f"if that fingerprint is right: "
                f"ssh-keyscan{port} {target.address} >> {target.known_hosts[0]}",
            )
        case known_hosts.Changed(place):
            raise AnotherKeyError(
                f"{target.label}: the host key of {target.key_name} has changed: it shows {shown}, "
                f"{place} says another",
                hint="someone may be in between; if the host was set up anew, remove that line",
            )
        case known_hosts.Revoked(place):
            raise UnreachableError(
                f"{target.label}: the host key of {target.key_name} ({shown}) "
                f"is revoked in {place}",
                hint="do not trust it: the host needs a new key",
            )


def _authenticate(transport: paramiko.Transport, target: Target) -> None:
    tried: list[str] = []
    for name, key in _candidates(target, tried):
        tried.append(name)
        try:
            remaining = transport.auth_publickey(target.user, key)
        except paramiko.AuthenticationException:
            if not transport.is_active():
                break  # too many tries: sshd has hung up
            continue
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError(
                f"{target.label}: {target.address} broke off the login as {target.user}: "
                f"{phrase(error)}"
            ) from error
        if not remaining:
            return
        raise UnreachableError(
            f"{target.label}: {target.address} asks {target.user} for "
            f"{' and '.join(remaining)} besides the key",
            hint="deploy logs in by key alone: let its sshd ask this user for no more",
        )
    keys = f"tried {', '.join(tried)}" if tried else "there is no key to try"
    raise UnreachableError(
        f"{target.label}: {target.address} does not let {target.user} in: {keys}",
        hint=f"ssh -p {target.port} {target.user}@{target.address} shows more; "
        "keys come from the agent, ssh.identity_files and ~/.ssh",
    )


def _candidates(target: Target, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the keys in the order of trying: those that were named, the agent's, the user's."""
    for path in target.identity_files:
        yield from _key_of(path, tried, named=True)
    if os.environ.get("SSH_AUTH_SOCK"):
        yield from _agent_keys(tried)
    if not target.identity_files:
        for name in IDENTITIES:
            yield from _key_of(me.home() / ".ssh" / name, tried, named=False)


def _key_of(path: Path, tried: list[str], *, named: bool) -> Iterator[tuple[str, paramiko.PKey]]:
    try:
        yield str(path), paramiko.PKey.from_path(str(path))
    except FileNotFoundError:
        if named:
            tried.append(f"{path} (no such file)")
    except TypeError:  # what cryptography says of a key that needs a passphrase
        tried.append(f"{path} (needs a passphrase: ssh-add it)")
    except (
        paramiko.PasswordRequiredException,
        paramiko.SSHException,
        OSError,
        ValueError,
    ) as error:
        tried.append(f"{path} ({_why_no_key(error)})")


def _why_no_key(error: Exception) -> str:
    if _needs_passphrase(error):
        return "needs a passphrase: ssh-add it"
    return phrase(error) if isinstance(error, OSError) else "is not a private key"


def _needs_passphrase(error: Exception) -> bool:
    return isinstance(error, paramiko.PasswordRequiredException) or "password" in str(error).lower()


def _agent_keys(tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError) as error:
        tried.append(f"the agent ({phrase(error)})")
        return
    try:
        for key in agent.get_keys():
            yield f"the agent's {key.comment or key.get_name()}", key
    finally:
        agent.close()


def phrase(error: BaseException) -> str:
    """Return an error of a library as one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
