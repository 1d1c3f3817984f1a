from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slots.settings import config_error, nearest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class _Http(_Strict):
    kind: Literal["http"]
    url: str


class _Command(_Strict):
    kind: Literal["command"]
    command: tuple[str, ...]


class _Host(_Strict):
    port: int = Field(default=22, ge=1)
    colour: _Colour = _Colour.RED
    checks: tuple[Annotated[_Http | _Command, Field(discriminator="kind")], ...] = ()


class _File(_Strict):
    formats: tuple[Literal["uzip", "squashfs"], ...] = ("uzip",)
    cluster: int | None = None
    budget: int | Annotated[str, Field(pattern="^[0-9]+%$")] = 0
    hosts: dict[str, _Host] = {}
    packing: dict[Literal["uzip", "squashfs"], int] = {}


def _fault(settings: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        _File.model_validate(settings)
    return config_error(caught.value, _File, "x.toml").message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clustr": 1}, ["clustr is unknown (did you mean cluster?)"]),
        ({"formats": ["uzp"]}, ["formats[0] is 'uzp', not one of squashfs, uzip", "mean uzip?"]),
        ({"hosts": {"www1": {"prot": 1}}}, ["hosts.www1.prot is unknown (did you mean port?)"]),
        ({"hosts": {"www1": {"port": 0}}}, ["hosts.www1.port: must be at least 1, not 0"]),
        ({"hosts": {"www1": {"colour": "gren"}}}, ["not one of green, red (did you mean green?)"]),
        (
            {"hosts": {"a": {"checks": [{"kind": "http", "url": "x", "uri": "y"}]}}},
            ["hosts.a.checks[0].http.uri is unknown (did you mean url?)"],
        ),
        ({"hosts": {"a": {"checks": [{"kind": "http"}]}}}, ["checks[0].http.url is missing"]),
        ({"zzzzz": 1}, ["zzzzz is unknown"]),
        (
            {"hosts": {"a": {"checks": [{"kind": "htp"}]}}},
            ["hosts.a.checks[0].kind is 'htp', not one of http, command (did you mean http?)"],
        ),
        ({"hosts": {"a": {"checks": [{}]}}}, ["hosts.a.checks[0].kind is missing"]),
        ({"hosts": {"a": {"checks": "x"}}}, ["hosts.a.checks: must be a list, not 'x'"]),
        ({"hosts": {"a": 1}}, ["hosts.a: must be a table, not 1"]),
        ({"hosts": {"a": {"port": []}}}, ["hosts.a.port: must be a whole number"]),
        ({"formats": "uzip"}, ["formats: must be a list, not 'uzip'"]),
        (
            {"budget": "ten"},
            ["budget: must be a whole number or must match ^[0-9]+%$, not 'ten'"],
        ),
        (
            {"packing": {"squashf": 1}},
            ["packing.squashf is 'squashf', not one of squashfs, uzip (did you mean squashfs?)"],
        ),
    ],
)
def test_a_fault_names_its_place_and_the_nearest_right_name(
    settings: dict[str, Any], words: list[str]
) -> None:
    message = _fault(settings)
    assert message.startswith("x.toml: 1 setting is wrong: ")
    for word in words:
        assert word in message


def test_all_faults_are_named_at_once() -> None:
    message = _fault({"clustr": 1, "format": ["uzip"], "cluster": "big"})
    assert len(message.splitlines()) == 4
    assert message.startswith("x.toml: 3 settings are wrong:\n  ")
    assert "clustr" in message
    assert "did you mean formats?" in message
    assert "not 'big'" in message


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    assert nearest("qqqq", ["uzip", "squashfs"]) == ""
    assert nearest("Cluster", ["cluster"]) == "cluster"
