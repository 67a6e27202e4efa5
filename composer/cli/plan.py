"""`composer plan`: what a recipe will cost, before anything is downloaded."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from composer.discovery import stdout_to_stderr
from composer.errors import ConfigError
from composer.recipe.explain import validated
from composer.recipe.overrides import from_environment, from_flags
from composer.recipe.resolve import resolve
from composer.recipe.stages import stages_of
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Located, Origin, load_recipes, merged

SUMMARY = "Say what a recipe will cost, and whether it fits, without weights or data."
SECTIONS = ("model", "training", "data", "trainer")
DEVICES = ("h200", "h100", "a800", "a100")


class Parser(argparse.ArgumentParser):
    """Puts flags of a recipe's sections aside as `flags`: argparse cannot know their names."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags: dict[str, list[Located]] = {}
        for section in SECTIONS:
            flags[section], args = from_flags(args, section)
        namespace, unknown = super().parse_known_args(args, namespace)
        namespace.flags = flags
        return namespace, unknown


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Flags such as --model.reducer.keep_ratio=0.2 and --data.frames=32 change every stage."
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="a folder of stages such as 1-pretrain.yaml, or one recipe"
    )
    parser.add_argument(
        "--overlay", action="append", type=Path, default=[], metavar="FILE", help="recipe over that of each stage"
    )
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")
    parser.add_argument("--device", choices=DEVICES, default="h200", help="whose peak times are of (default: h200)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="how many of them (default: 1)")
    parser.add_argument(
        "--utilization", type=float, default=0.4, metavar="SHARE", help="share of the peak reached (default: 0.4)"
    )
    parser.add_argument(
        "--text-tokens", type=int, default=128, metavar="N", help="tokens of a question and its answer (default: 128)"
    )


def run(args: argparse.Namespace) -> int:
    _check(args)
    stages = []
    for stage in stages_of(args.recipe):
        resolved = resolve(
            load_recipes([stage.path, *args.overlay]),
            flags=args.flags["model"],
            environment=from_environment(os.environ),
        )
        sections = resolved.sections
        for section in SECTIONS[1:]:
            for flag in args.flags[section]:
                sections = merged(sections, Located({section: flag}, flag.origin))
        training = sections.value.get("training", Located({}, Origin("training")))
        trained = validated(TrainingConfig, "training", training)
        stages.append((stage.name, replace(resolved, sections=sections), trained))
    from composer.planning.plan import Assumptions, plan_recipe

    assumed = Assumptions(args.device, args.utilization, args.devices, args.text_tokens)
    with stdout_to_stderr():
        plan = plan_recipe(stages, assumed)
    if args.json:
        sys.stdout.write(json.dumps(plan.as_json(), indent=2) + "\n")
    else:
        from composer.planning.table import show

        show(plan)
    return 0


def _check(args: argparse.Namespace) -> None:
    problems = []
    if not 0 < args.utilization <= 1:
        problems.append(f"--utilization: got {args.utilization}, expected a share from 0 to 1, such as 0.4.")
    problems += [
        f"--{name.replace('_', '-')}: got {value}, expected at least {least}."
        for name, value, least in (("devices", args.devices, 1), ("text_tokens", args.text_tokens, 2))
        if value < least
    ]
    if problems:
        raise ConfigError(problems)
