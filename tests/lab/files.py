"""What a lab writes: each frontend's own files, keys, and the inventory for the admin box."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from tests.lab.network import addresses
from tests.lab.processes import tool

FRONTEND = Path(__file__).parent / "frontend"
RC_FILES = (".profile", ".bashrc", ".bash_profile", ".cshrc", ".tcshrc", ".login", ".kshrc")
# Said by every start file of a noisy login shell, on both streams; valid in csh and in sh.
NOISE = (
    'echo "Welcome to the frontend. error=none"\n'
    'echo "flipslot begin"\n'
    "env echo complaint from the start file\n"
    'sh -c "echo more complaint >&2"\n'
)
SERVICES = {
    "sshd": "#!/bin/dash\nexec /usr/sbin/sshd -D -e 2>>/run/sshd.log\n",
    "nginx": "#!/bin/dash\nexec /usr/sbin/nginx 2>>/run/nginx.log\n",
    "fcgiwrap": "fcgiwrap.pl",
    "worker": "worker.pl",
    "pool": "pool.pl",
}
DOWN = ("pool",)  # only where a test starts them


def write_key(path: Path) -> str:
    """Make an ed25519 key pair; return the public half."""
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path))
    return path.with_name(path.name + ".pub").read_text().strip()


def write_frontend(
    folder: Path, public_key: str, shell: str, *, noisy: bool, numbers: Mapping[str, int]
) -> str:
    """Write what is laid over the machine's files in one frontend; return its host key."""
    files = folder / "files"
    for part in ("etc/ssh", "etc/nginx", "root/.ssh", "etc/service"):
        (files / part).mkdir(parents=True)
    host_key = write_key(files / "etc/ssh/lab_host_key")
    shutil.copy(FRONTEND / "sshd_config", files / "etc/ssh/sshd_config")
    shutil.copy(FRONTEND / "nginx.conf", files / "etc/nginx/nginx.conf")
    (files / "root/.ssh/authorized_keys").write_text(public_key + "\n")
    (files / "etc/passwd").write_text(_with_root_shell(shell))
    (files / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    known = [f"{addresses(number)[0]} {name}" for name, number in numbers.items()]
    (files / "etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *known]) + "\n")
    (files / "etc/resolv.conf").write_text("nameserver 10.77.0.1\n")
    if noisy:
        for name in RC_FILES:
            (files / "root" / name).write_text(NOISE)
    for name, text in SERVICES.items():
        run = files / "etc/service" / name / "run"
        run.parent.mkdir()
        run.write_text(text if text.startswith("#!") else (FRONTEND / text).read_text())
        run.chmod(0o755)
        if name in DOWN:
            (run.parent / "down").touch()
    return host_key


def _with_root_shell(shell: str) -> str:
    lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
    return "".join(
        f"root:x:0:0:root:/root:{shell}\n" if line.startswith("root:") else line for line in lines
    )


def write_inventory(folder: Path, numbers: Mapping[str, int], host_keys: Mapping[str, str]) -> None:
    """Write fleet.toml, known_hosts and ssh_config."""
    known = "".join(
        f"{name},{','.join(addresses(number))} {host_keys[name].rsplit(' ', 1)[0]}\n"
        for name, number in numbers.items()
    )
    (folder / "known_hosts").write_text(known)
    (folder / "ssh_config").write_text(_ssh_config(folder, numbers))
    (folder / "fleet.toml").write_text(inventory(folder, numbers))


def _ssh_config(folder: Path, numbers: Mapping[str, int]) -> str:
    hosts = "".join(
        f"Host {name}\n  HostName {addresses(number)[0]}\n" for name, number in numbers.items()
    )
    return hosts + dedent(f"""\
        Host *
          User root
          IdentityFile {folder}/id_ed25519
          IdentitiesOnly yes
          UserKnownHostsFile {folder}/known_hosts
        """)


def inventory(folder: Path, numbers: Mapping[str, int]) -> str:
    """Return fleet.toml. The last frontend is reached by IPv6, the others by IPv4."""
    last = max(numbers.values())
    hosts = "".join(
        f'[hosts.{name}]\naddress = "{addresses(number)[number == last]}"\n'
        + ('tags = ["canary"]\n' if number == min(numbers.values()) else "")
        for name, number in numbers.items()
    )
    return FLEET.format(folder=folder, hosts=hosts)


FLEET = """\
# The lab's frontends. Their network is a namespace: run `deploy` inside it (see README).
[ssh]
user = "root"
identity_files = ["{folder}/id_ed25519"]
known_hosts = "{folder}/known_hosts"
config = "{folder}/ssh_config"
connect_timeout_s = 5
stall_timeout_s = 15

[sets.cgi]
link = "/webroot/cgi"

[sets.cgi.slots]
A = {{ device = "/dev/disk/by-partlabel/cgiA", mount = "/webroot/cgi1" }}
B = {{ device = "/dev/disk/by-partlabel/cgiB", mount = "/webroot/cgi2" }}

# Inside each slot, in this order.
[[sets.cgi.mounts]]
kind = "devfs"
at = "dev"

[[sets.cgi.mounts]]
kind = "tmpfs"
at = "tmp"
size = "16m"

# Users' homes and PHP's sessions: one directory of the host in both slots, so a flip keeps them.
[[sets.cgi.mounts]]
kind = "bind"
at = "home"
source = "/home"
read_only = true

[[sets.cgi.mounts]]
kind = "bind"
at = "var/sessions"
source = "/srv/sessions"

# What differs per host: the image holds symlinks into this one mount point.
[[sets.cgi.mounts]]
kind = "files"
at = "etc/host"
files = {{ "resolv.conf" = "/etc/resolv.conf", "hosts" = "/etc/hosts" }}

[[sets.cgi.services]]
name = "fcgiwrap"
restart = ["sv", "restart", "fcgiwrap"]

[[sets.cgi.services]]
name = "worker"
restart = ["sv", "restart", "worker"]

[[sets.cgi.checks]]
kind = "http"
url = "http://{{address}}/cgi-bin/version"
status = 200
deadline_s = 10

[[sets.cgi.checks]]
kind = "command"
command = ["test", "-x", "/webroot/cgi/usr/sbin/fcgiwrap"]

{hosts}"""
