"""What commands share in their arguments: types of argparse, recipes and the flags of their sections."""

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from composer.errors import ConfigError
from composer.plugin import SLOTS
from composer.recipe.explain import nearest
from composer.recipe.overrides import MAPPINGS, SCALARS, as_parts, from_environment, take_flags
from composer.recipe.resolve import CONFIGS
from composer.recipe.shipped import locate

RECIPE = "a recipe: a YAML file, a folder of stages such as 1-pretrain.yaml, or composer:NAME"


class RecipeParser(argparse.ArgumentParser):
    """Takes the flags of a recipe's sections, whose names argparse cannot know, into `flags`; refuses unknown ones.

    flags: as typed, each with its value. layers: the same and the environment variables, as `resolve` takes them.
    """

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags, rest = take_flags(args)
        namespace, unknown = self.parse_known_args(rest, namespace)
        check_rest(unknown, [name for action in self._actions for name in action.option_strings])
        namespace.flags = flags
        namespace.layers = {"flags": as_parts(flags), "environment": from_environment(os.environ)}
        return namespace


def add_overlays(parser: argparse.ArgumentParser, which: str = "each stage") -> None:
    """The option `--overlay FILE`."""
    parser.add_argument(
        "--overlay",
        action="append",
        type=recipe_path,
        default=[],
        metavar="FILE",
        help=f"recipe that overrides the one of {which}; may be given again",
    )


def recipe_path(text: str) -> Path:
    """A recipe's path; `composer:NAME` is one that comes with composer."""
    return locate(text)


def check_rest(arguments: Sequence[str], known: Iterable[str]) -> None:
    """Raise ConfigError for arguments that no one takes. known: the command's own flags."""
    flags = [*known, *(f"--{section}" for section in (*MAPPINGS, *SCALARS))]
    problems = []
    previous = ""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("-"):
            problems.append(f"{flag}: unknown flag{_instead(flag.lstrip('-'), flags)}")
        elif not previous.startswith("--") or "=" in previous:
            problems.append(f"{argument!r}: expected a flag such as --trainer.max_steps=100")
        previous = argument
    if problems:
        raise ConfigError(problems)


def _instead(name: str, flags: Sequence[str]) -> str:
    """The option that a flag may mean: of one section, else the flag with the nearest name."""
    sections = {**{section: [*config.model_fields] for section, config in CONFIGS.items()}, "model": [*SLOTS, "prompt"]}
    option = name.partition(".")[0].replace("-", "_")
    owners = [section for section, options in sections.items() if option in options]
    if len(owners) == 1:
        return f"; did you mean --{owners[0]}.{name.replace('-', '_')}?"
    return nearest(f"--{name.partition('.')[0]}", flags) or f". Flags: {', '.join(dict.fromkeys(flags))}"


def positive(text: str) -> int:
    """An integer of at least 1."""
    return _at_least(1, text)


def natural(text: str) -> int:
    """An integer of at least 0."""
    return _at_least(0, text)


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of at least 0")
    return number


def _at_least(least: int, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer of at least {least}")
    return int(text)
