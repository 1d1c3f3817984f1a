"""What is wrong with a settings file, all of it at once, with the nearest right name.

Recipes and inventories are TOML checked by pydantic models; each package reads its own files and
hands pydantic's verdict to `config_error`.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slots.errors import ConfigError

Loc = tuple[int | str, ...]


def config_error(error: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    """Return the error that names every wrong setting of the file `where`."""
    faults = list(dict.fromkeys(_fault(one, model) for one in error.errors(include_url=False)))
    count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
    return ConfigError(f"{where}: {count} wrong: " + "; ".join(faults))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name that was most likely meant, or nothing."""
    by_folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else ""


def _fault(detail: ErrorDetails, model: type[BaseModel]) -> str:
    loc, kind = detail["loc"], detail["type"]
    is_key = loc[-1:] == ("[key]",)  # the name of a table is wrong, not what stands in it
    loc = loc[:-1] if is_key else loc
    place = _place(loc, detail.get("input"))
    if kind == "extra_forbidden":
        names = _names(_annotations(model, loc[:-1]))
        return f"{place} is unknown{_suggestion(str(loc[-1]), names)}"
    if kind == "missing":
        return f"{place} is missing"
    if kind in {"literal_error", "enum"}:
        allowed = _keys(_annotations(model, loc[:-1])) if is_key else _annotations(model, loc)
        values = sorted(set(_values(allowed)))
        expected = ", ".join(values) or str(detail.get("ctx", {}).get("expected", ""))
        wrong = detail["input"]
        return f"{place} is {wrong!r}, not one of {expected}{_suggestion(str(wrong), values)}"
    if kind == "value_error":
        return f"{place}: {detail['ctx']['error']}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{place}: {message}{_given(detail['input'])}"


def _place(loc: Loc, given: object) -> str:
    """Return the dotted place of a fault, lists with their index; union tags stay readable."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or f"the whole ({type(given).__name__})"


def _given(value: object) -> str:
    text = repr(value)
    return "" if isinstance(value, dict | list) or len(text) > 60 else f", not {text}"


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
