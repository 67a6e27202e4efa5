"""`composer sweep`: one checkpoint's scores against the share of tokens kept and the order of merged tokens."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from composer.atomic import check_writable
from composer.cli.arguments import RECIPE, add_overlays, recipe_path
from composer.errors import CheckpointError, ConfigError
from composer.recipe.overrides import from_environment
from composer.recipe.resolve import Layer, resolve
from composer.recipe.stages import EVALUATION, ResolvedStage, resolve_stages, run_folder
from composer.recipe.yamlfile import Located, Origin, located, nested
from composer.registry import load_registry
from composer.runs.evaluations import RESULTS, Evaluation, named
from composer.runs.process import start_process
from composer.runs.steps import LOG, Step, carry_out

SUMMARY = "Evaluate a checkpoint over kept ratio and order of merged tokens; draw the curves."

RATIOS = tuple(tenth / 10 for tenth in range(1, 11))
ORDERS = ("none", "ascending", "descending")
"""The orders that AuroraLong's supplement compares (figures D2 to D4)."""

OPTIONS = ("keep_ratio", "order")
"""Options of a reducer that a sweep changes."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every cell is a `composer evaluate` that is shown as it is started. Killed at any moment, the same command "
        "goes on."
    )
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    parser.add_argument(
        "--keep-ratio",
        nargs="+",
        type=_share,
        default=RATIOS,
        metavar="SHARE",
        help="of tokens kept (default: 0.1 ... 1.0)",
    )
    parser.add_argument(
        "--order", nargs="+", default=ORDERS, metavar="ORDER", help=f"of merged tokens (default: {' '.join(ORDERS)})"
    )
    add_overlays(parser, "the last stage")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="file or run folder (default: the last stage's in the run)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    environment = from_environment(os.environ)
    stage = resolve_stages(args.recipe, args.overlay, environment=environment)[-1]
    output = args.output or run_folder(args.recipe)
    check_writable(output / LOG)
    evaluations = named(stage.recipe.evaluation)
    if not evaluations:
        where = f"{args.recipe / f'{EVALUATION}.yaml'}" if args.recipe.is_dir() else "the recipe"
        raise ConfigError(
            f"{args.recipe}: no benchmark is named, expected {EVALUATION}: [{{benchmark: NAME}}] in {where} or in an "
            "--overlay FILE"
        )
    keys = [_checked(stage, environment, asked, args.keep_ratio, args.order) for asked in evaluations]
    checkpoint = args.checkpoint or output / stage.name
    about = {"checkpoint": _digest(checkpoint, args.recipe)}
    folder = output / "sweep"
    cells = list(product(args.keep_ratio, args.order))
    commands = {
        path: asked.words(checkpoint, path, *flags)
        for asked, key in zip(evaluations, keys, strict=True)
        for path, flags in (_cell(folder / asked.name, key, *cell) for cell in cells)
    }
    steps = [
        Step(f"{path} (cell {n} of {len(commands)})", words, path, about, None, RESULTS, f"after moving {folder} away")
        for n, (path, words) in enumerate(commands.items(), start=1)
    ]
    if status := carry_out(steps, folder, start_process):
        return status
    _report(folder, evaluations, cells)
    return 0


def _share(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a share above 0 and up to 1, such as 0.1")
    return ratio


def _checked(
    stage: ResolvedStage, environment: Layer, asked: Evaluation, ratios: Sequence[float], orders: Sequence[str]
) -> str:
    """The key of the reducer with `keep_ratio` and `order`: `model.reducer`, or `model.reducer.N` in a chain.

    Raises ConfigError if no reducer has them, and with every value that it refuses.
    """
    changes = [located({"model": asked.config.model}, Origin("evaluation"))]
    chain = resolve(stage.files, environment=environment, flags=changes).model.reducer
    place = next((n for n, reducer in enumerate(chain) if type(reducer).model_fields.keys() >= set(OPTIONS)), None)
    if place is None:
        able = [
            p.component.name
            for p in load_registry().of("reducer")
            if set(OPTIONS) <= p.component.config.model_fields.keys()
        ]
        raise ConfigError(
            f"{stage.path}: model.reducer: got {', '.join(reducer.name for reducer in chain) or 'none'}, expected one "
            f"with the options {' and '.join(OPTIONS)}, which a sweep changes. Installed: {', '.join(able) or 'none'}"
        )
    path = ["model", "reducer", *([str(place)] if len(chain) > 1 else [])]
    problems: list[str] = []
    for option, value in (*(("keep_ratio", ratio) for ratio in ratios), *(("order", order) for order in orders)):
        try:
            change = nested([*path, option], Located(value, Origin(f"--{option}")))
            resolve(stage.files, environment=environment, flags=[*changes, change])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return ".".join(path)


def _digest(checkpoint: Path, recipe: Path) -> str:
    """Content hash of a checkpoint file, or of the newest one of a folder. Raises CheckpointError without one."""
    files = [checkpoint] if checkpoint.is_file() else checkpoint.rglob("*.ckpt")
    newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        raise CheckpointError(
            f"There is no checkpoint in {checkpoint}: train it with `composer run {recipe}`, or name another one with "
            "--checkpoint PATH."
        )
    with newest.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _cell(folder: Path, key: str, ratio: float, order: str) -> tuple[Path, list[str]]:
    """A cell's folder and flags. With all tokens kept nothing is merged, so that all orders share one cell."""
    given = [f"--{key}.keep_ratio={ratio}"]
    if ratio == 1:
        return folder / f"keep-ratio-{ratio}", given
    return folder / f"keep-ratio-{ratio}-{order}", [*given, f"--{key}.order={order}"]


def _report(folder: Path, evaluations: Sequence[Evaluation], cells: Sequence[tuple[float, str]]) -> None:
    """Write `sweep.csv` and a picture for each benchmark, and print a table for each."""
    from rich.console import Console

    from composer.evaluation.sweep import sweep_points, sweep_table, write_points
    from composer.figures.sweep import draw_sweep

    console = Console()
    written = [folder / "sweep.csv"]
    points = []
    for asked in evaluations:
        paths = {cell: _cell(folder / asked.name, "", *cell)[0] / RESULTS for cell in cells}
        found = sweep_points(asked.name, {cell: json.loads(path.read_text("utf-8")) for cell, path in paths.items()})
        picture = folder / f"{asked.name}.png"
        draw_sweep(found, picture)
        sys.stdout.write(f"\n{asked.name}, {found[0].task}: score (share of the best) in percent\n")
        console.print(sweep_table(found))
        written.append(picture)
        points += found
    write_points(points, written[0])
    sys.stdout.write("".join(f"{path}\n" for path in written))
