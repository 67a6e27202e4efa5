"""Flags and environment variables that set values of a recipe. Does not import torch."""

import re
from collections.abc import Mapping, Sequence

from composer.errors import ConfigError
from composer.recipe.yamlfile import Located, Origin, nested, parse_yaml

MAPPINGS = ("model", "training", "data", "trainer")
"""Sections with keys: `--data.frames=4`, `COMPOSER_DATA__FRAMES=4`."""

SCALARS = ("seed_everything", "ckpt_path")
"""Sections that are one value: `--seed_everything=4`, `COMPOSER_SEED_EVERYTHING=4`."""

_VARIABLE = re.compile(rf"COMPOSER_(\w+?__\w+|{'|'.join(name.upper() for name in SCALARS)})")


def from_flags(arguments: Sequence[str], *sections: str) -> tuple[list[Located], list[str]]:
    """Parse the flags of sections.

    Args:
        arguments: Arguments of a command.
        *sections: Names of sections; all if not given.

    Returns:
        The flags as parts of a recipe, in order, and all other arguments.

    Raises:
        ConfigError: A flag has no key or no value.
    """
    pairs, rest = take_flags(arguments, *sections)
    return as_parts(pairs), rest


def take_flags(arguments: Sequence[str], *sections: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Split arguments into flags (`--SECTION.KEY=VALUE` or `--SECTION.KEY VALUE`) with their values, and the others."""
    sections = sections or (*MAPPINGS, *SCALARS)
    pairs: list[tuple[str, str]] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        flag, equals, text = argument.partition("=")
        section, *path = flag.removeprefix("--").split(".")
        if not flag.startswith("--") or section not in sections:
            rest.append(argument)
            continue
        if "" in path or bool(path) == (section in SCALARS):
            reason = "expected" if section in SCALARS else "got no key, expected"
            raise ConfigError(f"{flag}: {reason} --{section}{'' if section in SCALARS else '.KEY'}=VALUE")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{flag}: a value is missing: {flag}=VALUE")
            text = remaining.pop(0)
        pairs.append((flag, text))
    return pairs, rest


def as_parts(flags: Sequence[tuple[str, str]]) -> list[Located]:
    """Convert flags and their values to parts of a recipe."""
    return [nested(flag[2:].split("."), parse_yaml(text, Origin(flag))) for flag, text in flags]


def from_environment(environment: Mapping[str, str]) -> list[Located]:
    """Convert variables such as `COMPOSER_MODEL__BACKBONE__NAME=transformer` to parts of a recipe."""
    return [
        nested(match[1].lower().split("__"), parse_yaml(text, Origin(f"${name}")))
        for name, text in sorted(environment.items())
        if (match := _VARIABLE.fullmatch(name))
    ]
