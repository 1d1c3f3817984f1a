"""What is wrong with a settings file, all of it at once, with the nearest right name.

Recipes and inventories are TOML checked by pydantic models; each package reads its own files and
hands pydantic's verdict to `config_error`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slots.errors import ConfigError

Loc = tuple[int | str, ...]


class SettingsError(ConfigError):
    """A file with wrong settings: all of them, each a line of its own."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        lines = f" {faults[0]}" if len(faults) == 1 else "".join(f"\n  {one}" for one in faults)
        super().__init__(f"{where}: {count} wrong:{lines}")
        self.faults = tuple(faults)


def config_error(error: ValidationError, model: type[BaseModel], where: str) -> SettingsError:
    """Return the error that names every wrong setting of the file `where`."""
    return SettingsError(where, faults(error, model))


def document_error(error: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    """Return what is wrong with a file that a program of ours wrote: nobody mistyped it."""
    if any(one["type"] == "json_invalid" for one in error.errors(include_url=False)):
        return ConfigError(f"{where} is damaged: it is no JSON", hint="build or copy it again")
    return config_error(error, model, where)


def faults(error: ValidationError, model: type[BaseModel]) -> tuple[str, ...]:
    """Return every wrong setting as a line; what none of several types fits is told once."""
    told: dict[Loc, list[str]] = {}
    for detail in error.errors(include_url=False):
        place = _without_types(detail["loc"], model)
        if detail["type"] != "too_short" or not any(_below_it(one, place) for one in told):
            told.setdefault(place, []).append(_fault({**detail, "loc": place}, model))
    return tuple(dict.fromkeys(_either(list(dict.fromkeys(lines))) for lines in told.values()))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name that was most likely meant, or nothing."""
    by_folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else ""


def _fault(detail: ErrorDetails, model: type[BaseModel]) -> str:
    loc, kind = detail["loc"], detail["type"]
    is_key = loc[-1:] == ("[key]",)  # the name of a table is wrong, not what stands in it
    loc = loc[:-1] if is_key else loc
    context = detail.get("ctx", {})
    if kind.startswith("union_tag"):
        return _tag_fault(_place((*loc, _tag(context))), context)
    place = _place(loc)
    if kind == "extra_forbidden":
        names = _names(_annotations(model, loc[:-1]))
        return f"{place} is unknown{_suggestion(str(loc[-1]), names)}"
    if kind == "missing":
        return f"{place} is missing"
    if kind in {"literal_error", "enum"}:
        allowed = _keys(_annotations(model, loc[:-1])) if is_key else _annotations(model, loc)
        values = sorted(set(_values(allowed))) or [str(context.get("expected", ""))]
        return f"{place} is {_shown(detail['input'])}, {_not_one_of(detail['input'], values)}"
    if kind == "value_error":
        return f"{place}: {context['error']}"
    return f"{place}: {_rule(kind, context, detail['msg'])}{_given(detail['input'])}"


def _tag_fault(place: str, context: Mapping[str, Any]) -> str:
    """Return what is wrong with the field that says of which kind a table is."""
    if "tag" not in context:
        return f"{place} is missing"
    values = re.findall(r"'([^']*)'", str(context["expected_tags"]))
    return f"{place} is {context['tag']!r}, {_not_one_of(context['tag'], values)}"


# What pydantic's types of error mean to who wrote the file; `{}` are the numbers of its context.
_RULES: Mapping[str, str] = {
    "string_type": "must be a text",
    "path_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dataclass_type": "must be a table",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length} of them",
    "too_long": "takes at most {max_length} of them",
    "string_too_short": "is too short: at least {min_length} characters",
    "string_too_long": "is too long: at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}


def _rule(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _RULES:
        return _RULES[kind].format_map({name: _plain(value) for name, value in context.items()})
    return message[:1].lower() + message[1:]


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _either(lines: list[str]) -> str:
    """Return the faults of one place as one: it fits none of the types that may stand there."""
    first, *others = lines
    head = first.partition(": ")[0] + ": "
    if not others or not all(one.startswith(head) for one in others):
        return "; ".join(lines)
    rules = [one.removeprefix(head).partition(", not ")[0] for one in lines]
    given = first.partition(", not ")
    return head + " or ".join(dict.fromkeys(rules)) + "".join(given[1:])


def _without_types(loc: Loc, model: type[BaseModel]) -> Loc:
    """Return a place without the steps that only name a type of a plain union."""
    kept: list[int | str] = []
    for part in loc:
        here = _annotations(model, tuple(kept))
        plain = len(here) > 1 and not any(map(_is_model, here))
        if not (plain and isinstance(part, str) and part != "[key]" and not _steps(here, part)):
            kept.append(part)
    return tuple(kept)


def _below_it(loc: Loc, place: Loc) -> bool:
    """Tell whether a fault lies inside this place: a list of wrong entries is not also short."""
    return len(loc) > len(place) and loc[: len(place)] == place


def _steps(annotations: Iterable[Any], part: int | str) -> bool:
    return any(True for one in annotations for _ in _below(one, part))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tag(context: Mapping[str, Any]) -> str:
    return str(context.get("discriminator", "kind")).strip("'")


def _not_one_of(wrong: object, values: Sequence[str]) -> str:
    return f"not one of {', '.join(values)}{_suggestion(str(wrong), values)}"


def _place(loc: Loc) -> str:
    """Return the dotted place of a fault, lists with their index; union tags stay readable."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the whole"


def _shown(value: object) -> str:
    """Return a value as a TOML file would show it, roughly."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return repr(value)
    return "a table" if isinstance(value, dict) else "a list"


def _given(value: object) -> str:
    text = _shown(value)
    return "" if not isinstance(value, str | int | float) or len(text) > 60 else f", not {text}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    meant = nearest(word, known)
    return f" (did you mean {meant}?)" if meant else ""


def _annotations(model: type[BaseModel], loc: Loc) -> list[Any]:
    """Follow a place through the models: the types that may stand there."""
    here: list[Any] = [model]
    for part in loc:
        here = [below for one in here for below in _below(one, part)] or here
    return [one for each in here for one in _alternatives(each)]


def _below(annotation: Any, part: int | str) -> Iterator[Any]:
    """Yield the types one step down; a union's tag is a step that leads nowhere new."""
    for one in _alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            for name, field in one.model_fields.items():
                if part in {name, field.alias}:
                    yield field.annotation
        elif get_origin(one) is dict:
            yield get_args(one)[1]
        elif isinstance(part, int):
            yield from (each for each in get_args(one) if each is not Ellipsis)


def _keys(annotations: Iterable[Any]) -> list[Any]:
    """Return what the keys of tables may be."""
    keys = [get_args(one)[0] for one in annotations if get_origin(one) is dict]
    return [one for each in keys for one in _alternatives(each)]


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield an annotation without Annotated, and a union as its members."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation


def _names(annotations: Iterable[Any]) -> list[str]:
    return [
        field.alias or name
        for one in annotations
        if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
    ]


def _values(annotations: Iterable[Any]) -> list[str]:
    values: list[str] = []
    for one in annotations:
        if get_origin(one) is Literal:
            values += [str(value) for value in get_args(one)]
        elif isinstance(one, type) and hasattr(one, "__members__"):
            values += [str(member.value) for member in one.__members__.values()]
    return values
