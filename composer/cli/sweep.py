"""`composer sweep`: one checkpoint's scores against the share of tokens kept and the order of merged tokens."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from composer.atomic import check_writable
from composer.cli.evaluations import EVALUATION, RESULTS, Evaluation, evaluations_of
from composer.errors import CheckpointError, ConfigError
from composer.recipe.overrides import from_flags
from composer.recipe.resolve import resolve
from composer.recipe.stages import run_folder, stages_of
from composer.recipe.yamlfile import Located, Origin, load_recipes, nested
from composer.registry import load_registry
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
    parser.add_argument("recipe", type=Path, help="a folder of stages or one recipe, as `composer run` takes it")
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
    parser.add_argument(
        "--overlay", action="append", type=Path, default=[], metavar="FILE", help="recipe over that of the last stage"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="file or run folder (default: the last stage's in the run)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    stage = stages_of(args.recipe)[-1]
    output = args.output or run_folder(args.recipe)
    check_writable(output / LOG)
    evaluations = evaluations_of(args.recipe, args.overlay)
    if not evaluations:
        where = f"{args.recipe / f'{EVALUATION}.yaml'}" if args.recipe.is_dir() else "the recipe"
        raise ConfigError(
            f"{args.recipe}: no benchmark is named, expected {EVALUATION}: [{{benchmark: NAME}}] in {where} or in an "
            "--overlay FILE."
        )
    keys = [_checked([stage.path, *args.overlay], asked, args.keep_ratio, args.order) for asked in evaluations]
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


def _checked(recipes: Sequence[Path], asked: Evaluation, ratios: Sequence[float], orders: Sequence[str]) -> str:
    """Where the model's `keep_ratio` and `order` are: `model.reducer`, or `model.reducer.N` in a chain.

    Raises ConfigError where no reducer has them, and with every value that it refuses.
    """
    files = load_recipes(recipes)
    flags = from_flags(asked.flags, "model")[0]
    chain = resolve(files, flags=flags).model.reducer
    place = next((n for n, reducer in enumerate(chain) if type(reducer).model_fields.keys() >= set(OPTIONS)), None)
    if place is None:
        able = [
            p.component.name
            for p in load_registry().of("reducer")
            if set(OPTIONS) <= p.component.config.model_fields.keys()
        ]
        raise ConfigError(
            f"{recipes[0]}: model.reducer: got {', '.join(reducer.name for reducer in chain) or 'none'}, expected one "
            f"with the options {' and '.join(OPTIONS)}, which a sweep changes. Installed: {', '.join(able) or 'none'}."
        )
    path = ["reducer", *([str(place)] if len(chain) > 1 else [])]
    problems: list[str] = []
    for option, value in (*(("keep_ratio", ratio) for ratio in ratios), *(("order", order) for order in orders)):
        try:
            resolve(files, flags=[*flags, nested([*path, option], Located(value, Origin(f"--{option}")))])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return ".".join(["model", *path])


def _digest(checkpoint: Path, recipe: Path) -> str:
    """What tells a checkpoint file, or the newest one of a folder, from others. Raises CheckpointError without one."""
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
