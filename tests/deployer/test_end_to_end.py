"""The whole command over SSH against sandbox frontends: deploy, again, back and forth."""

import json

from tests.deployer.conftest import AdminBox


def test_deploys_to_b_then_to_a_then_rolls_back_three_times(admin_box: AdminBox) -> None:
    admin_box.release("1")
    first = admin_box.deploy("--slot", "B", "--yes")
    assert first.status == 0, first
    assert (admin_box.target(), admin_box.served()) == ("cgi2", "1")
    admin_box.release("2")
    assert admin_box.deploy("--yes").status == 0
    assert (admin_box.target(), admin_box.served()) == ("cgi1", "2")
    for target, version in (("cgi2", "1"), ("cgi1", "2"), ("cgi2", "1")):
        ran = admin_box.deploy("rollback", "--yes")
        assert ran.status == 0, ran
        assert (admin_box.target("www2"), admin_box.served("www2")) == (target, version)
    again = admin_box.deploy("--image", "cgi-1", "--json")
    assert again.status == 0, again
    assert [host["message"] for host in json.loads(again.stdout)["hosts"]] == [
        "slot B serves cgi-1 already"
    ] * 2
