"""The moves of a pack, replayed by the verb of the sandbox's library between two plain files."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from slots import answers, calls
from slots.actions import Patch
from slots.manifest import HEAD_BYTES, Artefact
from slots.pack import PackFacts
from slots.sandbox import Sandbox
from slots.slot import Slot, SlotName, SlotSet
from tests.bench.travel_peers import Meter, Sent
from tests.slots.hosts import Host

DEADLINE_S = 1800
A, B = SlotName.A, SlotName.B


def replay(old: Path, new: Path, artefact: Artefact, pack: Path, facts: PackFacts) -> Sent:
    """Make the new image of the old one, and hold it against the file; return the cost."""
    folder = new.with_name("replay")
    shutil.rmtree(folder, ignore_errors=True)
    host = _host(folder, old, artefact, facts)
    staging = folder / "records/staging/cgi"
    staging.mkdir(parents=True)
    shutil.copy(pack, staging / f"{facts.sha256}.pack")
    action = Patch(B, artefact, facts.sha256, facts.old.sha256)
    with host.lock() as token:
        call, nonce = calls.call(host.platform, action, token), "0123456789abcdef"
        meter = Meter()
        with host.start(call, nonce, platform=host.platform) as child:
            out, err = child.communicate(b"", timeout=DEADLINE_S)
        cost = meter.sent(0)
    answer = answers.answer(out, nonce)
    if answer.status != 0:
        raise RuntimeError(f"the replay failed: {answer} {err.decode()}")
    command = [
        "cmp",
        f"--ignore-initial={HEAD_BYTES}",
        f"--bytes={artefact.size_bytes - HEAD_BYTES}",
    ]
    subprocess.run([*command, str(folder / "b"), str(new)], check=True)
    shutil.rmtree(folder)
    return cost


def _host(folder: Path, old: Path, artefact: Artefact, facts: PackFacts) -> Host:
    """Return a host whose slot A holds the old image, and whose slot B is erased."""
    (folder / "records").mkdir(parents=True)
    os.link(old, folder / "a")  # it is only read
    with (folder / "b").open("wb") as file:
        file.truncate(artefact.size_bytes)
    with old.open("rb") as file:
        head = file.read(HEAD_BYTES)
    record = (
        "release=r1", f"format={artefact.format}", f"size={facts.old.size_bytes}",
        f"sha256={facts.old.sha256}", f"head_sha256={hashlib.sha256(head).hexdigest()}",
    )  # fmt: skip
    (folder / "records/cgi.A.image").write_text("".join(f"{line}\n" for line in record))
    slots = (
        Slot(A, f"{folder}/a", f"{folder}/1"),
        Slot(B, f"{folder}/b", f"{folder}/2"),
    )
    return Host(Sandbox(), SlotSet("cgi", f"{folder}/cgi", slots, records=f"{folder}/records"))


def plain_dd(new: Path) -> Sent:
    """Write the image with one dd."""
    out = new.with_name("plain.slot")
    with out.open("wb") as file:
        file.truncate(new.stat().st_size)
    meter = Meter()
    command = ["dd", f"if={new}", f"of={out}", "bs=64k", "conv=notrunc,fsync"]
    subprocess.run(command, check=True, capture_output=True)
    cost = meter.sent(0)
    out.unlink()
    return cost
