"""`composer run`: a recipe's stages one after the other, then its benchmarks. Everything is an ordinary command."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from composer.atomic import check_writable
from composer.cli.arguments import RECIPE, RecipeParser, add_overlays, recipe_path
from composer.errors import ComposerError, ConfigError
from composer.recipe.data import SPLITS_OF
from composer.recipe.explain import nearest
from composer.recipe.missing import check_present
from composer.recipe.resolve import SECTIONS, Layer, merge_sections, recorded
from composer.recipe.stages import EVALUATION, ResolvedStage, resolve_stages, run_folder
from composer.recipe.yamlfile import load_recipes
from composer.runs.evaluations import RESULTS, named
from composer.runs.process import start_process
from composer.runs.steps import LOG, Step, carry_out, is_finished, set_aside

SUMMARY = "Train a recipe's stages one after the other, then evaluate. Resumes where it stopped."

Parser = RecipeParser


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every stage gets the flags --model.*, --training.*, --data.*, --trainer.* and --seed_everything of "
        "`composer fit`."
    )
    parser.add_argument("recipe", type=recipe_path, metavar="RECIPE", help=RECIPE)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stage", metavar="NAME", help="only this stage; the one before must be finished")
    which.add_argument(
        "--from",
        dest="start",
        metavar="NAME",
        help="rerun from this stage; old folders are renamed. `evaluation`: only the benchmarks",
    )
    add_overlays(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    _refuse_own([flag for flag, _ in args.flags])
    stages = resolve_stages(args.recipe, args.overlay, **args.layers)
    output = args.output or run_folder(args.recipe)
    fits = list(_fits(stages, args, output))
    names = [step.name for step in fits]
    steps = [*fits, *_evaluations(stages[-1], fits[-1], output)]
    again: list[Step] = []
    if args.stage is not None:
        _known("--stage", args.stage, names)
        steps = [step for step in fits if step.name == args.stage]
    if args.start is not None:
        _known("--from", args.start, [*names, EVALUATION])
        again = [] if args.start == EVALUATION else fits[names.index(args.start) :]
    check_writable(output / LOG)
    for stage, step in zip(stages, fits, strict=True):
        if step in again or (step in steps and not is_finished(step)):
            _check_data(stage, args.recipe)
    if args.start is not None:
        # Last first: killed in between, the rest is still a complete beginning of the run.
        for folder in (output / EVALUATION, *(step.folder for step in reversed(again))):
            set_aside(folder)
    return carry_out(steps, output, start_process)


def _check_data(stage: ResolvedStage, recipe: Path) -> None:
    """Raise ConfigError or DataError if the data of a stage are missing, naming the stage."""
    try:
        check_present(stage.recipe.data, SPLITS_OF["fit"], recipe)
    except ComposerError as error:
        raise type(error)(f"{stage.name}: {error}") from error


def _fits(stages: Sequence[ResolvedStage], args: argparse.Namespace, output: Path) -> Iterator[Step]:
    """A step for each stage."""
    overlays = [path for path in args.overlay if not _only_evaluation(path)]
    by_section = sorted(args.flags, key=lambda flag: SECTIONS.index(flag[0][2:].partition(".")[0]))
    flags = [f"{flag}={text}" for flag, text in by_section]
    previous: Step | None = None
    for stage in stages:
        words = ["fit"]
        for path in (stage.path, *overlays):
            words += ["--config", str(path)]
        if previous is not None:
            words.append(f"--training.initial_weights={previous.folder}")
        folder = output / stage.name
        words += ["--ckpt_path", "last", f"--trainer.default_root_dir={folder}", *flags]
        previous = Step(stage.name, tuple(words), folder, _record(stage, args.layers["environment"]), previous)
        yield previous


def _only_evaluation(overlay: Path) -> bool:
    """Whether a file and what it includes say nothing but `evaluation:`, which no stage reads."""
    return {key for file in load_recipes([overlay]) for key in file.value} == {EVALUATION}


def _record(stage: ResolvedStage, environment: Layer) -> dict[str, Any]:
    """What a finished stage remembers of its recipe; its flags are in the command."""
    sections = merge_sections([*stage.files, *environment]).plain()
    return {"model": recorded(stage.recipe.model)} | {key: v for key, v in sections.items() if key != EVALUATION}


def _evaluations(stage: ResolvedStage, last: Step, output: Path) -> Iterator[Step]:
    """A step for each benchmark of the last stage."""
    for evaluation in named(stage.recipe.evaluation):
        folder = output / EVALUATION / evaluation.name
        words = evaluation.words(last.folder, folder)
        yield Step(f"{EVALUATION}/{evaluation.name}", words, folder, {}, last, RESULTS, f"with --from {EVALUATION}")


def _refuse_own(given: Sequence[str]) -> None:
    """Raise ConfigError for flags that `composer run` sets itself."""
    instead = {
        "--ckpt_path": "every stage resumes its own run",
        "--trainer.default_root_dir": "every stage has a folder of its own; set the run's with --output DIR",
        "--training.initial_weights": "a stage starts from the one before; write the first one's in its own file",
    }
    if problems := [f"{flag}: {instead[flag]}" for flag in given if flag in instead]:
        raise ConfigError(problems)


def _known(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ConfigError(f"{flag}: got {name!r}, expected one of {', '.join(names)}{nearest(name, names)}")
