"""Answers of a host: noise before, strict inside, never success when cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slots import answers, calls
from slots.answers import Answer
from slots.errors import HostError, LockedError, LockLostError, Refused, VerificationError
from slots.probe import parse
from slots.slot import LinkKind, Slot, SlotName, SlotSet, SlotState

NONCE = "0123456789abcdef"
WHOLE = b"\nflipslot 0123456789abcdef begin\na=1\nb=x=y\na=2\nflipslot 0123456789abcdef end 0\n"
SET = SlotSet(
    "cgi",
    "/w/cgi",
    (Slot(SlotName.A, "/dev/a", "/w/cgi1"), Slot(SlotName.B, "/dev/b", "/w/cgi2")),
)
PROBE = {
    "clock": "1700000000",
    "dd_bytes": "yes",
    "staging_free_kib": "4711",
    "platform": "Linux",
    "boot_id": "boot",
    "link_kind": "link",
    "link_target": "cgi1",
    **{
        f"{slot}.{key}": value
        for slot in "AB"
        for key, value in (
            ("device_kind", "device"),
            ("size", "1048576"),
            ("sector", "512"),
            ("state", "ready"),
            ("head_sha256", "ab"),
            ("mounted", "yes"),
            ("mount_note", ""),
        )
    },
}


def test_values_are_read_in_order() -> None:
    answer = answers.answer(WHOLE, NONCE)
    assert answer == Answer(0, (("a", "1"), ("b", "x=y"), ("a", "2")), complete=True)
    assert answer.first("a") == "1"
    assert answer.all("a") == ("1", "2")
    assert answer.first("c", "none") == "none"


@given(st.binary(max_size=200))
def test_noise_of_a_login_is_not_an_answer(noise: bytes) -> None:
    assert answers.answer(noise + WHOLE + noise, NONCE).all("a") == ("1", "2")


@given(st.integers(0, len(WHOLE) - 2))
def test_a_cut_answer_is_never_complete(length: int) -> None:
    answer = answers.answer(WHOLE[:length], NONCE)
    if not answer.complete:
        assert answer.status == -1
        assert isinstance(answers.error_of(answer, "www1"), HostError)
    else:
        assert WHOLE[:length].endswith(b"end 0")


def test_half_a_value_is_not_yet_a_value() -> None:
    half = answers.answer(WHOLE[: WHOLE.index(b"a=2")], NONCE)
    assert half.values == (("a", "1"), ("b", "x=y"))
    assert answers.answer(b"flipslot 0123456789abcdef begin\nlocked=ab", NONCE).values == ()


def test_the_answers_of_a_trip_are_heard_in_turn() -> None:
    hearing = answers.Hearing(NONCE)
    said = f"hello\nflipslot {NONCE} begin\na=1\ndid=yes\ndid=yes\nb=2\nflipslot {NONCE} end 21\n"
    heard = [hearing.hear(line) for line in said.encode().splitlines(keepends=True)]
    assert heard == [
        *(None, None),
        ("a", "1"),  # at once: a verb may say how far it is
        answers.Answer(0, (("a", "1"),), complete=True),
        answers.Answer(0, (), complete=True),
        ("b", "2"),
        answers.Answer(21, (("b", "2"),), complete=True),
    ]


def test_half_an_end_is_none() -> None:
    hearing = answers.Hearing(NONCE)
    assert hearing.hear(f"flipslot {NONCE} begin\n".encode()) is None
    assert hearing.hear(f"flipslot {NONCE} end 2".encode()) is None


def test_an_answer_of_another_script_is_none() -> None:
    assert not answers.answer(WHOLE.replace(b"0123", b"3210"), NONCE).complete


@pytest.mark.parametrize("line", [b"no value", b"=x", b"1a=x", b"a b=x"])
def test_what_is_not_key_and_value_is_refused(line: bytes) -> None:
    with pytest.raises(HostError, match="not key=value"):
        answers.answer(WHOLE.replace(b"a=2", line), NONCE)


def test_an_endless_answer_is_refused() -> None:
    with pytest.raises(HostError, match="more than"):
        answers.answer(bytes(answers.ANSWER_MAX_BYTES + 1), NONCE)


def test_nothing_in_an_answer_steers_a_terminal() -> None:
    answer = answers.answer(WHOLE.replace(b"a=2", b"a=\x1b[2J\xff\r\xc2\x9b"), NONCE)
    assert answer.all("a")[1].isprintable()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((20, Refused), (21, HostError), (22, LockedError), (23, VerificationError)),
        *((24, LockLostError), (7, HostError)),
    ],
)
def test_statuses_become_errors_that_name_the_host(status: int, error: type[Exception]) -> None:
    answer = Answer(status, (("error", "early"), ("hint", "do"), ("error", "why")), complete=True)
    found = answers.error_of(answer, "www1")
    assert type(found) is error
    assert found is not None
    assert found.message == "www1: why"
    assert found.hint == "do"


def test_success_is_no_error() -> None:
    assert answers.error_of(answers.answer(WHOLE, NONCE), "www1") is None


@pytest.mark.parametrize("token", ["", "short", "0123456g", "00000000'; rm -rf /"])
def test_a_token_is_hexadecimal_digits(token: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        calls.lock_call("ann", token)


def probed(**changes: str | None) -> Answer:
    values = {**PROBE, **changes}
    kept = tuple((key, value) for key, value in values.items() if value is not None)
    return Answer(0, (*kept, ("format", "squashfs"), ("format", "ext4")), complete=True)


def test_a_probe_becomes_a_frontend_state() -> None:
    state = parse(probed(), SET)
    assert state.link_kind is LinkKind.LINK
    assert state.formats == ("squashfs",)
    assert state.lock is None
    status = state.status(SlotName.B)
    assert (status.state, status.mounted, status.size_bytes) == (SlotState.READY, True, 1 << 20)
    assert (status.image, status.proof, status.verdict) == (None, None, None)


@pytest.mark.parametrize("key", [key for key in PROBE if key != "link_target"])
def test_a_probe_that_lacks_something_is_refused(key: str) -> None:
    with pytest.raises(HostError, match=key):
        parse(probed(**{key: None}), SET)


@pytest.mark.parametrize(
    ("key", "value"),
    [("platform", "Plan9"), ("A.size", "many"), ("B.state", "odd"), ("link_kind", "?")],
)
def test_a_probe_with_an_odd_value_is_refused(key: str, value: str) -> None:
    with pytest.raises(HostError):
        parse(probed(**{key: value}), SET)


@pytest.mark.parametrize("key", ["lock.pid", "lock.since"])
def test_a_lock_without_numbers_is_told_and_one_with_odd_ones_refused(key: str) -> None:
    lock = {"lock.holder": "ann", "lock.pid": "7", "lock.since": "9"}
    lock |= {"lock.boot_id": "b", "lock.alive": "no"}
    assert parse(probed(**{**lock, key: ""}), SET).lock is not None
    with pytest.raises(HostError, match=key):
        parse(probed(**{**lock, key: "-1e9"}), SET)
