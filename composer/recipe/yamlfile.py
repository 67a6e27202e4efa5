"""YAML with the origin of every value, and files that include others. Does not import torch."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from composer.errors import ConfigError
from composer.recipe.shipped import locate


@dataclass(frozen=True)
class Origin:
    """Origin of a value: a file and line, a flag, or a variable. folder: start of relative paths in the value."""

    source: str
    line: int | None = None
    folder: Path = Path()

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Located:
    """A value with its origin: a scalar, a list of `Located`, or a mapping from str to `Located`."""

    value: Any
    origin: Origin

    def plain(self) -> Any:
        """Copy the value without origins."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def at(self, path: Sequence[str | int]) -> "Located":
        """Get the value at a path, or the nearest value above it."""
        here = self
        for key in path:
            if isinstance(here.value, dict) and str(key) in here.value:
                here = here.value[str(key)]
            elif isinstance(here.value, list) and isinstance(key, int) and key < len(here.value):
                here = here.value[key]
            else:
                break
        return here


def located(value: object, origin: Origin) -> Located:
    """Give a plain value and everything in it the same origin."""
    if isinstance(value, dict):
        return Located({str(key): located(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Located([located(item, origin) for item in value], origin)
    return Located(value, origin)


def nested(path: Sequence[str], value: Located) -> Located:
    """Nest a value: (("a", "b"), 1) is {a: {b: 1}}."""
    for key in reversed(path):
        value = Located({key: value}, value.origin)
    return value


def merged(lower: Located, upper: Located, component: bool = False) -> Located:
    """Merge two values: mappings key by key; otherwise the upper value.

    component: whether they are a component's options, so that those of the lower are dropped if the upper has a
    different `name`. This is so for a `reader`; elsewhere, as in a logger's options, `name` is an ordinary key.
    """
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    names = [side.value["name"].value for side in (lower, upper) if "name" in side.value]
    if component and len(names) == 2 and all(isinstance(name, str) for name in names) and names[0] != names[1]:
        return upper
    both = {
        key: merged(lower.value[key], upper.value[key], component=key == "reader")
        for key in lower.value.keys() & upper.value.keys()
    }
    return Located(lower.value | upper.value | both, upper.origin)


def load_recipes(paths: Iterable[Path]) -> list[Located]:
    """Load recipes and their includes in increasing priority: each file's includes in order, then the file itself.

    Raises:
        ConfigError: A file is missing, is not a YAML mapping, or includes itself.
    """
    return [file for path in paths for file in _with_includes(path, ())]


def load_yaml(path: Path, named_at: Origin | None = None) -> Located:
    """Load one file. named_at: origin of its name, for the message if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        prefix = f"{named_at}: " if named_at else ""
        raise ConfigError(f"{prefix}cannot read {str(path)!r}: {reason}") from error
    return parse_yaml(text, Origin(str(path), 1, path.parent))


@lru_cache(maxsize=256)  # the stages of a recipe include the same files
def parse_yaml(text: str, origin: Origin) -> Located:
    """Parse YAML text. If `origin` has no line (a flag, a variable), it is the origin of every value."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return Located(None, origin) if node is None else _walk(loader, node, origin, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = origin if origin.line is None or mark is None else Origin(origin.source, mark.line + 1)
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{origin}: not YAML: {error}") from error


def _with_includes(path: Path, above: tuple[Path, ...], named_at: Origin | None = None) -> Iterator[Located]:
    if path.resolve() in above:
        chain = " includes ".join(str(p.name) for p in [*above[above.index(path.resolve()) :], path])
        raise ConfigError(f"{named_at}: include: a file cannot include itself: {chain}")
    content = load_yaml(path, named_at)
    if content.value is None:
        content = Located({}, content.origin)
    if not isinstance(content.value, dict):
        raise ConfigError(f"{content.origin}: a recipe is a mapping with sections such as `model:`")
    include = content.value.get("include")
    for item in [] if include is None else include.value if isinstance(include.value, list) else [include]:
        if not isinstance(item.value, str):
            raise ConfigError(f"{item.origin}: include: got {item.plain()!r}, expected a path or a list of paths")
        yield from _with_includes(locate(item.value, path.parent), (*above, path.resolve()), item.origin)
    yield Located({key: value for key, value in content.value.items() if key != "include"}, content.origin)


def _walk(loader: "_Loader", node: yaml.Node, base: Origin, above: tuple[yaml.Node, ...]) -> Located:
    origin = base if base.line is None else Origin(base.source, node.start_mark.line + 1, base.folder)
    if node in above:
        raise ConfigError(f"{origin}: got an anchor that contains itself, expected a finite value")
    if isinstance(node, yaml.SequenceNode):
        return Located([_walk(loader, item, base, (*above, node)) for item in node.value], origin)
    if not isinstance(node, yaml.MappingNode):
        return Located(loader.construct_object(node), origin)
    keys = [key.value for key, _ in node.value]
    loader.flatten_mapping(node)  # the keys of `<<:` come first, so that the mapping's own keys override them
    items: dict[str, Located] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{origin}: a key must be plain text")
        if keys.count(key.value) > 1:
            raise ConfigError(f"{Origin(base.source, key.start_mark.line + 1)}: {key.value!r} is given twice")
        items[key.value] = _walk(loader, item, base, (*above, node))
    return Located(items, origin)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its pitfalls: `1e-3` is a number; `on`, `off`, `yes`, `no` and dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern) for tag, pattern in rules if tag.rpartition(":")[2] not in ("bool", "float", "timestamp")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9_]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
