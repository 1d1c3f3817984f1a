"""The lab's network: a namespace for the bridge, one for the admin box, one per frontend."""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.lab.processes import in_network, tool, until

ADMIN = "admin"
BRIDGE = "br"
NETNS = Path("/run/netns")
IPV6 = Path("/proc/sys/net/ipv6")


def namespace(prefix: str, name: str) -> str:
    """Return the name of a network namespace of this lab."""
    return f"{prefix}-{name}"


def addresses(number: int) -> tuple[str, str]:
    """Return the IPv4 and IPv6 address of the lab's box of this number; 1 is the admin box."""
    return f"10.77.0.{number}", f"fd00:77::{number}"


def start_network(prefix: str, numbers: dict[str, int]) -> None:
    """Make the bridge and join each box to it. `numbers` holds the admin box too."""
    bridge = namespace(prefix, BRIDGE)
    _add_namespace(bridge)
    tool("ip", "-n", bridge, "-batch", "-", stdin="link add br0 type bridge\nlink set br0 up\n")
    for name, number in numbers.items():
        _add_box(bridge, namespace(prefix, name), name, addresses(number))


def _add_namespace(name: str) -> None:
    tool("ip", "netns", "add", name)
    tool("ip", "-n", name, "link", "set", "lo", "up")


def _add_box(bridge: str, box: str, name: str, own: Sequence[str]) -> None:
    _add_namespace(box)
    tool(
        "ip", "-n", box,
        "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", bridge,
    )  # fmt: skip
    lines = [f"address add {own[0]}/24 dev eth0"]
    if IPV6.is_dir():
        lines.append(f"address add {own[1]}/64 dev eth0 nodad")
    lines.append("link set eth0 up")
    tool("ip", "-n", box, "-batch", "-", stdin="\n".join(lines) + "\n")
    tool("ip", "-n", bridge, "link", "set", name, "master", "br0", "up")


def plug(prefix: str, name: str, *, up: bool) -> None:
    """Pull a box's cable, or put it back: packets are lost without a word."""
    tool("ip", "-n", namespace(prefix, BRIDGE), "link", "set", name, "up" if up else "down")


def stop_network(prefix: str) -> None:
    """End every process in the lab's namespaces, then the namespaces."""
    names = lab_namespaces(prefix)
    inodes = [(NETNS / name).stat().st_ino for name in names]
    until("the lab's processes end", lambda: not _kill(inodes), within_s=20)
    for name in names:
        tool("ip", "netns", "del", name)


def lab_namespaces(prefix: str) -> list[str]:
    """Return the network namespaces of this lab that are there."""
    if not NETNS.is_dir():
        return []
    return sorted(entry.name for entry in NETNS.iterdir() if entry.name.startswith(f"{prefix}-"))


def _kill(inodes: Sequence[int]) -> list[int]:
    pids = in_network(inodes)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids
