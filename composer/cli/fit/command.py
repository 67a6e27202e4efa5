"""`composer fit | validate | test | predict`: resolve the recipe before torch is loaded."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from composer.atomic import check_writable
from composer.cli.arguments import check_rest, recipe_path
from composer.cli.fit.help import help_text
from composer.cli.fit.job import FitJob
from composer.errors import CheckpointError, ConfigError
from composer.recipe.data import SPLITS_OF
from composer.recipe.explain import differences
from composer.recipe.missing import check_present
from composer.recipe.overrides import from_environment, from_flags, take_flags
from composer.recipe.resolve import Layer, Recipe, merge_sections, resolve
from composer.recipe.yamlfile import Located, load_recipes

CHECKPOINTS = "checkpoints"
PRINT = "--print_config"
ANSWERING = ("test", "predict")
"""Commands that ask questions, which needs no Lightning."""


def run(command: str, summary: str, arguments: Sequence[str]) -> int:
    """Run one of these commands. Raises ConfigError, before torch is loaded if no checkpoint is read."""
    parser = argparse.ArgumentParser(prog=f"composer {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", type=recipe_path, default=[])
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--help-all", action="store_true")
    flags, rest = from_flags(arguments)
    options, rest = parser.parse_known_args(rest)
    if options.help or options.help_all:
        sys.stdout.write(help_text(command, summary))
        if options.help_all:
            from composer.cli.fit.launch import print_all_options

            print_all_options()
        return 0
    printed = [argument for argument in rest if argument.partition("=")[0] == PRINT]
    check_rest([argument for argument in rest if argument not in printed], ["--config", PRINT])
    job = _job(command, options.config, flags, printed[-1] if printed else None)
    job = replace(job, arguments=_with_last(arguments, options.config, job.folder))
    if command in ANSWERING and not job.print_config:
        from composer.cli.fit.answer import answer

        return answer(job)
    from composer.cli.fit.launch import launch

    return launch(job)


def _job(command: str, paths: Sequence[Path], flags: Layer, print_config: str | None) -> FitJob:
    files, environment = load_recipes(paths), from_environment(os.environ)
    stated = merge_sections([*files, *environment, *flags])
    resume = _text(stated, ["ckpt_path"])
    folder = Path(_text(stated, ["trainer", "default_root_dir"]) or _run_folder(paths, resume))
    checkpoint: Path | None = None
    hparams: Mapping[str, object] = {}
    if command != "fit":
        checkpoint = _checkpoint(command, resume, folder)
        hparams = _hparams(checkpoint)
    recipe = resolve(files, flags=flags, environment=environment, checkpoint=hparams)
    if not print_config:
        _check_files(command, recipe, folder, paths[-1] if paths else None)
    _tell(recipe, hparams)
    if command == "fit":
        checkpoint = _checkpoint(command, resume, folder)
        if resume == "last" and checkpoint is None:
            initial = recipe.training.initial_weights
            start = "afresh" if initial is None else f"from {initial}"
            _say(f"no checkpoint in {str(folder)!r} yet: starting {start}")
    return FitJob(command, recipe, folder, checkpoint, print_config)


def _check_files(command: str, recipe: Recipe, folder: Path, path: Path | None) -> None:
    """Raise ComposerError if the run folder cannot be used, or data are missing, before anything is written."""
    if not recipe.trainer.fast_dev_run:
        check_writable(folder / (f"{CHECKPOINTS}/last.ckpt" if command == "fit" else "predictions.jsonl"))
        if command == "fit" and recipe.ckpt_path is None:
            _check_unused(folder)
    check_present(recipe.data, SPLITS_OF[command], path)


def _hparams(checkpoint: Path | None) -> Mapping[str, object]:
    """The recipe that a checkpoint was trained by."""
    if checkpoint is None:
        return {}
    from composer.model.checkpoint import read_checkpoint

    hparams: Mapping[str, object] = read_checkpoint(checkpoint, resume=False)["hyper_parameters"]
    return hparams


def _text(stated: Located, path: Sequence[str]) -> str | None:
    """A text at a path of what the layers say, None if there is none; a folder's name may be a number."""
    value = stated.at(path).value
    return str(value) if isinstance(value, str | int | float) else None


def _tell(recipe: Recipe, hparams: Mapping[str, object]) -> None:
    """Say which options were dropped, and what of the model is not as the checkpoint has it."""
    if recipe.note:
        _say(recipe.note)
    if hparams:
        for line in differences(hparams["model"], recipe.model.model_dump(mode="json"), "model"):
            _say(f"unlike the checkpoint, {line}")


def _with_last(arguments: Sequence[str], recipes: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """These arguments with the newest checkpoint of the run instead of the one that they may name."""
    _, others = take_flags(arguments, "ckpt_path")
    named = any(argument.partition("=")[0] == "--trainer.default_root_dir" for argument in others)
    place = [] if named or folder == _run_folder(recipes, "last") else [f"--trainer.default_root_dir={folder}"]
    return (*others, *place, "--ckpt_path", "last")


def _run_folder(recipes: Sequence[Path], checkpoint: str | None) -> Path:
    """The run folder: named after the last recipe, else the folder of the checkpoint."""
    if recipes:
        return Path("runs") / recipes[-1].stem
    if checkpoint is None or checkpoint == "last":
        return Path("runs") / "model"
    path = Path(checkpoint)
    path = path.parent if path.is_file() else path
    return path.parent if path.name == CHECKPOINTS else path


def _check_unused(folder: Path) -> None:
    """Raise ConfigError if a new run would overwrite the checkpoints of another one."""
    if any(folder.rglob("*.ckpt")):
        raise ConfigError(
            f"The run folder {str(folder)!r} already contains checkpoints. Use --ckpt_path last to resume that run, "
            "--trainer.default_root_dir=DIR to start a new one, or delete the folder"
        )


def _checkpoint(command: str, asked: str | None, folder: Path) -> Path | None:
    """The file to load. Without one, `last` starts a new run of `fit`, and is an error in other commands."""
    if asked is None:
        if command != "fit":
            _say("no --ckpt_path: the model keeps its initial weights")
        return None
    if asked != "last" and Path(asked).is_file():
        return Path(asked)
    if asked != "last" and not Path(asked).is_dir():
        raise CheckpointError(f"There is no checkpoint {asked!r}: give a checkpoint file, a run folder, or `last`")
    from composer.model.checkpoint import newest

    searched = folder if asked == "last" else Path(asked)
    found = newest(searched)
    if found is None and not (command == "fit" and asked == "last"):
        raise CheckpointError(f"There is no complete checkpoint in {str(searched)!r}: train with `composer fit` first")
    if found is not None:
        _say(f"checkpoint {found}")
    return found


def _say(text: str) -> None:
    # Lightning starts one process per device with the same command line.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(f"composer: {text}\n")
