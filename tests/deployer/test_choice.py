"""Pack or whole image: which is chosen for a frontend, and what the plan says of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from deployer.choice import NoPack, Offers, choose, predicted_s
from deployer.plan import Plan, plan_deploy, wanted_pack
from slots.actions import Action, Cover, Erase, Fill, Patch, Prove, Seal, Stage, Unmount
from slots.manifest import HEAD_BYTES
from slots.pack import PackFacts
from slots.patch import Identity
from slots.slot import FrontendState, Proof, SlotName, SlotState, Written
from tests.deployer.simulator import Frontend, record_of, release, serving

OLD, NEW = release("a"), release("b")
SIZE = NEW.artefacts[0].size_bytes
PAIR = ("a" * 64, "b" * 64)
PACK = PackFacts(
    sha256="9" * 64,
    size_bytes=40_000,
    unit=1,
    old=Identity("a" * 64, SIZE),
    new=Identity("b" * 64, SIZE),
    moves=5,
    copied_bytes=400_000,
    literal_bytes=50_000,
)
OFFERS: Offers = {PAIR: PACK}
SLOW, FAST = 1e6, 1e9


def of_a(**changes: object) -> Callable[[FrontendState], FrontendState]:
    def change(state: FrontendState) -> FrontendState:
        first, second = state.statuses
        return replace(state, statuses=(replace(first, **changes), second))  # type: ignore[arg-type]

    return change


def with_state(**changes: object) -> Callable[[FrontendState], FrontendState]:
    return lambda state: replace(state, **changes)  # type: ignore[arg-type]


def plan(frontend: Frontend, offers: Offers = OFFERS, line: float = SLOW) -> Plan:
    made = plan_deploy(
        frontend.slots, frontend.state(), NEW, None, offers=offers, line_bytes_per_s=line
    )
    assert isinstance(made, Plan)
    return made


def kinds(actions: tuple[Action, ...]) -> list[type]:
    return [type(one) for one in actions if not isinstance(one, Cover)]


def test_a_pack_is_staged_before_anything_is_touched_and_replayed_in_place_of_the_image() -> None:
    made = plan(serving("a"))
    assert kinds(made.actions)[:5] == [Stage, Erase, Patch, Seal, Prove]
    assert Stage(PACK.sha256, PACK.size_bytes) in made.actions
    replay = Patch(SlotName.B, NEW.artefacts[0], PACK.sha256, "a" * 64)
    assert replay in made.actions
    assert made.sends_bytes == PACK.size_bytes + 65_536
    assert made.facts[1] == (
        "slot B is empty: 0.1 MB travel, the rest is copied from slot A "
        "(5 moves, 0.1 s instead of 0.5 s at 8 Mbit/s)"
    )


def test_the_fallback_of_a_pack_is_the_whole_image_up_to_its_proof() -> None:
    frontend = serving("a")
    assert kinds(plan(frontend).fallback) == [Erase, Fill, Seal, Prove]
    assert plan(frontend, {}).fallback == ()
    frontend.cells[SlotName.B].mounted = "c" * 64
    made = plan(frontend)
    assert Unmount(SlotName.B) in made.actions
    assert Unmount(SlotName.B) in made.fallback, "staging may fail before it is unmounted"


@pytest.mark.parametrize(
    ("change", "offers", "line", "why"),
    [
        (of_a(), {}, SLOW, "no pack was made"),
        (of_a(), {PAIR: NoPack("the moon is full")}, SLOW, "the moon is full"),
        (of_a(image=None), OFFERS, SLOW, "slot A holds nothing known to begin with"),
        (of_a(state=SlotState.EMPTY), OFFERS, SLOW, "slot A holds nothing known to begin with"),
        (
            of_a(proof=Proof("e" * 64, "boot1", "7:0", 0)),
            OFFERS,
            SLOW,
            "slot A is damaged, nothing can be taken from it",
        ),
        (with_state(copies_bytes=False), OFFERS, SLOW, "its dd copies no runs of bytes"),
        (
            of_a(sector_bytes=4096),
            {PAIR: replace(PACK, unit=512)},
            SLOW,
            "its disks have sectors of 4096 bytes",
        ),
        (
            with_state(staging_free_bytes=39_999),
            OFFERS,
            SLOW,
            "no room for a pack of 0.0 MB, 0.0 MB are free",
        ),
        (
            of_a(),
            OFFERS,
            FAST,
            "a pack of 0.0 MB would be slower, 5 moves, 0.0 s instead of 0.0 s at 8000 Mbit/s",
        ),
    ],
)
def test_the_whole_image_travels_and_it_is_said_why(
    change: Callable[[FrontendState], FrontendState], offers: Offers, line: float, why: str
) -> None:
    frontend = serving("a")
    made = choose(change(frontend.state()), SlotName.B, NEW.artefacts[0], offers, line)
    assert made.pack is None
    assert made.why == why


def test_a_host_whose_dd_knows_sectors_alone_takes_packs_of_sectors() -> None:
    state = replace(serving("a").state(), copies_bytes=False, staging_free_bytes=40_000)
    sectors: Offers = {PAIR: replace(PACK, unit=512)}
    assert choose(state, SlotName.B, NEW.artefacts[0], sectors, SLOW).pack is not None


def test_runs_of_bytes_are_copied_whatever_the_sectors_are() -> None:
    state = of_a(sector_bytes=4096)(serving("a").state())
    assert PACK.unit == 1
    assert choose(state, SlotName.B, NEW.artefacts[0], OFFERS, SLOW).pack is PACK


def test_what_a_cut_transfer_left_does_not_travel_again() -> None:
    frontend = serving("a")
    first, second = frontend.state().statuses
    written = Written("b" * 64, SIZE - 100_000)
    state = replace(frontend.state(), statuses=(first, replace(second, written=written)))
    made = plan_deploy(frontend.slots, state, NEW, None, line_bytes_per_s=SLOW)
    assert isinstance(made, Plan)
    assert made.sends_bytes == 100_000 + 65_536, "the rest, and the head, which comes last"
    assert "the last 0.2 MB of a cut transfer travel" in made.facts[1]
    other = replace(written, sha256="c" * 64)
    state = replace(state, statuses=(first, replace(second, written=other)))
    again = plan_deploy(frontend.slots, state, NEW, None)
    assert isinstance(again, Plan)
    assert again.sends_bytes == SIZE


def test_what_is_staged_of_a_pack_does_not_travel_again_and_needs_no_room() -> None:
    frontend = serving("a")
    staged = ((PACK.sha256, 30_000), ("8" * 64, 5_000))
    state = replace(frontend.state(), staged=staged, staging_free_bytes=5_000)
    made = choose(state, SlotName.B, NEW.artefacts[0], OFFERS, SLOW, head_bytes=700)
    assert made.pack is PACK, "30,000 bytes of it are there, 5,000 are free, another is removed"
    assert made.sends_bytes == 10_700
    full = replace(state, staging_free_bytes=4_999)
    assert choose(full, SlotName.B, NEW.artefacts[0], OFFERS, SLOW).pack is None
    # More than all of it is none of it: it is begun again.
    longer = replace(state, staged=((PACK.sha256, PACK.size_bytes + 1),))
    again = choose(longer, SlotName.B, NEW.artefacts[0], OFFERS, SLOW, head_bytes=700)
    assert again.sends_bytes == PACK.size_bytes + 700


def test_a_pack_of_which_most_is_there_pays_where_it_would_not_from_its_beginning() -> None:
    large = replace(PACK, size_bytes=SIZE)
    state = replace(serving("a").state(), staged=((PACK.sha256, SIZE - 10_000),))
    offers: Offers = {PAIR: large}
    assert choose(serving("a").state(), SlotName.B, NEW.artefacts[0], offers, SLOW).pack is None
    assert choose(state, SlotName.B, NEW.artefacts[0], offers, SLOW).pack is large


def test_of_what_is_pulled_the_head_is_pulled_too_and_once_more_to_see_whether_it_is_there() -> (
    None
):
    frontend, artefact = serving("a"), NEW.artefacts[0]

    def sends(state: FrontendState, *mirrors: str) -> int:
        made = choose(state, SlotName.B, artefact, {}, SLOW, head_bytes=700, mirrors=mirrors)
        return made.sends_bytes

    web, stick = "http://mirror/slots", "file:/stick"
    state = replace(frontend.state(), downloaders=("fetch",))
    assert sends(state) == SIZE - HEAD_BYTES + 700
    assert sends(state, web) == SIZE + HEAD_BYTES + 700
    first, second = state.statuses
    second = replace(second, written=Written("b" * 64, SIZE - 100_000))
    cut = replace(state, statuses=(first, second))
    assert sends(cut) == 100_000 + 700
    assert sends(cut, web) == SIZE + HEAD_BYTES + 700, "fetch begins an image again"
    assert sends(cut, stick, web) == 100_000 + HEAD_BYTES + 700
    for name in ("curl", "wget"):
        assert sends(replace(cut, downloaders=(name,)), web) == 100_000 + HEAD_BYTES + 700


def test_a_pack_is_predicted_by_its_bytes_its_moves_and_what_it_copies() -> None:
    base = predicted_s(PACK, SLOW)
    assert predicted_s(replace(PACK, size_bytes=PACK.size_bytes + 1_000_000), SLOW) > base + 0.9
    assert predicted_s(replace(PACK, moves=1005), SLOW) > base + 1
    assert predicted_s(replace(PACK, copied_bytes=10**9), SLOW) > base + 2


def test_a_pack_is_wanted_where_something_known_serves_and_the_image_would_travel() -> None:
    frontend = serving("a")
    wanted = wanted_pack(frontend.state(), plan(frontend, {}))
    assert wanted == (record_of(OLD.artefacts[0], "cgi-a"), NEW.artefacts[0])
    assert wanted_pack(of_a(image=None)(frontend.state()), plan(frontend, {})) is None
    there = plan_deploy(frontend.slots, frontend.state(), OLD, None)
    assert isinstance(there, Plan)
    assert wanted_pack(frontend.state(), there) is None


def test_what_is_there_already_needs_no_choice() -> None:
    frontend = serving("a")
    there = plan_deploy(frontend.slots, frontend.state(), OLD, None, offers=OFFERS)
    assert isinstance(there, Plan)
    assert (there.choice, there.sends_bytes, there.fallback) == (None, 0, ())
