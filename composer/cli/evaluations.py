"""The benchmarks that a recipe's `evaluation:` names, and the commands that ask them. No torch here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from composer.cli.evaluate import check_words
from composer.errors import ComposerError, ConfigError
from composer.recipe.yamlfile import Origin, load_recipes
from composer.registry import load_registry

EVALUATION = "evaluation"
RESULTS = "results.json"
"""What a `composer evaluate` that has ended well leaves in its folder."""


@dataclass(frozen=True)
class Evaluation:
    """One benchmark with its options. name: of its folder, which no two share: `mlvu`, `mlvu-2`, `mlvu-blind`. flags:
    options, as typed. origin: file and line."""

    benchmark: str
    name: str
    flags: tuple[str, ...]
    origin: Origin

    def words(self, checkpoint: Path, folder: Path, *more: str) -> tuple[str, ...]:
        """What follows `composer` to ask a checkpoint, with `more` flags, and to write into `folder`."""
        return ("evaluate", str(checkpoint), self.benchmark, *self.flags, *more, "--output", str(folder))


def evaluations_of(recipe: Path, overlays: Sequence[Path]) -> list[Evaluation]:
    """What `evaluation:` lists, in a folder's `evaluation.yaml` or in a recipe itself; an overlay's list replaces it.

    Raises ConfigError, with file and line, for anything but a list of benchmarks, and for options that `composer
    evaluate` would refuse, so that they are not found out only after all training.
    """
    path = recipe / f"{EVALUATION}.yaml" if recipe.is_dir() else recipe
    own = load_recipes([path]) if path.is_file() else []
    if recipe.is_dir():
        wrong = [item for file in own for key, item in file.value.items() if key != EVALUATION]
        if wrong:
            raise ConfigError([f"{item.origin}: expected only the section `evaluation:` here." for item in wrong])
    asked = [file.value[EVALUATION] for file in [*own, *load_recipes(overlays)] if EVALUATION in file.value]
    if not asked:
        return []
    if not isinstance(asked[-1].value, list):
        got = asked[-1].plain()
        raise ConfigError(
            f"{asked[-1].origin}: evaluation: got {got!r}, expected a list such as [{{benchmark: NAME}}]."
        )
    found: list[Evaluation] = []
    problems: list[str] = []
    for item in asked[-1].value:
        options = item.plain()
        benchmark = options.pop("benchmark", None) if isinstance(options, dict) else None
        if not isinstance(benchmark, str):
            raise ConfigError(f"{item.origin}: evaluation: got {item.plain()!r}, expected {{benchmark: NAME, ...}}.")
        benchmark = load_registry().canonical_name("benchmark", benchmark)
        given = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()]
        stem = benchmark.replace("/", "-") + (f"-{options['condition']}" if "condition" in options else "")
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        name = next(name for name in names if name not in {other.name for other in found})
        asks = Evaluation(benchmark, name, tuple(given), item.origin)
        try:
            check_words(asks.words(Path("checkpoint"), Path("folder"))[1:])
        except ComposerError as error:
            problems += [f"{item.origin}: evaluation: {problem}" for problem in str(error).split("\n")]
        found.append(asks)
    if problems:
        raise ConfigError(problems)
    return found
