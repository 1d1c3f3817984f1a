"""A slot is tried before it serves, on FreeBSD."""

from pathlib import Path

from slots.actions import Mount, Preflight
from slots.trials import CgiTrial, CommandTrial, LibrariesTrial
from tests.slots.freebsd.frontend import A, uzip
from tests.slots.hosts import Host, write

LDD = """\
#!/bin/sh
for file; do
    echo "$file:"
    case $file in
        */broken) printf '\\tlibz.so.6 => not found (0)\\n' ;;
    esac
    printf '\\tlibc.so.7 => /lib/libc.so.7 (0x801000000)\\n'
done
"""

CGI = '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n$AS $REQUEST_METHOD"\n'


def test_a_slot_is_tried_before_it_serves_and_its_missing_libraries_are_named(host: Host) -> None:
    slot = Path(host.slots.slot(A).mount_point)
    with host.lock() as token:
        write(host, A, uzip(), token)
        assert host.do(Mount(A, "uzip"), token).status == 0
        for name, text in (("usr/bin/ldd", LDD), ("cgi", CGI), ("bin/broken", "\x7fELF")):
            (slot / name).parent.mkdir(parents=True, exist_ok=True)
            (slot / name).write_text(text)
            (slot / name).chmod(0o755)
        cgi = CgiTrial("/cgi", contains="65534:65534:65534 GET")
        assert host.do(Preflight(A, (cgi,)), token).all("passed") == ("cgi /cgi",)
        failed = host.do(Preflight(A, (cgi, LibrariesTrial(("/bin",)))), token)
        late = host.do(Preflight(A, (CommandTrial(("sleep", "9"), deadline_s=1),)), token)
    assert failed.status == 21
    assert failed.first("error") == (
        "slot A fails its preflight: ldd /bin: /bin/broken lacks libz.so.6"
    )
    assert late.first("error").endswith("command sleep 9: no end within 1 s")


def test_a_slot_without_ldd_does_not_pass_for_one_that_lacks_nothing(host: Host) -> None:
    program = Path(host.slots.slot(A).mount_point) / "bin/broken"
    with host.lock() as token:
        write(host, A, uzip(), token)
        assert host.do(Mount(A, "uzip"), token).status == 0
        program.parent.mkdir()
        program.write_text("\x7fELF")
        program.chmod(0o755)
        failed = host.do(Preflight(A, (LibrariesTrial(("/bin",)),)), token)
    assert failed.status == 21
    assert "cannot ask the slot's loader: chroot: /usr/bin/ldd" in failed.first("error")
