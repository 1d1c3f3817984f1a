"""Connections kept between a look at the fleet and the work behind it."""

from deployer.kept import KEPT_S, Kept
from tests.deployer.local import LocalConnection


class Watched(LocalConnection):
    """A connection that knows whether it was closed, or lost."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self.lost = False

    @property
    def alive(self) -> bool:
        return not (self.closed or self.lost)

    def close(self) -> None:
        self.closed = True


def test_a_kept_connection_is_given_away_once() -> None:
    kept, one = Kept(["www1"]), Watched()
    assert kept.keep("www1", one)
    assert kept.take("www1") is one
    assert kept.take("www1") is None
    assert not one.closed


def test_no_more_hosts_are_kept_than_were_named() -> None:
    kept, one = Kept(["www1"]), Watched()
    assert not kept.keep("www2", one)
    assert kept.take("www2") is None


def test_a_connection_that_was_lost_meanwhile_is_not_worked_on() -> None:
    kept, one = Kept(["www1"]), Watched()
    kept.keep("www1", one)
    one.lost = True
    assert kept.take("www1") is None
    assert one.closed


def test_a_connection_that_was_kept_too_long_is_not_worked_on() -> None:
    now = 100.0
    kept, one = Kept(["www1"], lambda: now), Watched()
    kept.keep("www1", one)
    now += KEPT_S + 1
    assert kept.take("www1") is None
    assert one.closed


def test_what_nobody_took_is_hung_up() -> None:
    kept, one = Kept(["www1"]), Watched()
    kept.keep("www1", one)
    kept.close()
    assert one.closed
    assert kept.take("www1") is None


def test_a_second_connection_to_a_host_takes_the_place_of_the_first() -> None:
    kept, one, other = Kept(["www1"]), Watched(), Watched()
    kept.keep("www1", one)
    kept.keep("www1", other)
    assert one.closed
    assert kept.take("www1") is other
    assert not other.closed
