"""A long, slow line between the admin box and each frontend.

The kernel's token bucket on the links holds the rate; a relay on the admin box, which `deploy` and
`ssh` talk to in place of the frontend, holds back all bytes for as long as the way takes. (netem
would do both, but not every kernel has it.) Unlike a real line it loses nothing, and TCP has not to
find its speed first: that is so for everybody who is measured here.

Run as a script this file is the relay of some frontends: DELAY_S PORT ADDRESS [PORT ADDRESS]…
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.frontends import Lab
from tests.lab.network import BRIDGE, namespace
from tests.lab.processes import tool, until

SSH_PORT = 22
FIRST_PORT = 22_000
PIECE_BYTES = 1 << 16
PIECES_ON_THE_WAY = 16
Call = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BURST, LATENCY = "64kb", "50ms"


@dataclass(frozen=True, slots=True)
class Line:
    """A lab seen over such a line: its inventory, and its configuration for ssh."""

    lab: Lab
    fleet: Path
    ssh_config: Path

    def wire_bytes(self) -> int:
        """Return what all links to frontends have carried, both ways, heads of packets included."""
        bridge = namespace(self.lab.settings.prefix, BRIDGE)
        links = json.loads(tool("ip", "-n", bridge, "-s", "-j", "link", "show"))
        return sum(
            link["stats64"][way]["bytes"]
            for link in links
            if link["ifname"] in self.lab.frontends
            for way in ("rx", "tx")
        )


@contextlib.contextmanager
def long_line(lab: Lab, rate: str, delay_s: float) -> Iterator[Line]:
    """Give the lab lines of this rate (as `tc` says it), each way taking so long."""
    ports = {name: FIRST_PORT + number for name, number in lab.settings.numbers.items()}
    for name in ports:
        _limit(namespace(lab.settings.prefix, BRIDGE), name, rate)
        _limit(namespace(lab.settings.prefix, name), "eth0", rate)
    words = [str(word) for name in ports for word in (ports[name], _address(lab, name))]
    relay = subprocess.Popen(
        lab.in_admin_box(sys.executable, "-m", "tests.lab.line", str(delay_s), *words),
        stdin=subprocess.DEVNULL,
    )
    try:
        until("the relay listens", lambda: _listens(lab, [*ports.values()]), within_s=20)
        yield _written(lab, ports)
    finally:
        relay.kill()
        relay.wait()


def _address(lab: Lab, name: str) -> str:
    return lab.frontends[name].address


def _limit(box: str, device: str, rate: str) -> None:
    bucket = ("root", "tbf", "rate", rate, "burst", BURST, "latency", LATENCY)
    tool("tc", "-n", box, "qdisc", "replace", "dev", device, *bucket)


def _listens(lab: Lab, ports: list[int]) -> bool:
    listed = subprocess.run(
        lab.in_admin_box("cat", "/proc/net/tcp"), capture_output=True, text=True, check=True
    ).stdout
    return all(f":{port:04X} 00000000:0000 0A" in listed for port in ports)


def _written(lab: Lab, ports: dict[str, int]) -> Line:
    """Write how the relay is reached."""
    config, fleet = lab.folder / "line_ssh_config", lab.folder / "line-fleet.toml"
    hosts = "".join(
        f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {name}\n"
        for name, port in ports.items()
    )
    _, _, rest = (lab.folder / "ssh_config").read_text().partition("Host *")
    config.write_text(f"{hosts}Host *{rest}")
    text = re.sub(r"^address = .*\n", "", lab.fleet.read_text(), flags=re.MULTILINE)
    fleet.write_text(text.replace(f"{lab.folder}/ssh_config", str(config)))
    return Line(lab, fleet, config)


# --- the relay ---


async def _relay(delay_s: float, ways: list[tuple[int, str]]) -> None:
    for port, address in ways:
        await asyncio.start_server(_caller(delay_s, address), "127.0.0.1", port)
    await asyncio.Event().wait()


def _caller(delay_s: float, address: str) -> Call:
    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay_s)  # TCP's own greeting
        there = await asyncio.open_connection(address, SSH_PORT)
        await asyncio.gather(_carry(reader, there[1], delay_s), _carry(there[0], writer, delay_s))

    return call


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Carry bytes one way; each comes out as much later as the way takes."""
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_ON_THE_WAY)

    async def put_in() -> None:
        while True:
            piece = await reader.read(PIECE_BYTES)
            await on_the_way.put((time.monotonic() + delay_s, piece))
            if not piece:
                return

    async def take_out() -> None:
        while True:
            due, piece = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    with contextlib.suppress(ConnectionError):
        await asyncio.gather(put_in(), take_out())


if __name__ == "__main__":
    given = sys.argv[2:]
    asyncio.run(
        _relay(
            float(sys.argv[1]), [(int(a), b) for a, b in zip(given[::2], given[1::2], strict=True)]
        )
    )
