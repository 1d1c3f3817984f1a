"""Who uses a slot on Linux, whatever they hold of it."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slots import calls
from slots.actions import Cover, Drain, Erase, Mount, Restart, Unmount
from slots.rules import User
from slots.slot import Service, Treatment
from tests.slots import images
from tests.slots.guards import until
from tests.slots.hosts import Host, write
from tests.slots.linux.frontend import NEEDS, A, inside, with_inner_mounts

pytestmark = NEEDS

# A socket keeps the mount that it was bound in, and no open file says so.
LISTENING = (
    "import os, socket, time; s = socket.socket(socket.AF_UNIX); "
    's.bind("s"); s.listen(); os.chdir("/"); time.sleep(60)'
)


def test_users_are_found_by_device_whatever_they_hold(host: Host, tmp_path: Path) -> None:
    host.slots = with_inner_mounts(host, tmp_path)
    root = host.slots.slot(A).mount_point
    shared = tmp_path / "shared data"
    (shared / "log").touch()
    holders = {
        "cwd": f"cd '{root}/bin' && exec sleep 60",
        "fd": f"exec sleep 60 <'{root}/noise'",
        "exe": f"exec '{root}/bin/sleep' 60",
        "tmpfs": f"exec sleep 60 >'{root}/tmp/file'",
        "bind": f"exec sleep 60 <'{root}/data/log'",
        "bound cwd": f"cd '{root}/data' && exec sleep 60",
        "socket": f"cd '{root}/tmp' && exec python3 -c '{LISTENING}'",
    }
    bystanders = {
        "beside": "exec sleep 60",
        "same files, not through the slot": f"exec sleep 60 <'{shared}/log'",
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        try:
            for why, command in (holders | bystanders).items():
                started[why] = subprocess.Popen(
                    (*host.before, "sh", "-c", f"echo; {command}"), stdout=subprocess.PIPE
                )
                if "tmpfs" not in why:
                    out = started[why].stdout
                    assert out is not None
                    out.readline()
            subprocess.run(("sleep", "0.3"), check=True)
            until(lambda: Path(f"/proc/{started['socket'].pid}/cwd").readlink() == Path("/"))
            found = {int(line.split()[0]) for line in host.run(calls.users_call(A)).all("user")}
            assert found == {started[why].pid for why in holders}
            answer = host.do(Unmount(A), token)
            assert answer.status == 20
            assert "in use by pid" in answer.first("error")
            assert host.probe().status(A).mounted
            services = (Service("holders", ("sleep",), ("kill", *map(str, found))),)
            answer = host.do(Restart(A, services), token)
            assert answer.all("restarted") == ("holders",)
            assert host.do(Drain(A, services, 5), token).all("straggler") == ()
        finally:
            for child in started.values():
                child.kill()
                child.communicate()
        assert host.do(Unmount(A), token).status == 0


@contextmanager
def sleeping_in(host: Host, folder: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process whose working directory is there."""
    words = (*host.before, "sh", "-c", f"cd '{folder}' && echo && exec sleep 60")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder


def test_a_slot_that_is_lazily_unmounted_is_not_free_until_its_last_user_is_gone(
    host: Host, tmp_path: Path
) -> None:
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        with sleeping_in(host, root) as holder:
            inside(host, "umount", "-l", root)
            (user,) = map(User.parse, host.run(calls.users_call(A)).all("user"))
            assert user.pid == holder.pid
            refused = host.do(Erase(A), token)
            assert refused.status == 20
            assert f"is held open by pid {holder.pid} sleep (root)" in refused.first("error")
            rules = (Service("rest", ("*",), treatment=Treatment.KILL, deadline_s=5),)
            ended = host.do(Restart(A, rules), token)
            assert ended.all("ended") == (f"rest: {holder.pid}",)
            assert host.do(Drain(A, rules, 5), token).all("straggler") == ()
        assert host.do(Erase(A), token).status == 0


def test_users_of_a_slot_are_ended_before_an_unmount_only_if_asked_for(
    host: Host, tmp_path: Path
) -> None:
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        with sleeping_in(host, root) as holder:
            uncovered = host.do(Cover(A, ()), token)
            assert uncovered.status == 20
            assert f"is used by pid {holder.pid} sleep (root), which no rule" in uncovered.first(
                "error"
            )
            assert host.do(Unmount(A), token).status == 20
            assert host.do(Unmount(A, force=True), token).status == 0
            assert holder.wait(timeout=5) == -signal.SIGTERM
        assert not host.probe().status(A).mounted
