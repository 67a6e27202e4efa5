"""Flags and environment variables that set something in a section of a recipe. No torch here."""

from collections.abc import Mapping, Sequence

from composer.errors import ConfigError
from composer.recipe.yamlfile import Located, Origin, nested, parse_yaml

PREFIX = "COMPOSER_MODEL__"


def from_flags(arguments: Sequence[str], section: str) -> tuple[list[Located], list[str]]:
    """The `--SECTION.KEY=VALUE` and `--SECTION.KEY VALUE` flags as mappings, in order, and all other arguments.

    Raises ConfigError for a flag without a key or a value.
    """
    pairs, rest = take_flags(arguments, section)
    return [nested(flag.split(".")[1:], parse_yaml(text, Origin(flag))) for flag, text in pairs], rest


def take_flags(arguments: Sequence[str], section: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The same flags as they were typed, each with its value. Raises as `from_flags` does."""
    found: list[tuple[str, str]] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        flag, equals, text = argument.partition("=")
        if flag != f"--{section}" and not flag.startswith(f"--{section}."):
            rest.append(argument)
            continue
        path = flag.split(".")[1:]
        if not path or "" in path:
            raise ConfigError(f"{flag}: got no key, expected --{section}.KEY=VALUE.")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{flag}: a value is missing: {flag}=VALUE.")
            text = remaining.pop(0)
        found.append((flag, text))
    return found, rest


def from_environment(environment: Mapping[str, str]) -> list[Located]:
    """Variables such as `COMPOSER_MODEL__BACKBONE__NAME=transformer` as mappings of the model section."""
    return [
        nested(name.removeprefix(PREFIX).lower().split("__"), parse_yaml(text, Origin(f"${name}")))
        for name, text in sorted(environment.items())
        if name.startswith(PREFIX)
    ]
