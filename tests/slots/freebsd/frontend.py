"""The stand-ins' world, and what the tests of FreeBSD share."""

import ast
from pathlib import Path
from typing import Any

from slots.actions import Flip, Judge, Mount
from slots.slot import SlotName, Verdict
from tests.slots import images
from tests.slots.hosts import Host, write

A, B = SlotName.A, SlotName.B

SLOT_BYTES = 1 << 20

# What POSIX has, and both systems alike; anything else is not found.
ALIKE = (
    *(
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "df",
        "env",
        "find",
        "grep",
        "gzip",
        "mkdir",
        "mkfifo",
        "od",
    ),
    *("readlink", "rm", "rmdir"),
    *("sed", "sleep", "sort", "tail", "tee", "touch", "tr", "wc", "xargs"),
)


class World:
    """The stand-ins' world, as a test looks at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = ast.literal_eval((self.folder / "state").read_text())
        return state

    def change(self, **fields: object) -> None:
        (self.folder / "state").write_text(repr(self.state | fields))

    @property
    def log(self) -> list[list[str]]:
        return [line.split("\t") for line in (self.folder / "log").read_text().splitlines()]

    @property
    def uzip_loaded(self) -> bool:
        return (self.folder / "modules/g_uzip").exists()

    def load_uzip(self) -> None:
        (self.folder / "modules/g_uzip").touch()

    def sysctl(self, name: str, value: str) -> None:
        (self.folder / "sysctl" / name).write_text(value + "\n")


def uzip(seed: int = 1, size_bytes: int = 300_000) -> images.Image:
    """Return an image whose header geom_uzip would take: 64 KiB clusters, ten of them."""
    plain = images.with_magic("uzip", size_bytes, seed).data
    header = (65536).to_bytes(4, "big") + (10).to_bytes(4, "big")
    return images.of_bytes(plain[:128] + header + plain[136:], "uzip")


def serve(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    write(host, name, image, token)
    for action in (Mount(name, "uzip"), Flip(name), Judge(name, Verdict.GOOD)):
        answer = host.do(action, token)
        assert answer.status == 0, (action, answer)
