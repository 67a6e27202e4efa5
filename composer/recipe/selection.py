"""Selects the component of a slot and its options from several layers. Does not import torch.

The rule: options next to a component's name apply only if that component is selected in the end; options without a name
apply to any selected component; later layers override earlier ones. A slot is a chain of components, of length one for
all but the reducer, and the n-th `tome` of one layer's chain is the n-th `tome` of the others'.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from composer.errors import ConfigError
from composer.plugin import Slot
from composer.recipe.explain import got
from composer.recipe.shipped import SUFFIXES
from composer.recipe.yamlfile import Located, Origin, load_yaml, merged


@dataclass
class Choice:
    """A component's name, and the options next to it."""

    name: str
    origin: Origin
    options: dict[str, Located] = field(default_factory=dict)

    def set(self, option: str, value: Located) -> None:
        """Override an option; mappings are merged key by key."""
        self.options[option] = merged(self.options[option], value) if option in self.options else value


@dataclass(frozen=True)
class Loose:
    """An option without a component's name. index: index in the chain; None if the chain has only one component."""

    index: int | None
    option: str
    value: Located


@dataclass
class Statement:
    """A layer's values of a slot. chain: the components that it names; None if it names none."""

    chain: list[Choice] | None = None
    loose: list[Loose] = field(default_factory=list)


def read_slot(kind: Slot, value: Located) -> Statement:
    """Parse a slot's value in one layer: a name, a YAML file, a mapping with or without a name, for the reducer a list.

    Raises:
        ConfigError: With the value's origin.
    """
    value = _follow(value, ())
    content = value.value
    many = kind == "reducer"
    if content is None and many:
        return Statement([])
    if isinstance(content, list) and many:
        return Statement([_choice(f"model.reducer.{index}", item) for index, item in enumerate(content)])
    if isinstance(content, str) or (isinstance(content, dict) and "name" in content):
        return Statement([_choice(f"model.{kind}", value)])
    if isinstance(content, dict):
        return Statement(None, [loose for key in content for loose in _loose(key, content[key], many)])
    expected = "a component's name, a mapping with `name:` and options, or a YAML file"
    raise ConfigError(got(f"model.{kind}", value, expected + (", or a list of these" if many else "")))


def combine(statements: Sequence[Statement]) -> tuple[Statement, list[Choice]]:
    """Merge statements; later ones override earlier ones.

    Returns:
        The merged statement, in which options that match no component of the chain stay loose, and the choices whose
        options were dropped with their component.
    """
    chains = [statement.chain for statement in statements if statement.chain is not None]
    if not chains:
        return Statement(None, [loose for statement in statements for loose in statement.loose]), []
    selected = Statement([Choice(choice.name, choice.origin) for choice in chains[-1]])
    by_key = dict(_with_keys(selected.chain or []))
    dropped: list[Choice] = []
    for statement in statements:
        for key, choice in _with_keys(statement.chain or []):
            if key in by_key:
                for option, value in choice.options.items():
                    by_key[key].set(option, value)
            elif choice.options:
                dropped.append(choice)
        for loose in statement.loose:
            target = _target(selected.chain or [], loose)
            if target is None:
                selected.loose.append(loose)
            else:
                target.set(loose.option, loose.value)
    return selected, dropped


def _with_keys(chain: Sequence[Choice]) -> Iterator[tuple[tuple[str, int], Choice]]:
    names = [choice.name for choice in chain]
    for index, choice in enumerate(chain):
        yield (choice.name, names[:index].count(choice.name)), choice


def _target(chain: Sequence[Choice], loose: Loose) -> Choice | None:
    if loose.index is None:
        return chain[0] if len(chain) == 1 else None
    return chain[loose.index] if loose.index < len(chain) else None


def _choice(key: str, value: Located) -> Choice:
    value = _follow(value, ())
    if isinstance(value.value, str):
        return Choice(value.value, value.origin)
    if not isinstance(value.value, dict) or "name" not in value.value:
        raise ConfigError(got(key, value, "a component's name, or a mapping with `name:`"))
    options = dict(value.value)
    name = options.pop("name")
    if not isinstance(name.value, str):
        raise ConfigError(got(f"{key}.name", name, "a component's name"))
    return Choice(name.value, name.origin, options)


def _loose(key: str, value: Located, many: bool) -> list[Loose]:
    if not (many and key.isdigit()):
        return [Loose(None, key, value)]
    if not isinstance(value.value, dict) or "name" in value.value:
        expected = "options of that place of the chain; to change which components it has, give the complete list"
        raise ConfigError(got(f"model.reducer.{key}", value, expected))
    return [Loose(int(key), option, item) for option, item in value.value.items()]


def _follow(value: Located, above: tuple[Path, ...]) -> Located:
    """The content of the YAML file that a value names, or the value itself."""
    if not (isinstance(value.value, str) and value.value.endswith(SUFFIXES)):
        return value
    path = value.origin.folder / value.value
    if path.resolve() in above:
        raise ConfigError(f"{value.origin}: a file cannot include itself: {path}")
    return _follow(load_yaml(path, value.origin), (*above, path.resolve()))
