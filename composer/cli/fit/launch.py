"""The heavy half of `composer fit` and `validate`: a thin LightningCLI over what is already resolved."""

import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.checkpoint import CheckpointError

from composer.atomic import writing
from composer.cli.fit.console import ProgressBar as OwnProgressBar
from composer.cli.fit.console import print_ending, print_interrupted, quieten
from composer.cli.fit.job import FitJob
from composer.data.datamodule import MultimodalDataModule
from composer.errors import ComposeError, ConfigError
from composer.recipe.explain import place
from composer.recipe.resolve import Recipe
from composer.training.activation_checkpointing import not_repeatable
from composer.training.module import ComposerModule, check_strategy


class ComposerCLI(LightningCLI):
    """Lightning's parser for `trainer:`; all else arrives resolved.

    To this parser the other sections are plain mappings, shown by `--print_config` and kept in the saved config:
    jsonargparse can neither swap nor write components of types that are made at run time.
    """

    parser: LightningArgumentParser

    def __init__(self, job: FitJob) -> None:
        self.job = job
        trainer = job.recipe.trainer.model_dump(exclude_unset=True) | {"default_root_dir": str(job.folder)}
        sections = {"trainer": trainer, "seed_everything": job.recipe.seed}
        super().__init__(
            run=False,
            save_config_callback=SaveConfigCallback if job.command == "fit" else None,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"enable_model_summary": False},
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
            args=["--config", yaml.safe_dump(sections), *([job.print_config] if job.print_config else [])],
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for section in ("model", "training", "data"):
            config = getattr(self.job.recipe, section)
            parser.add_argument(f"--{section}", type=dict, default=config.model_dump(mode="json"))
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{option}": value for option, value in self.trainer_defaults.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise ConfigError(_explained(str(error), self.job.recipe)) from error

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate(self.config)
        recipe = self.job.recipe
        self.datamodule = MultimodalDataModule(recipe.data)
        self.datamodule.setup(self.job.command)  # before loggers make the run folder
        self.model = ComposerModule(recipe.model, recipe.training)
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        given = self.config_init.trainer
        check_strategy(given.strategy)  # before Lightning asks for a GPU, or for a package, that would not help
        if self.job.command != "fit":
            kwargs.setdefault("logger", given.logger or False)
        elif given.logger in (None, True):
            kwargs["logger"] = _loggers(Path(given.default_root_dir))
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
        shown = given.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks)
        return self._instantiate_trainer({**given, **kwargs}, [OwnProgressBar()] if shown else [])


def launch(job: FitJob) -> int:
    """Run a job and return its exit status: 130 if the user interrupted it.

    Raises ConfigError for values of `trainer:` that Lightning refuses.
    """
    quieten()
    try:
        cli = ComposerCLI(job)
        start = getattr(cli.trainer, job.command)
        # As an argument of `start` it would be known only when the model is built.
        cli.trainer.ckpt_path = None if job.checkpoint is None else str(job.checkpoint)
        try:
            with writing(job.folder):
                start(cli.model, datamodule=cli.datamodule)
        except SystemExit:
            if not cli.trainer.interrupted:
                raise
            print_interrupted(job, cli.trainer)
            return 130
        if job.command == "fit":
            print_ending(job, cli.trainer)
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning: {error}") from error
    except CheckpointError as error:
        raise ComposeError(not_repeatable("a block computes something else the second time", error)) from error
    return 0


def print_all_options() -> None:
    """Print Lightning's help of every option of the Trainer."""
    parser = LightningArgumentParser(description="", usage="", add_help=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.print_help()


def _loggers(folder: Path) -> list[Logger]:
    """TensorBoard's and a CSV file, side by side in the next free `version_N`."""
    tensorboard = TensorBoardLogger(folder, name="")
    return [tensorboard, CSVLogger(folder, name="", version=tensorboard.version)]


def _explained(message: str, recipe: Recipe) -> str:
    """jsonargparse's message with the file and line, or the flag, that is wrong."""
    match = re.fullmatch(r'Parser key "(.+?)":\s*(.*)', message, re.DOTALL)
    if match is None:
        return message
    key, text = match.groups()
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text).replace("typing.", "")
    reason = re.sub(r"^Expected an? (.+)\. Got value: ", r"expected \1, got ", reason)
    return f"{place(recipe.stated.at(key.split('.')).origin, key)}: {reason}"
