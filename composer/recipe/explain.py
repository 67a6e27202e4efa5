"""Error messages about a recipe: position of a value, got, expected. Does not import torch."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from composer.errors import ConfigError
from composer.recipe.yamlfile import Located, Origin

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
P = ParamSpec("P")


def validated(model: type[M], key: str, value: Located) -> M:
    """Validate a value.

    Args:
        model: The pydantic model.
        key: Key of the value; "" for the top level.
        value: The value.

    Raises:
        ConfigError: With every problem.
    """
    try:
        return model.model_validate(value.plain())
    except ValidationError as error:
        raise ConfigError(explain(error, model, key, value)) from error


def attempt(problems: list[str], make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call `make`. If it raises ConfigError, add its problems to `problems`, to report all at once, and return None."""
    try:
        return make(*args, **kwargs)
    except ConfigError as error:
        problems += error.problems
        return None


def place(origin: Origin, key: str) -> str:
    """Start of a message: `FILE:LINE: KEY`, or only the flag if it has the key's name."""
    return str(origin) if origin.source == f"--{key}" else f"{origin}: {key}"


def got(key: str, value: Located, expected: str) -> str:
    """Message for a value that cannot be used."""
    text = "no value" if value.value is None else repr(value.plain())
    return f"{place(value.origin, key)}: got {text}, expected {expected}"


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """End of a message for a name that does not exist: the nearest name, and all names."""
    names = list(names)
    return f"unknown {kind}{nearest(name, names) or '.'} {kind.capitalize()}s: {', '.join(names) or 'none'}"


def explain(error: ValidationError, model: type[BaseModel], key: str, value: Located) -> list[str]:
    """Make a message for each wrong key of the value at `key`, which `model` refused."""
    grouped: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(_path(detail, value), []).append(detail)
    keys = {path: ".".join(map(str, (key, *path))).lstrip(".") for path in grouped}
    return [
        f"{place(value.at(path).origin, keys[path])}: {_sentence(details, model, path)}"
        for path, details in grouped.items()
    ]


def nearest(name: str, names: Iterable[str]) -> str:
    """Suggestion `; did you mean 'x'?` with the nearest name, or ""."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def differences(before: object, now: object, key: str) -> Iterator[str]:
    """Describe the differences between two dumps of a model, one line each."""
    return (f"{path} is {new!r} and not {old!r}" for path, old, new in differing(before, now, key))


def differing(before: object, now: object, key: str) -> Iterator[tuple[str, object, object]]:
    """Yield each key below `key` whose values in two dumps differ, and the values; of two components only the names."""
    if isinstance(before, dict) and isinstance(now, dict):
        other = not _same_component(before.get("name"), now.get("name"))
        for name in ("name",) if other else dict.fromkeys((*before, *now)):
            if other or name != "name":
                yield from differing(before.get(name), now.get(name), f"{key}.{name}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, another) in enumerate(zip(before, now, strict=True)):
            yield from differing(one, another, f"{key}.{index}")
    elif before != now:
        yield key, before, now


def _same_component(before: object, now: object) -> bool:
    """Whether two names are of the same component; one may be the plain name and the other the qualified name."""
    if not (isinstance(before, str) and isinstance(now, str)) or ("/" in before) == ("/" in now):
        return bool(before == now)
    return before.rpartition("/")[2] == now.rpartition("/")[2]


def type_name(annotation: object) -> str:
    """Describe a type for the author of a recipe: `number | null`, `a | b`, `list of text`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if origin in (list, tuple, set, frozenset):
        return "list of " + " and ".join(type_name(a) for a in dict.fromkeys(arguments) if a is not Ellipsis)
    if origin is dict:
        return f"mapping of {type_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return str(annotation.model_config.get("title") or "mapping")
    names: dict[object, str] = {str: "text", int: "integer", float: "number", bool: "true | false", NoneType: "null"}
    names |= {dict: "mapping", object: "any"}
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation))


def takes_only_lists(annotation: object) -> bool:
    """Whether a type is a list, tuple, set or sequence, or one of these or null."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return takes_only_lists(arguments[0])
    if origin in (Union, UnionType):
        return all(branch is NoneType or takes_only_lists(branch) for branch in arguments)
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, Collection) and not issubclass(kind, str | bytes | Mapping)


def _path(detail: ErrorDetails, value: Located) -> tuple[str | int, ...]:
    """The part of pydantic's location that exists in the input; unions add the names of their branches."""
    path: tuple[str | int, ...] = ()
    here = value
    for step in detail["loc"]:
        below = here.at([step])
        if below is here:
            return (*path, step) if detail["type"] == "missing" else path
        path, here = (*path, step), below
    return path


def _sentence(details: list[ErrorDetails], model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    first = details[0]
    fields = {name: field for name, field in model.model_fields.items() if name != "name"}
    if first["type"] == "extra_forbidden" and len(path) == 1:
        if new := getattr(model, "renamed", {}).get(path[0]):
            return f"renamed to {new!r}"
        return unknown("option", str(path[0]), fields)
    if first["type"] == "missing" and len(path) == 1:
        return f"a value is missing; expected {_described(fields[str(path[0])])}"
    reasons = dict.fromkeys(_reason(detail) for detail in details)
    if first["type"] == "value_error" and not path:
        return " ".join(reasons).rstrip(".")
    return f"got {first['input']!r}, {' or '.join(reasons)}"


def _described(field: FieldInfo) -> str:
    return f"{type_name(field.annotation)}: {field.description or ''}".rstrip(": ").rstrip(".")


def _reason(detail: ErrorDetails) -> str:
    text = re.sub("^(Value error|Assertion failed), ", "", detail["msg"])
    text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return re.sub("^Input should be ", "expected ", text)
