"""The benchmarks that a recipe's `evaluation:` names, as commands. No torch here."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from composer.errors import ConfigError
from composer.recipe.evaluation import EvaluationConfig
from composer.recipe.yamlfile import Origin, parse_yaml

RESULTS = "results.json"
"""The file that a complete `composer evaluate` leaves in its folder."""


@dataclass(frozen=True)
class Evaluation:
    """One benchmark of a run. name: of its folder, which no two share: `mlvu`, `mlvu-2`, `mlvu-blind`."""

    name: str
    config: EvaluationConfig

    def words(self, checkpoint: Path, folder: Path, *more: str) -> tuple[str, ...]:
        """The words after `composer` that evaluate a checkpoint, with `more` flags, and write to `folder`."""
        options = self.config.model_dump(mode="json")
        changes = _leaves("model", options.pop("model", {}))
        flags = [(name.replace("_", "-"), value) for name, value in options.items() if name != "benchmark"]
        typed = (f"--{name}={_text(value)}" for name, value in (*flags, *changes))
        return ("evaluate", str(checkpoint), options["benchmark"], *typed, *more, "--output", str(folder))


def named(configs: Sequence[EvaluationConfig]) -> list[Evaluation]:
    """Evaluations with a name each."""
    evaluations: dict[str, Evaluation] = {}
    for config in configs:
        condition = [config.condition] if "condition" in config.model_fields_set else []
        stem = "-".join([config.benchmark.name.replace("/", "-"), *condition])
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        name = next(name for name in names if name not in evaluations)
        evaluations[name] = Evaluation(name, config)
    return list(evaluations.values())


def _leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """The values of nested mappings by dotted keys."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield key, value


def _text(value: object) -> str:
    """A value as a flag has it: text as it is if YAML reads it as that text, else JSON."""
    if isinstance(value, str):
        try:
            if parse_yaml(value, Origin("")).value == value:
                return value
        except ConfigError:
            pass
    return json.dumps(value)
