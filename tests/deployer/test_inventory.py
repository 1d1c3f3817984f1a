"""An inventory: its fields, every wrong one at once, and the selection of hosts."""

from pathlib import Path

import pytest

from deployer.fleet_file import load, parse
from deployer.inventory import (
    HttpCheck,
    Inventory,
    TransferSettings,
    select,
    set_name,
)
from slots.checks import CommandCheck, Level
from slots.errors import ConfigError
from slots.slot import MountKind, SlotName, SlotSet, Treatment, Uncovered
from slots.trials import CgiTrial, CommandTrial, LibrariesTrial

SET = """
[sets.cgi]
link = "/webroot/cgi"
[sets.cgi.slots]
A = { device = "/dev/gpt/cgiA", mount = "/webroot/cgi1" }
B = { device = "/dev/gpt/cgiB", mount = "/webroot/cgi2" }
"""
HOSTS = """
[hosts.www1]
address = "10.77.0.11"
tags = ["canary", "eu"]
[hosts.www2]
address = "2001:db8::2"
tags = ["eu"]
slots.cgi = { A = "/dev/ada1p1", B = "/dev/ada1p2" }
[hosts.db1]
"""


def inventory(text: str = SET + HOSTS) -> Inventory:
    return parse(text, Path("/admin/fleet.toml"))


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        inventory(text)
    return caught.value.message


def test_a_host_has_everything_that_holds_for_it() -> None:
    www1, www2, db1 = inventory().hosts
    assert (www1.address, www2.address, db1.address) == ("10.77.0.11", "2001:db8::2", "db1")
    assert www1.sets["cgi"].slot(SlotName.A).device == "/dev/gpt/cgiA"
    assert www2.sets["cgi"].slot(SlotName.B).device == "/dev/ada1p2"
    assert www2.sets["cgi"].slot(SlotName.B).mount_point == "/webroot/cgi2"
    assert www2.sets["cgi"].target(SlotName.B) == "cgi2"
    assert www1.platform is None


def test_mounts_services_and_checks_become_data() -> None:
    text = (
        SET
        + """
[[sets.cgi.mounts]]
kind = "bind"
at = "home"
source = "/home"
[[sets.cgi.mounts]]
kind = "files"
at = "etc/host"
files = { "resolv.conf" = "/etc/resolv.conf" }
[[sets.cgi.services]]
name = "php-fpm"
[[sets.cgi.checks]]
kind = "http"
url = "http://{address}/{name}"
[[sets.cgi.checks]]
kind = "command"
command = ["check", "{name}"]
"""
    )
    www2 = inventory(text + HOSTS).hosts[1]
    bind, files = www2.sets["cgi"].mounts
    assert (bind.kind, bind.at, bind.source) == (MountKind.BIND, "home", "/home")
    assert files.files[0].source == "/etc/resolv.conf"
    assert www2.sets["cgi"].services[0].processes == ("php-fpm",)
    http, command = www2.checks["cgi"]
    assert isinstance(http, HttpCheck)
    assert isinstance(command, CommandCheck)
    assert http.url == "http://[2001:db8::2]/www2"
    assert command.command == ("check", "www2")


def test_the_host_s_name_is_filled_in_everywhere_in_a_set() -> None:
    host = inventory(SET.replace("/webroot", "/jails/{name}/webroot") + HOSTS).hosts[0]
    assert host.sets["cgi"].link == "/jails/www1/webroot/cgi"
    assert host.sets["cgi"].slots[1].mount_point == "/jails/www1/webroot/cgi2"


def test_files_of_ssh_are_relative_to_the_inventory() -> None:
    text = '[ssh]\nidentity_files = ["keys/id"]\nknown_hosts = "known"\nport = 2222\n' + SET + HOSTS
    settings = inventory(text).hosts[0].ssh
    assert settings.identity_files == (Path("/admin/keys/id"),)
    assert settings.known_hosts == (Path("/admin/known"),)
    assert settings.port == 2222


def test_every_wrong_field_is_named_at_once_with_the_nearest_right_one() -> None:
    text = SET.replace("link =", "lnik =") + HOSTS.replace("tags", "tag") + "usr = 1\n"
    message = fault(text)
    assert "/admin/fleet.toml: 5 settings are wrong" in message
    assert "sets.cgi.link is missing" in message
    assert "sets.cgi.lnik is unknown (did you mean link?)" in message
    assert "hosts.www1.tag is unknown (did you mean tags?)" in message
    assert "hosts.db1.usr is unknown (did you mean user?)" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SET.replace("cgiB", "cgiA") + HOSTS, "slots cgi.A and cgi.B are both /dev/gpt/cgiA"),
        (SET.replace("cgi2", "cgi1") + HOSTS, "link and mount points must lie beside one another"),
        (SET.replace("webroot/cgi1", "webroot/cgi/1") + HOSTS, "must lie beside one another"),
        (SET.replace('"/webroot/cgi"', '"webroot/cgi"') + HOSTS, "not an absolute path"),
        (SET.replace('"/webroot/cgi"', '"/webroot/../cgi"') + HOSTS, "without '..'"),
        (SET + HOSTS.replace("2001:db8::2", "10.77.0.11"), "www1 and www2 are both at 10.77.0.11"),
        (SET + HOSTS.replace("slots.cgi", "slots.cig"), "there is no set cig (did you mean cgi?)"),
        (SET + HOSTS.replace("10.77.0.11", "10.77.0.311"), "hosts.www1.address"),
        (SET + HOSTS.replace("10.77.0.11", "a b"), "neither a host name nor an IP address"),
        (SET + HOSTS.replace("10.77.0.11", "10.77.0.11:22"), "a user and a port are settings"),
        (SET + HOSTS.replace("10.77.0.11", "www1:22"), "a user and a port are settings"),
        (SET + HOSTS.replace("10.77.0.11", "root@www1"), "a user and a port are settings"),
        (SET + HOSTS.replace("10.77.0.11", "[2001:db8::9]:22"), "a user and a port are settings"),
        (SET + "[hosts]\n", "hosts: "),
        (SET, "hosts is missing"),
        (SET + HOSTS + "port = 70000\n", "hosts.db1.port"),
        (
            SET + '[[sets.cgi.mounts]]\nkind = "bind"\nat = "../etc"\nsource = "/etc"\n' + HOSTS,
            "..",
        ),
        (SET + '[[sets.cgi.mounts]]\nkind = "bnid"\nat = "etc"\n' + HOSTS, "bnid"),
        (SET + '[[sets.cgi.mounts]]\nkind = "bind"\nat = "home"\n' + HOSTS, "source is missing"),
        (SET + '[rollout]\nmax_failed = "ten"\n' + HOSTS, "rollout.max_failed"),
        (SET + '[[sets.cgi.checks]]\nkind = "http"\nurl = "http://{host}/"\n' + HOSTS, "not host"),
        (SET + "link = ", "not TOML"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    assert message in fault(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HOSTS + 'port = "22"\n', "hosts.db1.port: must be a whole number, not '22'"),
        (HOSTS + "port = true\n", "hosts.db1.port: must be a whole number, not true"),
        (HOSTS + 'platform = "freebsd"\n', "'freebsd' is not one of FreeBSD, Linux, sandbox (did"),
        (HOSTS + 'platform = "Bogus"\n', "hosts.db1.platform: 'Bogus' is not one of FreeBSD"),
        (HOSTS + "[rollout]\nmax_failed = -1\n", "rollout.max_failed: -1 is neither a count"),
        (HOSTS + '[rollout]\nmax_failed = "101%"\n', "a share of them such as '10%'"),
        (HOSTS + "[ssh]\nknown_hosts = 1\n", "ssh.known_hosts: must be a list, not 1"),
        (HOSTS + '[ssh]\nknown_hosts = "a\\u0000"\n', "'a\\x00' holds a control character"),
        (HOSTS + '[ssh]\nidentity_files = [""]\n', "ssh.identity_files[0]: is empty"),
        (HOSTS + '[ssh]\nconfig = ""\n', "ssh.config: is empty"),
        (HOSTS + '[hosts."a b"]\n', "hosts.a b: 'a b' is not a name of letters"),
        (HOSTS + '[[sets.cgi.mounts]]\nat = "dev"\n', "sets.cgi.mounts[0].kind is missing"),
    ],
)
def test_a_wrong_value_is_told_once_in_plain_words(text: str, message: str) -> None:
    said = fault(SET + text)
    assert message in said
    assert "1 setting is wrong" in said
    assert not any(word in said for word in ("tuple", "dict", "constrained", "pattern", "regex"))


def test_what_does_not_fit_together_is_told_beside_wrong_fields() -> None:
    text = SET.replace("cgiB", "cgiA").replace("cgi2", "cgi1") + HOSTS.replace("tags", "tag")
    lines = fault(text).splitlines()
    assert lines == [
        "/admin/fleet.toml: 4 settings are wrong:",
        "  hosts.www1.tag is unknown (did you mean tags?)",
        "  hosts.www2.tag is unknown (did you mean tags?)",
        (
            "  sets.cgi: link and mount points must lie beside one another, "
            "not /webroot/cgi1 and /webroot/cgi1"
        ),
        "  hosts www1, db1: slots cgi.A and cgi.B are both /dev/gpt/cgiA",
    ]


def test_a_set_may_name_its_image() -> None:
    assert inventory(SET.replace("link", 'image = "web"\nlink') + HOSTS).images == {"cgi": "web"}
    assert inventory().images == {}


@pytest.mark.parametrize("pattern", ["", " ", "www1,", ",", "!", "@", "www1,,db1"])
def test_an_empty_pattern_is_refused_and_never_means_all(pattern: str) -> None:
    with pytest.raises(ConfigError, match="--hosts") as caught:
        select(inventory(), [pattern])
    assert "for all hosts" in caught.value.hint


def test_a_pattern_that_matches_nothing_says_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        select(inventory(), ["nope"])
    assert caught.value.hint == "it has www1, www2, db1"
    with pytest.raises(ConfigError) as caught:
        select(inventory(), ["@nope"])
    assert caught.value.hint == "it has @canary, @eu"


def test_a_folder_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)


def test_two_sets_may_not_share_a_mount_point_or_a_device() -> None:
    message = fault(SET + SET.replace("sets.cgi", "sets.php") + HOSTS)
    assert "sets cgi and php share /webroot/cgi" in message
    assert "slots cgi.A and php.A are both /dev/gpt/cgiA" in message


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ["www1", "www2", "db1"]),
        (["www2"], ["www2"]),
        (["db1", "www1"], ["www1", "db1"]),
        (["www*"], ["www1", "www2"]),
        (["@canary"], ["www1"]),
        (["@eu", "!@canary"], ["www2"]),
        (["!www1"], ["www2", "db1"]),
        (["www1,db1"], ["www1", "db1"]),
    ],
)
def test_patterns_select_hosts_in_the_inventory_s_order(
    patterns: list[str], names: list[str]
) -> None:
    assert [host.name for host in select(inventory(), patterns)] == names


@pytest.mark.parametrize("pattern", ["wwww1", "@cannary", "!www9", "zz*"])
def test_a_pattern_that_matches_nothing_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError, match="no host matches"):
        select(inventory(), [pattern])


def test_the_first_set_is_the_default() -> None:
    both = inventory(SET + SET.replace("cgi", "php") + HOSTS)
    assert set_name(both, None) == "cgi"
    assert set_name(both, "php") == "php"
    with pytest.raises(ConfigError, match="there is no set ruby"):
        set_name(both, "ruby")


def test_the_example_inventory_is_right() -> None:
    example = load(Path(__file__).parents[2] / "fleet.example.toml")
    assert example.set_names[0] == "cgi"
    kinds = {mount.kind for mount in example.hosts[0].sets["cgi"].mounts}
    assert kinds == set(MountKind)


def rules(text: str) -> SlotSet:
    return inventory(SET + text + HOSTS).hosts[0].sets["cgi"]


def test_a_rule_acts_by_the_command_that_it_names() -> None:
    slots = rules(
        """
[[sets.cgi.services]]
name = "nginx"
[[sets.cgi.services]]
name = "pool"
graceful = ["sv", "hup", "pool"]
deadline_s = 60
[[sets.cgi.services]]
name = "cgis"
processes = ["*"]
user = "www-data"
action = "kill"
"""
    )
    nginx, pool, cgis = slots.services
    assert (nginx.treatment, nginx.command, nginx.deadline_s) == (Treatment.RESTART, (), 30.0)
    assert (pool.treatment, pool.command[1], pool.deadline_s) == (Treatment.GRACEFUL, "hup", 60.0)
    assert (cgis.treatment, cgis.user, cgis.deadline_s) == (Treatment.KILL, "www-data", 10.0)
    assert (slots.uncovered, slots.drain_s) == (Uncovered.STOP, 30.0)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ('restart = ["a"]\ngraceful = ["b"]', "graceful and restart: a rule has one of them"),
        ('action = "wait"\nrestart = ["a"]', "restart is never run where the action is wait"),
        ('action = "command"', "the action command needs a `command`"),
        ('processes = ["a(b"]', "is not the name of a command, or a glob such as php-fpm*"),
        ('action = "stop"', "action"),
    ],
)
def test_a_rule_that_contradicts_itself_is_told(rule: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(f'[[sets.cgi.services]]\nname = "x"\n{rule}\n')
    assert fault in str(caught.value)


def test_a_host_says_where_its_transfer_differs() -> None:
    text = (
        """
[transfer]
source = "http"
mirrors = ["http://m1/slots", "file:/media/usb/"]
host_bandwidth = "50 Mbit/s"
total_bandwidth = "20MB/s"
"""
        + SET
        + HOSTS
        + """
[hosts.db1.transfer]
source = "ssh"
host_bandwidth = 1000
fallback_to_ssh = true
"""
    )
    read = inventory(text)
    www1, _, db1 = (host.transfer for host in read.hosts)
    assert www1 == TransferSettings("http", ("http://m1/slots", "file:/media/usb/"), 6_250_000)
    assert db1 == TransferSettings("ssh", www1.mirrors, 1000, fallback_to_ssh=True)
    assert read.total_bandwidth == 20_000_000
    plain = inventory()
    assert (plain.hosts[0].transfer, plain.total_bandwidth) == (TransferSettings(), None)


def test_mirrors_that_are_wrong_are_not_said_to_be_missing_too() -> None:
    said = fault(f'[transfer]\nsource = "http"\nmirrors = ["ftp://m/"]\n{SET}{HOSTS}')
    assert "http://, https:// or file:/" in said
    assert "needs mirrors" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[transfer]\nsource = "http"', 'transfer: source = "http" needs mirrors'),
        ('[transfer]\nsource = "ftp"', "not one of http, ssh"),
        ('[transfer]\nmirrors = "ftp://m/"', "http://, https:// or file:/"),
        ('[transfer]\nmirrors = "file://host"', "http://, https:// or file:/"),
        ('[transfer]\nhost_bandwidth = "50"', "50 Mbit/s"),
        ("[transfer]\nhost_bandwidth = 0", "50 Mbit/s"),
        ("[transfer]\nhost_bandwidth = 50", "50 bytes a second, less than 1000: write a unit"),
        ('[transfer]\nhost_bandwidth = "7 kbit/s"', "875 bytes a second"),
        ("[transfer]\nhost_bandwidth = true", "50 Mbit/s"),
        ('[hosts.www1.transfer]\ntotal_bandwidth = "1MB/s"', "total_bandwidth"),
    ],
)
def test_what_is_wrong_with_a_transfer_is_told(text: str, said: str) -> None:
    if text.startswith("[hosts"):
        assert said in fault(SET + HOSTS.replace("[hosts.www2]", f"{text}\n[hosts.www2]"))
    else:
        assert said in fault(f"{text}\n{SET}{HOSTS}")


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [('"8 kbit/s"', 1000), ('"1.5 MB/s"', 1_500_000), ('"1Gbit/s"', 125_000_000), ("7000", 7000)],
)
def test_a_bandwidth_is_written_as_an_admin_would(text: str, bytes_per_s: int) -> None:
    read = inventory(f"[transfer]\nhost_bandwidth = {text}\n{SET}{HOSTS}")
    assert read.hosts[0].transfer.host_bandwidth == bytes_per_s


def test_staging_lies_where_the_set_says() -> None:
    text = SET.replace("[sets.cgi]", '[sets.cgi]\nstaging = "/var/tmp/{name}"') + HOSTS
    assert inventory(text).hosts[0].sets["cgi"].staging == "/var/tmp/www1"


def test_a_preflight_becomes_data_and_the_host_s_name_is_filled_in() -> None:
    text = """
[[sets.cgi.preflight]]
kind = "cgi"
path = "/cgi-bin/version"
env = { QUERY_STRING = "host={name}" }
contains = "{name}"
[[sets.cgi.preflight]]
kind = "command"
command = ["perl", "-c", "x"]
user = "www"
[[sets.cgi.preflight]]
kind = "ldd"
[[sets.cgi.checks]]
kind = "http"
url = "http://{address}/"
header = { Content-Type = "text/html" }
level = "wanted"
"""
    host = inventory(SET + text + HOSTS).hosts[0]
    cgi, command, libraries = host.sets["cgi"].preflight
    assert cgi == CgiTrial(
        "/cgi-bin/version", environment=(("QUERY_STRING", "host=www1"),), contains="www1"
    )
    assert command == CommandTrial(("perl", "-c", "x"), user="www")
    assert libraries == LibrariesTrial()
    (http,) = host.checks["cgi"]
    assert isinstance(http, HttpCheck)
    assert (http.level, http.header) == (Level.WANTED, (("Content-Type", "text/html"),))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('path = "cgi-bin/x"', "preflight[0].cgi.path: 'cgi-bin/x' is not an absolute path"),
        ('path = "/x"\nenv = { "A-B" = "" }', "the name of an environment variable"),
        ('path = "/x"\ncontains = "a\\nb"', "preflight[0].cgi.contains: must be one line"),
        ('path = "/x"\nexit = 256', "preflight[0].cgi.exit: must be at most 255"),
    ],
)
def test_a_wrong_preflight_is_told(line: str, why: str) -> None:
    assert why in fault(f'{SET}[[sets.cgi.preflight]]\nkind = "cgi"\n{line}\n{HOSTS}')


def test_an_inventory_of_another_editor_is_read(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"\xef\xbb\xbf" + (SET + HOSTS).replace("\n", "\r\n").encode())
    assert [one.name for one in load(file).hosts] == [one.name for one in inventory().hosts]


def test_a_key_in_the_home_of_nobody_known_is_a_missing_file() -> None:
    text = '[ssh]\nidentity_files = ["~no-such-user/key"]\n' + SET + HOSTS
    files = inventory(text).hosts[0].ssh.identity_files
    assert [str(one) for one in files] == ["/admin/~no-such-user/key"]
