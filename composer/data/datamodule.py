"""The Lightning data module: which data, how many frames, in which order, in which batches."""

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from composer.batch import Batch, Example
from composer.data.bad_samples import BadSamples
from composer.data.dataset import Condition, Conversations, TooLong, collate_or_error
from composer.data.mixture import mixed_sizes
from composer.data.open_sources import check_ids, check_total, open_sources
from composer.data.prefetch import Prefetcher, start_on
from composer.data.sampler import StreamSampler
from composer.data.steps import StepChunks, StepLoader, micro_batches, packed_rows
from composer.errors import CheckpointError, ComposerError, ConfigError
from composer.model.processor import Processor
from composer.reader import Reader
from composer.recipe.sources import SourceConfig, check_sources, read_sources
from composer.recipe.yamlfile import Origin, located

BAD_SAMPLES = "bad_samples.jsonl"
STAGES = {"fit": "train", "validate": "validation", "test": "test", "predict": "predict"}
Order = Literal["mixed", "in-turn"]
# Bare, since in `dict[str, Any]` jsonargparse reads every text as YAML again: "Rounded: 469K" would be a mapping.
Options: TypeAlias = dict
Given = str | list[str | Options] | None  # type: ignore[type-arg]
"""A file, a source's name, or a list of these and of `{source: NAME, repeat: NUMBER}`."""
Loader = DataLoader[Example | ComposerError]

OPEN_FILES = 2**16
"""A data worker hands each tensor over as an open file, and a step may have thousands; 1024 are usually allowed."""


class MultimodalDataModule(LightningDataModule):
    """Conversations about images and videos, from sources that readers open.

    Training and validation learn from whole conversations; test and predict ask for the last answer of each.

    Args:
        train: What to train on: a LLaVA-style JSON or JSONL file, a name in `sources`, or a list of these and of
            `{source: NAME, repeat: NUMBER}`.
        order: How several sources are learned: `mixed`, or `in-turn` (a curriculum: a pass over each source in the
            order given, then further passes over the last one).
        validation: Files or sources whose loss is measured while training.
        test: Files or sources whose answers are compared with the model's.
        predict: Files or sources whose questions are answered; answers in them are not needed.
        sources: Sources by name: `reader` (an installed reader's name and options), `repeat` (copies of it in a
            training), `samples` (how many are expected), `hub`, `revision`, `licence`, `note`.
        root: Folder that the paths of data start from; the current one if not given.
        media_root: Folder that paths of media in files start from; each data file's own folder if not given.
        expected_samples: Samples in one pass of training, repeats included; more than 1 % off is an error.
        frames: Frames taken of a video, uniform in time.
        batch_size: Samples in a training batch, per device.
        global_batch_size: Samples of one optimizer step, over all devices; each device takes its share in batches of
            `batch_size`, whose gradients add up. If not given, one batch on each device.
        max_tokens: Packs the samples of a step into rows of at most so many positions, without padding, and each row
            is a batch; a longer sample has a row of its own. If not given, rows are padded.
        eval_batch_size: Samples in a validation, test or predict batch; `batch_size` if not given.
        num_workers: Processes that decode media; 0 decodes in the training process.
        seed: Seed of the order of training and of shuffled frames.
        max_bad_samples: Largest share of training samples that are ignored (records that cannot be read, media that
            cannot be decoded, conversations longer than the context), of at least 300 samples.
        too_long: What happens to a training sample that is longer than the context: `skip` ignores it,
            `truncate-text` cuts the end of its last answer, `error` stops.
        conditions: How a test shows media, one pass each: `normal`, `blind` (grey frames of the same size), `shuffled`
            (frames in random order).
    """

    def __init__(
        self,
        train: Given = None,
        order: Order = "mixed",
        validation: Given = None,
        test: Given = None,
        predict: Given = None,
        sources: dict[str, Options] | None = None,  # type: ignore[type-arg]
        root: str | None = None,
        media_root: str | None = None,
        expected_samples: int | None = None,
        frames: int = 8,
        batch_size: int = 8,
        global_batch_size: int | None = None,
        max_tokens: int | None = None,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        seed: int = 0,
        max_bad_samples: float = 0.01,
        too_long: TooLong = "skip",
        conditions: Sequence[Condition] = ("normal",),
    ) -> None:
        super().__init__()
        self.files = {"train": train, "validation": validation, "test": test, "predict": predict}
        self.expected_samples, self.frames, self.seed = expected_samples, frames, seed
        self._section = located(
            {**self.files, "sources": sources, "root": root, "media_root": media_root}, Origin("the data module")
        )
        self.order: Order = order
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.global_batch_size, self.max_tokens = global_batch_size, max_tokens
        self.num_workers = num_workers
        self.max_bad_samples, self.too_long = max_bad_samples, too_long
        self.conditions: tuple[Condition, ...] = tuple(conditions)
        self.consumed = 0
        """Samples of the stream that are trained, over all ranks."""
        self._configs: dict[str, list[SourceConfig]] = {}
        self._sources: dict[str, list[Reader]] = {}
        self._restored: dict[str, Any] | None = None
        self._check()

    def _check(self) -> None:
        counts = ("frames", "batch_size", "eval_batch_size")
        problems = [
            f"data.{name}: got {getattr(self, name)}, expected at least 1" for name in counts if getattr(self, name) < 1
        ]
        problems += [
            f"data.{name}: got {getattr(self, name)}, expected at least 1, or null"
            for name in ("expected_samples", "global_batch_size", "max_tokens")
            if getattr(self, name) is not None and getattr(self, name) < 1
        ]
        if self.num_workers < 0:
            problems.append(f"data.num_workers: got {self.num_workers}, expected 0 or more")
        if not 0 <= self.max_bad_samples <= 1:
            problems.append(f"data.max_bad_samples: got {self.max_bad_samples}, expected a share from 0 to 1")
        if self.seed < 0:
            problems.append(f"data.seed: got {self.seed}, expected 0 or more")
        for name, values in (("order", get_args(Order)), ("too_long", get_args(TooLong))):
            if getattr(self, name) not in values:
                problems.append(f"data.{name}: got {getattr(self, name)!r}, expected one of {', '.join(values)}")
        known = get_args(Condition)
        if not self.conditions or set(self.conditions) - set(known) or len(set(self.conditions)) < len(self.conditions):
            problems.append(
                f"data.conditions: got {list(self.conditions)}, expected some of {', '.join(known)}, each once"
            )
        try:
            check_sources(self._section)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)

    def setup(self, stage: str) -> None:
        """Index the files that a stage reads. Raises DataError; questions are all read, so that they fail early."""
        needed = STAGES[stage]
        if not self.files[needed]:
            raise ConfigError(
                f"data.{needed}: nothing given, expected a JSON or JSONL file, a source, or a list of them"
            )
        for name in {needed, "validation"} if stage == "fit" else {needed}:
            self._configs[name] = read_sources(self._section, name)
            self._sources[name] = open_sources(self._configs[name])
        if needed in ("test", "predict"):
            check_ids(self._sources[needed])

    def train_dataloader(self) -> Loader | StepLoader | Prefetcher:
        assert self.trainer is not None
        bad_samples = BadSamples(Path(self.trainer.default_root_dir) / BAD_SAMPLES, self.max_bad_samples)
        data = self._data("train", repeats=self._repeats(), bad_samples=bad_samples, too_long=self.too_long)
        check_total(data.mixture.sizes, [source.name for source in self._configs["train"]], self.expected_samples)
        self._resume(len(data))
        samples = self._samples_a_step(self.trainer.world_size)
        sampler = StreamSampler(
            data,
            lambda: self.consumed,
            batch_size=samples,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            sizes=data.mixture.sizes if self.order == "in-turn" else (),
        )
        device = self.trainer.strategy.root_device
        loader = self._step_loader(data, sampler, samples)
        return Prefetcher(loader, start_on(device)) if device.type == "cuda" else loader

    def _step_loader(self, data: Conversations, sampler: StreamSampler, samples: int) -> Loader | StepLoader:
        """The loader of steps of `samples` samples each."""
        if samples == self.batch_size and self.max_tokens is None:
            return self._loader(data, batch_size=samples, sampler=sampler)
        chunks = StepChunks(sampler, samples, self.batch_size)
        # Workers run ahead by about a step, not by steps of their own each: one has gigabytes of frames.
        per_step = chunks.chunks_per_step
        ahead = {"prefetch_factor": max(2, math.ceil(per_step / self.num_workers))} if self.num_workers else {}
        if self.max_tokens is None:
            loader = self._loader(data, batch_sampler=chunks, **ahead)
            return StepLoader(loader, per_step, micro_batches)
        loader = self._loader(data, batch_sampler=chunks, collate_fn=list, **ahead)
        return StepLoader(loader, per_step, partial(packed_rows, max_tokens=self.max_tokens))

    def _samples_a_step(self, devices: int) -> int:
        """A device's share of an optimizer step. Raises ConfigError where the devices cannot share it evenly."""
        if self.global_batch_size is None:
            return self.batch_size
        share, rest = divmod(self.global_batch_size, devices)
        if rest:
            raise ConfigError(
                f"data.global_batch_size: got {self.global_batch_size}, expected a multiple of the {devices} devices"
            )
        return share

    def val_dataloader(self) -> Loader | list[Loader]:
        if self._sources["validation"]:
            return self._loader(self._data("validation"), batch_size=self.eval_batch_size)
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # on purpose
        return []

    def test_dataloader(self) -> dict[str, Loader]:
        """One loader per condition, in the order of `conditions`."""
        data = {condition: self._data("test", answer=True, condition=condition) for condition in self.conditions}
        return {condition: self._loader(shown, batch_size=self.eval_batch_size) for condition, shown in data.items()}

    def predict_dataloader(self) -> Loader:
        return self._loader(self._data("predict", answer=True), batch_size=self.eval_batch_size)

    def on_before_batch_transfer(
        self, batch: Batch | list[Batch] | ComposerError, dataloader_idx: int
    ) -> Batch | list[Batch]:
        """Raises what a data worker met."""
        if isinstance(batch, ComposerError):
            raise batch
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A step's micro-batches stay where they are: the module moves each when its turn comes."""
        return batch if isinstance(batch, list) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def trained(self, samples: int) -> None:
        """Called in every training step with its number of samples.

        What the sampler has handed out does not count: workers run ahead of training.
        """
        assert self.trainer is not None
        self.consumed += samples * self.trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        samples = sum(mixed_sizes([len(source) for source in self._sources.get("train", [])], self._repeats()))
        return {"consumed": self.consumed, "seed": self.seed, "samples": samples, "order": self.order}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def _repeats(self) -> list[float]:
        return [source.repeat for source in self._configs.get("train", [])]

    def _resume(self, samples: int) -> None:
        """Go on in the stream where the checkpoint stands. Raises CheckpointError where it is another stream."""
        if self._restored is None:
            return
        here = {"seed": self.seed, "samples": samples, "order": self.order}
        differing = [
            f"{key} {self._restored[key]}, now {here[key]}" for key in here if self._restored[key] != here[key]
        ]
        if differing:
            raise CheckpointError(
                f"the checkpoint was trained on other data ({'; '.join(differing)}): resume with the same data.train, "
                "data.order and data.seed, or start a new run from its weights (training.initial_weights)"
            )
        self.consumed, self._restored = self._restored["consumed"], None
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")  # this one is

    def _data(self, name: str, **options: Any) -> Conversations:
        assert self.trainer is not None
        processor: Processor = self.trainer.lightning_module.model.processor
        return Conversations(self._sources[name], processor, self.frames, seed=self.seed, **options)

    def _loader(self, data: Conversations, **options: Any) -> Loader:
        _allow_open_files()
        return DataLoader(
            dataset=data,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **{"collate_fn": collate_or_error, **options},
        )


def _allow_open_files() -> None:
    """Let this process and its data workers open up to `OPEN_FILES` files, as far as the system lets them."""
    try:
        import resource
    except ImportError:  # Windows, where workers hand tensors over in another way
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    wanted = OPEN_FILES if hard == endless else min(hard, OPEN_FILES)
    if soft != endless and soft < wanted:
        with suppress(ValueError, OSError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
