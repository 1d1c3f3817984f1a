"""A host for the verbs: runs scripts as an ssh server would, under any shell."""

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slots import answers, calls, scripts
from slots.actions import Erase, Fill, HostAction, Seal
from slots.answers import Answer
from slots.platform import Platform
from slots.probe import parse
from slots.slot import FrontendState, Slot, SlotName, SlotSet
from tests.slots import images

DEADLINE_S = 60
SHELLS = ("dash", "busybox sh", "mksh", "bash --posix")


@dataclass
class Host:
    """One frontend of a platform, with its set of slots."""

    platform: Platform
    slots: SlotSet
    shell: str = "dash"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    before: tuple[str, ...] = ()  # a command that runs the rest, such as unshare
    noise: str = ""  # what a login file prints

    def start(
        self, call: str, nonce: str, *, platform: Platform | None
    ) -> "subprocess.Popen[bytes]":
        """Start a script behind the constant command line; stdin stays open for a payload."""
        script = scripts.script(platform, self.slots, call, nonce)
        command = scripts.command_line(len(script)).replace("exec /bin/sh", f"exec {self.shell}")
        child = subprocess.Popen(
            (*self.before, "/bin/sh", "-c", f"printf %s '{self.noise}'; {command}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environment),
        )
        assert child.stdin is not None
        child.stdin.write(script)
        child.stdin.flush()
        return child

    def run(self, call: str, payload: bytes = b"", *, platform: Platform | None = None) -> Answer:
        """Run a script to its end."""
        nonce = secrets.token_hex(8)
        with self.start(call, nonce, platform=platform or self.platform) as child:
            try:
                out, err = child.communicate(payload, timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        answer = answers.answer(out, nonce)
        assert answer.complete, err.decode()
        assert "not found" not in err.decode(), err.decode()
        return answer

    def do(self, action: HostAction, token: str, payload: bytes = b"") -> Answer:
        """Run the verb of an action."""
        return self.run(calls.call(self.platform, action, token), payload)

    def probe(self) -> FrontendState:
        """Ask for the state."""
        answer = self.run(calls.probe_call())
        assert answer.status == 0, answer
        return parse(answer, self.slots)

    def slotctl(self, program: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Install slotctl as this file and run it, as somebody who sits at the host would."""
        shell, *applet = shlex.split(self.shell)
        found = (shutil.which(shell) or shell, *applet)  # the platform's PATH may not have it
        text = scripts.slotctl(self.platform, (self.slots,))
        program.write_text(text.replace("/bin/sh", " ".join(found)))
        argv = (*self.before, *found, str(program), *words)
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=dict(self.environment),
        )

    @contextlib.contextmanager
    def lock(self, holder: str = "tester@box") -> Iterator[str]:
        """Hold the lock of the set; yields its token."""
        token, nonce = secrets.token_hex(8), secrets.token_hex(8)
        call = calls.lock_call(holder, token)
        with self.start(call, nonce, platform=self.platform) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            out = b""
            while ("locked", token) not in answers.answer(out, nonce).values:
                out += os.read(child.stdout.fileno(), 4096)
                assert not answers.answer(out, nonce).complete, out
            yield token
            child.stdin.close()
            child.wait(timeout=DEADLINE_S)


@contextlib.contextmanager
def process(*argv: str, cwd: str = "/") -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process for as long as the block lasts."""
    with subprocess.Popen(argv, cwd=cwd) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGKILL)


def found_commands(folder: Path, names: Iterable[str]) -> Path:
    """Make a folder that holds these commands of this machine, for a PATH with no others."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def wait_until_gone(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise TimeoutError(pid)


def sandbox_slots(
    folder: Path,
    size_bytes: int,
    *,
    mounts: tuple[str, str] = ("cgi1", "cgi2"),
    records: str = "records",
) -> SlotSet:
    """Make two empty slots of the sandbox, and the set that names them."""
    for name in "ab":
        with (folder / name).open("wb") as file:
            file.truncate(size_bytes)
    return SlotSet(
        name="cgi",
        link=f"{folder}/cgi",
        slots=(
            Slot(SlotName.A, f"{folder}/a", f"{folder}/{mounts[0]}"),
            Slot(SlotName.B, f"{folder}/b", f"{folder}/{mounts[1]}"),
        ),
        records=f"{folder}/{records}",
    )


def write(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    """Write an image as a plan does, up to its proof."""
    art = image.artefact
    for action, payload in (
        (Erase(name), b""),
        (Fill(name, art), image.body),
        (Seal(name, art, "r1"), image.head),
        (images.proof(name, art), b""),
    ):
        answer = host.do(action, token, payload)
        assert answer.status == 0, (action, answer)
