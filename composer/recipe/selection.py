"""Which component fills a slot, and with which options, when several layers have a say. No torch here.

One rule: options written next to a component's name count only if that component is finally selected; options
without a name apply to whatever is selected; later layers win. A slot is a chain of components, of length one for all
but the reducer, and the n-th `tome` of one layer's chain is the n-th `tome` of another's.
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
    """A component by name, and the options written next to it."""

    name: str
    origin: Origin
    options: dict[str, Located] = field(default_factory=dict)

    def set(self, option: str, value: Located) -> None:
        """Give an option a value that wins over the one before; mappings are merged key by key."""
        self.options[option] = merged(self.options[option], value) if option in self.options else value


@dataclass(frozen=True)
class Loose:
    """An option without a name. index: its place in the chain; None where the chain has only one."""

    index: int | None
    option: str
    value: Located


@dataclass
class Statement:
    """What a layer says of a slot. chain: the components it names; None where it names none."""

    chain: list[Choice] | None = None
    loose: list[Loose] = field(default_factory=list)


def read_slot(kind: Slot, value: Located) -> Statement:
    """A slot's value in one layer: a name, a YAML file, a mapping with or without a name, for the reducer a list.

    Raises ConfigError with the value's place.
    """
    value = _followed(value, ())
    content = value.value
    many = kind == "reducer"
    if content is None and many:
        return Statement([])
    if isinstance(content, list) and many:
        return Statement([_choice(f"model.reducer.{place}", item) for place, item in enumerate(content)])
    if isinstance(content, str) or (isinstance(content, dict) and "name" in content):
        return Statement([_choice(f"model.{kind}", value)])
    if isinstance(content, dict):
        return Statement(None, [loose for key in content for loose in _loose(key, content[key], many)])
    expected = "a component's name, a mapping with `name:` and options, or a YAML file"
    raise ConfigError(got(f"model.{kind}", value, expected + (", or a list of these" if many else "")))


def combine(statements: Sequence[Statement]) -> tuple[Statement, list[Choice]]:
    """Statements as one, the last one strongest, and the choices whose options were dropped with their component.

    Loose options that fit no place of the chain stay loose.
    """
    chains = [statement.chain for statement in statements if statement.chain is not None]
    if not chains:
        return Statement(None, [loose for statement in statements for loose in statement.loose]), []
    selected = Statement([Choice(choice.name, choice.origin) for choice in chains[-1]])
    by_key = dict(_keyed(selected.chain or []))
    dropped: list[Choice] = []
    for statement in statements:
        for key, choice in _keyed(statement.chain or []):
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


def _keyed(chain: Sequence[Choice]) -> Iterator[tuple[tuple[str, int], Choice]]:
    names = [choice.name for choice in chain]
    for place, choice in enumerate(chain):
        yield (choice.name, names[:place].count(choice.name)), choice


def _target(chain: Sequence[Choice], loose: Loose) -> Choice | None:
    if loose.index is None:
        return chain[0] if len(chain) == 1 else None
    return chain[loose.index] if loose.index < len(chain) else None


def _choice(key: str, value: Located) -> Choice:
    value = _followed(value, ())
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
        expected = "options of that place of the chain; to change which components it has, give the whole list"
        raise ConfigError(got(f"model.reducer.{key}", value, expected))
    return [Loose(int(key), option, item) for option, item in value.value.items()]


def _followed(value: Located, above: tuple[Path, ...]) -> Located:
    """The content of the YAML file that a value names, or the value itself."""
    if not (isinstance(value.value, str) and value.value.endswith(SUFFIXES)):
        return value
    path = value.origin.folder / value.value
    if path.resolve() in above:
        raise ConfigError(f"{value.origin}: a file cannot include itself: {path}")
    return _followed(load_yaml(path, value.origin), (*above, path.resolve()))
