"""`composer plan`: what a recipe will cost, before anything is downloaded."""

import argparse
import json
import sys

from composer.cli.arguments import RECIPE, RecipeParser, add_overlays, recipe_path
from composer.discovery import stdout_to_stderr
from composer.errors import ConfigError
from composer.recipe.stages import resolve_stages

SUMMARY = "Estimate a recipe's cost and check that it fits, without downloading weights or data."
DEVICES = ("h200", "h100", "a800", "a100")

Parser = RecipeParser


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Flags such as --model.prompt.layout=inline and --data.frames=32 change every stage."
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    add_overlays(parser)
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
    stages = [(stage.name, stage.recipe) for stage in resolve_stages(args.recipe, args.overlay, **args.layers)]
    from composer.planning.plan import plan

    options = {name: getattr(args, name) for name in ("device", "devices", "utilization", "text_tokens")}
    with stdout_to_stderr():
        result = plan(stages, **options)
    if args.json:
        sys.stdout.write(json.dumps(result.as_json(), indent=2) + "\n")
    else:
        from composer.planning.table import show

        show(result)
    return 0


def _check(args: argparse.Namespace) -> None:
    problems = []
    if not 0 < args.utilization <= 1:
        problems.append(f"--utilization: got {args.utilization}, expected a share from 0 to 1, such as 0.4")
    problems += [
        f"--{name.replace('_', '-')}: got {value}, expected at least {least}"
        for name, value, least in (("devices", args.devices, 1), ("text_tokens", args.text_tokens, 2))
        if value < least
    ]
    if problems:
        raise ConfigError(problems)
