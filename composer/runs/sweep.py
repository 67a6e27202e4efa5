"""One checkpoint's scores against the share of tokens kept and the order of merged tokens. No torch here."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from composer.atomic import check_writable
from composer.errors import CheckpointError, ConfigError
from composer.evaluation.sweep import Point, sweep_points, write_points
from composer.recipe.overrides import from_environment
from composer.recipe.resolve import Layer, resolve
from composer.recipe.stages import EVALUATION, ResolvedStage, resolve_stages, run_folder
from composer.recipe.yamlfile import Located, Origin, located, nested
from composer.registry import load_registry
from composer.runs.evaluations import RESULTS, Evaluation, named
from composer.runs.process import start_process
from composer.runs.steps import LOG, Step, carry_out

RATIOS = tuple(tenth / 10 for tenth in range(1, 11))
ORDERS = ("none", "ascending", "descending")
"""The orders that AuroraLong's supplement compares (figures D2 to D4)."""

OPTIONS = ("keep_ratio", "order")
"""Options of a reducer that a sweep changes."""


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep.

    Attributes:
        status: 0, or the exit status of the evaluation that failed; then there are no points.
        points: Every score of each benchmark, by the evaluation's name.
        paths: The files that were written: the numbers, then a figure of each benchmark.
    """

    status: int
    points: dict[str, list[Point]]
    paths: tuple[Path, ...]


def sweep(
    recipe: Path,
    *,
    keep_ratios: Sequence[float] = RATIOS,
    orders: Sequence[str] = ORDERS,
    overlays: Sequence[Path] = (),
    checkpoint: Path | None = None,
    output: Path | None = None,
) -> Sweep:
    """Evaluate a checkpoint at every kept ratio with every order of merged tokens, and draw the scores.

    Every cell is a `composer evaluate` in a process of its own. A killed sweep resumes with the same call.

    Args:
        recipe: A folder of stages or one recipe, as `composer run` takes it.
        keep_ratios: Shares of tokens kept, above 0 and up to 1.
        orders: Orders of merged tokens.
        overlays: Recipes over that of the last stage.
        checkpoint: File or run folder; that of the run's last stage if not given.
        output: Folder of the run; `runs/RECIPE` if not given.

    Returns:
        The scores and the files.

    Raises:
        ConfigError: No benchmark is named, or no reducer has the options `keep_ratio` and `order`, or refuses a value.
        CheckpointError: There is no checkpoint.
        DataError: No answer of a benchmark was graded.
    """
    environment = from_environment(os.environ)
    stage = resolve_stages(recipe, overlays, environment=environment)[-1]
    output = output or run_folder(recipe)
    check_writable(output / LOG)
    evaluations = named(stage.recipe.evaluation)
    if not evaluations:
        where = f"{recipe / f'{EVALUATION}.yaml'}" if recipe.is_dir() else "the recipe"
        raise ConfigError(
            f"{recipe}: no benchmark is named, expected {EVALUATION}: [{{benchmark: NAME}}] in {where} or in an "
            "--overlay FILE"
        )
    keys = [_checked(stage, environment, evaluation, keep_ratios, orders) for evaluation in evaluations]
    checkpoint = checkpoint or output / stage.name
    about = {"checkpoint": _digest(checkpoint, recipe)}
    folder = output / "sweep"
    cells = list(product(keep_ratios, orders))
    commands = {
        path: evaluation.words(checkpoint, path, *flags)
        for evaluation, key in zip(evaluations, keys, strict=True)
        for path, flags in (_cell(folder / evaluation.name, key, *cell) for cell in cells)
    }
    steps = [
        Step(f"{path} (cell {n} of {len(commands)})", words, path, about, None, RESULTS, f"after moving {folder} away")
        for n, (path, words) in enumerate(commands.items(), start=1)
    ]
    status = carry_out(steps, folder, start_process)
    return Sweep(status, {}, ()) if status else _write(folder, evaluations, cells)


def _checked(
    stage: ResolvedStage, environment: Layer, evaluation: Evaluation, ratios: Sequence[float], orders: Sequence[str]
) -> str:
    """The key of the reducer with `keep_ratio` and `order`: `model.reducer`, or `model.reducer.N` in a chain.

    Raises ConfigError if no reducer has them, and with every value that it refuses.
    """
    changes = [located({"model": evaluation.config.model}, Origin("evaluation"))]
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
            "--checkpoint PATH"
        )
    with newest.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _cell(folder: Path, key: str, ratio: float, order: str) -> tuple[Path, list[str]]:
    """A cell's folder and flags. With all tokens kept nothing is merged, so that all orders share one cell."""
    flags = [f"--{key}.keep_ratio={ratio}"]
    if ratio == 1:
        return folder / f"keep-ratio-{ratio}", flags
    return folder / f"keep-ratio-{ratio}-{order}", [*flags, f"--{key}.order={order}"]


def _write(folder: Path, evaluations: Sequence[Evaluation], cells: Sequence[tuple[float, str]]) -> Sweep:
    """Write `sweep.csv` and a figure for each benchmark."""
    from composer.figures.sweep import draw_sweep

    points: dict[str, list[Point]] = {}
    figures = []
    for evaluation in evaluations:
        paths = {cell: _cell(folder / evaluation.name, "", *cell)[0] / RESULTS for cell in cells}
        results = {cell: json.loads(path.read_text("utf-8")) for cell, path in paths.items()}
        points[evaluation.name] = sweep_points(evaluation.name, results)
        figures.append(folder / f"{evaluation.name}.png")
        draw_sweep(points[evaluation.name], figures[-1])
    numbers = folder / "sweep.csv"
    write_points([point for group in points.values() for point in group], numbers)
    return Sweep(0, points, (numbers, *figures))
