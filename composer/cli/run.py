"""`composer run`: a recipe's stages one after the other, then its benchmarks. Everything is an ordinary command."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from composer.atomic import check_writable
from composer.cli.evaluations import EVALUATION, RESULTS, evaluations_of
from composer.errors import ConfigError
from composer.recipe.explain import nearest, validated
from composer.recipe.overrides import from_environment, from_flags, take_flags
from composer.recipe.resolve import recorded, resolve
from composer.recipe.stages import Stage, run_folder, stages_of
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Located, load_recipes, merged
from composer.runs.process import start_process
from composer.runs.steps import LOG, Step, carry_out, set_aside

SUMMARY = "Train a recipe's stages one after the other, then evaluate; go on where it stopped."

PASSED = ("model", "training", "data", "trainer")


class Parser(argparse.ArgumentParser):
    """Puts the flags that every stage gets aside as `flags`: argparse cannot know their names."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags: list[str] = []
        for section in PASSED:
            found, args = take_flags(args, section)
            flags += [f"{flag}={text}" for flag, text in found]
        namespace, unknown = super().parse_known_args(args, namespace)
        namespace.flags = flags
        return namespace, unknown


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every flag --model.*, --training.*, --data.* and --trainer.* of `composer fit` is given to each stage."
    )
    parser.add_argument("recipe", type=Path, help="a folder of stages such as 1-pretrain.yaml, or one recipe")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stage", metavar="NAME", help="only this stage; the one before must be finished")
    which.add_argument(
        "--from",
        dest="start",
        metavar="NAME",
        help="do this stage and all after it again; their folders are set aside. `evaluation`: only the benchmarks",
    )
    parser.add_argument(
        "--overlay", action="append", type=Path, default=[], metavar="FILE", help="recipe over that of each stage"
    )
    parser.add_argument("--seed_everything", metavar="SEED", help="seed of every stage")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")


def run(args: argparse.Namespace) -> int:
    stages = stages_of(args.recipe)
    flags = [*args.flags, *([] if args.seed_everything is None else [f"--seed_everything={args.seed_everything}"])]
    _refuse_own(flags)
    output = args.output or run_folder(args.recipe)
    check_writable(output / LOG)
    fits = list(_fits(stages, args.overlay, flags, output))
    evaluations = list(_evaluations(args.recipe, [stages[-1].path, *args.overlay], flags, fits[-1], output))
    if args.stage is not None:
        _known("--stage", args.stage, [step.name for step in fits])
        return carry_out([step for step in fits if step.name == args.stage], output, start_process)
    if args.start is not None:
        names = [step.name for step in fits]
        _known("--from", args.start, [*names, EVALUATION])
        again = [] if args.start == EVALUATION else fits[names.index(args.start) :]
        # Last first: killed in between, what is left is still a whole beginning of the run.
        for folder in (output / EVALUATION, *(step.folder for step in reversed(again))):
            set_aside(folder)
    return carry_out([*fits, *evaluations], output, start_process)


def _fits(stages: Sequence[Stage], overlays: Sequence[Path], flags: Sequence[str], output: Path) -> Iterator[Step]:
    """A step for each stage. Raises ConfigError for the first stage whose recipe is wrong."""
    overlays = [path for path in overlays if not _only_evaluation(path)]
    previous: Step | None = None
    for stage in stages:
        words = ["fit"]
        for path in (stage.path, *overlays):
            words += ["--config", str(path)]
        if previous is not None:
            words.append(f"--training.initial_weights={previous.folder}")
        folder = output / stage.name
        words += ["--ckpt_path", "last", f"--trainer.default_root_dir={folder}", *flags]
        previous = Step(stage.name, tuple(words), folder, _recipe([stage.path, *overlays], flags), previous)
        yield previous


def _only_evaluation(overlay: Path) -> bool:
    """Whether a file and what it includes say nothing but `evaluation:`, which no stage reads."""
    return {key for file in load_recipes([overlay]) for key in file.value} == {EVALUATION}


def _recipe(paths: Sequence[Path], flags: Sequence[str]) -> dict[str, Any]:
    """All that a stage's files say, resolved, and checked as far as it can be without torch."""
    layers = {section: from_flags(flags, section)[0] for section in ("model", "training")}
    resolved = resolve(load_recipes(paths), flags=layers["model"], environment=from_environment(os.environ))
    sections = {key: value for key, value in resolved.sections.value.items() if key != EVALUATION}
    training = sections.get("training", Located({}, resolved.sections.origin))
    for layer in layers["training"]:
        training = merged(training, layer)
    validated(TrainingConfig, "training", training)
    plain = {key: value.plain() for key, value in sections.items()}
    return {"model": recorded(resolved.model), **plain}


def _evaluations(
    recipe: Path, trained: Sequence[Path], flags: Sequence[str], last: Step, output: Path
) -> Iterator[Step]:
    """A step for each benchmark that `evaluation:` names. trained: the files of the last stage.

    Raises ConfigError for a benchmark that cannot be asked, or not of this model.
    """
    for asked in evaluations_of(recipe, trained[1:]):
        try:
            layers = from_flags([*flags, *asked.flags], "model")[0]
            resolve(load_recipes(trained), flags=layers, environment=from_environment(os.environ))
        except ConfigError as error:
            raise ConfigError([f"{asked.origin}: evaluation: {problem}" for problem in error.problems]) from error
        folder = output / EVALUATION / asked.name
        words = asked.words(last.folder, folder)
        yield Step(f"{EVALUATION}/{asked.name}", words, folder, {}, last, RESULTS, f"with --from {EVALUATION}")


def _refuse_own(flags: Sequence[str]) -> None:
    """Raise ConfigError for flags that `composer run` sets itself."""
    instead = {
        "--trainer.default_root_dir": "every stage has a folder of its own; set the run's with --output DIR.",
        "--training.initial_weights": "a stage starts from the one before; write the first one's in its own file.",
    }
    given = [flag.partition("=")[0] for flag in flags]
    if problems := [f"{flag}: {instead[flag]}" for flag in given if flag in instead]:
        raise ConfigError(problems)


def _known(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ConfigError(f"{flag}: got {name!r}, expected one of {', '.join(names)}{nearest(name, names)}")
