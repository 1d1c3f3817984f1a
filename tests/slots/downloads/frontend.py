"""What the tests of downloads share: a pack and an image, and how a host asks for them."""

import os
import random
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

import pytest

from slots import answers, calls
from slots.actions import Seal
from slots.manifest import HEAD_BYTES
from slots.sandbox import Sandbox
from slots.slot import SlotName
from tests.slots import images, packs
from tests.slots.hosts import Host, sandbox_slots
from tests.slots.mirrors import Mirror

B = SlotName.B
SLOT_BYTES = 2 << 20
# What the verbs need besides a program that downloads.
BASE = (
    *("cat", "chmod", "cp", "cut", "date", "dd", "df", "env", "grep", "gzip", "ln", "mkdir"),
    *("mkfifo", "mv", "od", "readlink", "rm", "rmdir", "sed", "setsid", "sha256sum"),
    *("sleep", "sort", "stat", "sync", "tail", "tee", "tr", "wc", "xargs"),
)
HASTE = "CONNECT_S=2 STALL_S=1\n"  # a test does not wait as long as an admin
PATIENCE_S = 8  # for busybox, which does not see by itself that nothing comes
CHANCE = random.Random(7)  # noqa: S311 - bytes of a test
PACK = packs.Pack(CHANCE.randbytes(300_000))
IMAGE = images.of_bytes(CHANCE.randbytes(700_000), "squashfs")


def busybox_downloads(program: str, server: Mirror) -> None:
    """Skip where the program itself falls: a static one may lack what looks up names."""
    url = server.url("good", PACK.sha256)
    done = subprocess.run((program, "wget", "-q", "-O", "/dev/null", url), check=False)
    if done.returncode:
        pytest.skip(f"busybox wget does not run here: status {done.returncode}")


def staged(host: Host) -> Path:
    return Path(host.slots.records) / "staging/cgi" / f"{PACK.sha256}.pack"


def fetch(host: Host, token: str, *urls: str, timeout_s: int = 20) -> answers.Answer:
    reach = calls.MirrorReach(urls, timeout_s)
    return host.run(HASTE + calls.fetch_call(token, PACK.sha256, PACK.size_bytes, reach))


def pull(
    host: Host, token: str, *urls: str, timeout_s: int = 20, offset: int = HEAD_BYTES
) -> answers.Answer:
    reach = calls.MirrorReach(urls, timeout_s)
    return host.run(HASTE + calls.pull_call(token, B, IMAGE.artefact, reach, offset))


def ended_by_itself(why: str) -> bool:
    """Tell whether it was not its time that ended a download: a limit of bytes, or of silence."""
    return "no end within" not in why


def has_busybox(host: Host) -> bool:
    """Tell whether it downloads with busybox, which follows redirects and waits for what hangs."""
    return (Path(host.platform.path) / "wget").resolve().name == "busybox"


def proven(host: Host, token: str) -> bool:
    """Seal the slot, and tell whether it holds the image."""
    assert host.do(Seal(B, IMAGE.artefact, "r"), token, IMAGE.head).status == 0
    return host.do(images.proof(B, IMAGE.artefact), token).status == 0


def ends_within(answer: IO[bytes], seconds: float) -> None:
    """Read an answer to its end, which comes when nobody holds it any more."""
    until = time.monotonic() + seconds
    while select.select([answer], [], [], max(0.0, until - time.monotonic()))[0]:
        if not os.read(answer.fileno(), 4096):
            return
    pytest.fail(f"somebody holds the answer for more than {seconds} s")


def nobody_holds_the_answer_once_killed(host: Host, call: str, seconds: float) -> None:
    """Kill the script of a call that tells how far it is; its answer ends within that time."""
    with host.start(call, "12345678", platform=host.platform) as child:
        assert child.stdout is not None
        while b"written" not in child.stdout.readline():
            pass
        child.kill()
        child.wait()
        ends_within(child.stdout, seconds)


def under(shell: str, folder: Path) -> Host:
    """A host whose scripts run under a shell, with curl; its records have a blank in their path."""
    program, *_ = shell.split()
    if shutil.which(program) is None or shutil.which("curl") is None:
        pytest.skip(f"needs {program} and curl")
    slots = sandbox_slots(folder, SLOT_BYTES, records="records of it")
    return Host(Sandbox(), slots, shell=shell)
