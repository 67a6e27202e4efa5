"""`composer fit | validate | test | predict`: resolve the model before torch is loaded, then hand over to Lightning."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.atomic import check_writable
from composer.cli.fit.help import help_text
from composer.cli.fit.job import Job
from composer.errors import CheckpointError, ConfigError
from composer.recipe.explain import differences, nearest, validated
from composer.recipe.overrides import from_environment, from_flags
from composer.recipe.resolve import Layer, other_sections, resolve
from composer.recipe.sources import check_sources
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Located, Origin, load_recipes, located, merged

FLAGS = ("config", "model", "training", "data", "trainer", "seed_everything", "ckpt_path", "print_config")
CHECKPOINTS = "checkpoints"


def run(command: str, summary: str, arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands. Raises ConfigError, before torch is loaded where no checkpoint is read."""
    parser = argparse.ArgumentParser(prog=f"composer {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", type=Path, default=[])
    parser.add_argument("--ckpt_path")
    parser.add_argument("--trainer.default_root_dir", type=Path, dest="folder")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--help-all", action="store_true")
    model_flags, rest = from_flags(arguments, "model")
    training_flags, rest = from_flags(rest, "training")
    options, rest = parser.parse_known_args(rest)
    if options.help or options.help_all:
        sys.stdout.write(help_text(command, summary))
        if options.help_all:
            from composer.cli.fit.launch import print_all_options

            print_all_options()
        return 0
    if problems := list(_unknown(rest)):
        raise ConfigError(problems)
    job = _job(command, options, model_flags, training_flags, rest)
    from composer.cli.fit.launch import launch

    return launch(job)


def _job(command: str, options: argparse.Namespace, model_flags: Layer, training_flags: Layer, rest: list[str]) -> Job:
    files = load_recipes(options.config)
    sections = other_sections(files)
    folder = options.folder or sections.at(["trainer", "default_root_dir"]).value
    given = options.ckpt_path or sections.at(["ckpt_path"]).value
    asked = given if isinstance(given, str) else None
    if not isinstance(folder, str | Path):
        folder = _run_folder(options.config, asked)
    if not _writes_nothing(sections, rest):
        check_writable(Path(folder) / (f"{CHECKPOINTS}/last.ckpt" if command == "fit" else "predictions.jsonl"))
        if command == "fit" and asked is None:
            _check_unused(Path(folder))
    checkpoint = _checkpoint(command, asked, Path(folder))
    hparams: Mapping[str, Any] = {}
    if checkpoint is not None and command != "fit":
        from composer.model.checkpoint import read_checkpoint

        hparams = read_checkpoint(checkpoint)["hyper_parameters"]
    resolved = resolve(
        files, flags=model_flags, environment=from_environment(os.environ), checkpoint=hparams.get("model")
    )
    if resolved.note:
        _say(resolved.note)
    if hparams:
        for line in differences(hparams["model"], resolved.model.model_dump(mode="json"), "model"):
            _say(f"unlike the checkpoint, {line}")
    training = located(hparams.get("training", {}), Origin("checkpoint"))
    for layer in (sections.value.get("training", training), *training_flags):
        training = merged(training, layer)
    trained = validated(TrainingConfig, "training", training)
    if asked == "last" and checkpoint is None:
        start = "afresh" if trained.initial_weights is None else f"from {trained.initial_weights}"
        _say(f"no checkpoint in {str(folder)!r} yet: starting {start}.")
    data = sections.value.get("data", located({}, Origin("the recipe")))
    for layer in from_flags(rest, "data")[0]:
        data = merged(data, layer)
    check_sources(data)
    return Job(command, resolved.model, trained, sections, rest, Path(folder), checkpoint)


def _unknown(arguments: Sequence[str]) -> Iterator[str]:
    """Flags of no section, and words that are no flag's value."""
    previous = ""
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.removeprefix("--").partition(".")[0]
        if flag.startswith("--") and name not in FLAGS:
            yield f"{flag}: unknown flag{nearest(name, FLAGS)} Flags: {', '.join(f'--{known}' for known in FLAGS)}."
        elif not argument.startswith("-") and (not previous.startswith("--") or "=" in previous):
            yield f"{argument!r}: expected a flag, such as --config RECIPE."
        previous = argument


def _run_folder(recipes: Sequence[Path], checkpoint: str | None) -> Path:
    """Where a run keeps its files: by its last recipe's name, else where its checkpoint lies."""
    if recipes:
        return Path("runs") / recipes[-1].stem
    if checkpoint is None or checkpoint == "last":
        return Path("runs") / "model"
    path = Path(checkpoint)
    path = path.parent if path.is_file() else path
    return path.parent if path.name == CHECKPOINTS else path


def _writes_nothing(sections: Located, arguments: Sequence[str]) -> bool:
    """Whether a fit is asked to write no run: by `--print_config`, or by Lightning's `fast_dev_run`."""
    short = sections.at(["trainer", "fast_dev_run"]).value
    for layer in from_flags(arguments, "trainer.fast_dev_run")[0]:
        short = layer.at(["fast_dev_run"]).value
    printed = any(argument.partition("=")[0] == "--print_config" for argument in arguments)
    return printed or (isinstance(short, int) and short > 0)


def _check_unused(folder: Path) -> None:
    """Raise ConfigError where a new run would write over the checkpoints of another, or lie among them."""
    if any(folder.rglob("*.ckpt")):
        raise ConfigError(
            f"The run folder {str(folder)!r} holds the checkpoints of another run, and a new run needs one of its own: "
            "give --ckpt_path last to go on with that run, --trainer.default_root_dir=DIR to start another in DIR, or "
            "remove the folder."
        )


def _checkpoint(command: str, asked: str | None, folder: Path) -> Path | None:
    """The file to load. `last` without one starts a fit afresh, and is an error elsewhere."""
    if asked is None:
        if command != "fit":
            _say("no --ckpt_path: the model keeps its initial weights.")
        return None
    if asked != "last" and Path(asked).is_file():
        return Path(asked)
    if asked != "last" and not Path(asked).is_dir():
        raise CheckpointError(f"There is no checkpoint {asked!r}: give a checkpoint file, a run folder, or `last`.")
    from composer.model.checkpoint import newest

    searched = folder if asked == "last" else Path(asked)
    found = newest(searched)
    if found is None and not (command == "fit" and asked == "last"):
        raise CheckpointError(f"There is no whole checkpoint in {str(searched)!r}: train with `composer fit` first.")
    if found is not None:
        _say(f"checkpoint {found}.")
    return found


def _say(text: str) -> None:
    # Lightning starts one process per device with the same command line.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(f"composer: {text}\n")
