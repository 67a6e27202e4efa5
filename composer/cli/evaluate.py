"""`composer evaluate`: asks a trained model a benchmark's questions and prints the result."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer.cli.arguments import natural, positive
from composer.errors import ConfigError
from composer.evaluation.benchmarks import evaluate
from composer.evaluation.questions import skipped_lines
from composer.evaluation.report import Result, result_table
from composer.figures.tables import print_table
from composer.plugin import SlotConfig
from composer.recipe.components import slot_config
from composer.recipe.evaluation import split_commas
from composer.recipe.explain import validated
from composer.recipe.overrides import from_flags
from composer.recipe.yamlfile import Located, Origin, parse_yaml
from composer.registry import load_registry

SUMMARY = "Evaluate a trained model on a benchmark."


class Parser(argparse.ArgumentParser):
    """Collects unknown flags in `other`: they are options of the benchmark or of the model."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        namespace, other = self.parse_known_args(args, namespace)
        namespace.other = other
        return namespace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint file, or a run folder (its newest checkpoint)"
    )
    parser.add_argument("benchmark", metavar="NAME", help="an installed benchmark")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="answers and results (default: evaluation/NAME next to CHECKPOINT)",
    )
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--num-workers", type=natural, default=2, metavar="N", help="processes that decode media (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (a GPU if there is one), cpu, cuda, cuda:1 ..."
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="ask at most N questions of each task")
    parser.add_argument(
        "--condition",
        choices=("normal", "blind", "shuffled"),
        default="normal",
        help="how videos are shown: as they are, as gray frames, as their frames in random order",
    )
    options = [f"  {p.component.name}: {' '.join(_flags(p.component.config))}" for p in load_registry().of("benchmark")]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        [
            "options of a benchmark, each as --OPTION=VALUE:",
            *options,
            "",
            "Any option of the model can be changed: --model.reducer.keep_ratio=0.1",
            "Of several processes (RANK, WORLD_SIZE) each asks its share; the last one writes the results.",
        ]
    )


def run(args: argparse.Namespace) -> int:
    name = load_registry().canonical_name("benchmark", args.benchmark)
    model_flags, rest = from_flags(args.other, "model")
    result = evaluate(
        args.checkpoint,
        _options(name, rest),
        output=args.output,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=args.device,
        limit=args.limit,
        condition=args.condition,
        model=model_flags,
    )
    if result is not None:
        _print(result)
    return 0


def _print(result: Result) -> None:
    print_table(result_table(result.summary, result.metrics, result.published, result.skipped))
    sys.stdout.write("\n".join([*skipped_lines(result.skipped), f"{result.path}\n"]))


def _flags(config: type) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in config.model_fields]  # type: ignore[attr-defined]


def _options(name: str, arguments: Sequence[str]) -> SlotConfig:
    """The benchmark's options. Raises ConfigError with every problem, PluginError for an unknown benchmark."""
    config = slot_config("benchmark", name)
    origin = Origin("command line")
    given = {"name": Located(name, origin)}
    remaining = list(arguments)
    while remaining:
        flag, equals, text = remaining.pop(0).partition("=")
        if not flag.startswith("--") or len(flag) < 3:
            raise ConfigError(f"{flag!r}: got a word, expected an option as --OPTION=VALUE")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{flag}: a value is missing: {flag}=VALUE")
            text = remaining.pop(0)
        option = flag[2:].replace("-", "_")
        given[option] = split_commas(config, option, parse_yaml(text, Origin(flag)))
    return validated(config, name, Located(given, origin))
