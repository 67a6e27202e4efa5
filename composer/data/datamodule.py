"""Lightning data module of a recipe's `data:` section."""

import math
import warnings
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from composer.batch import Batch, Example
from composer.data.bad_samples import BadSamples
from composer.data.dataset import Conversations, collate_or_error
from composer.data.mixture import mixed_sizes
from composer.data.open_sources import check_total, open_sources
from composer.data.prefetch import Prefetcher, start_on
from composer.data.sampler import StreamSampler
from composer.data.steps import StepChunks, StepLoader, micro_batches, packed_rows
from composer.errors import CheckpointError, ComposerError, ConfigError
from composer.model.processor import Processor
from composer.reader import Reader
from composer.recipe.data import SPLITS_OF, DataConfig, SourceConfig, Split

BAD_SAMPLES = "bad_samples.jsonl"
Loader = DataLoader[Example | ComposerError]

OPEN_FILES = 2**16
"""Open files of a process: data workers pass each tensor as one, so a step may need thousands; the default is 1024."""


class DataState(TypedDict):
    """State of the data module in a checkpoint. consumed: trained samples; the others identify their order."""

    consumed: int
    seed: int
    samples: int
    order: str


class MultimodalDataModule(LightningDataModule):
    """Conversations about images and videos for training and validation, with loss on all answers."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        self.config = config
        self.frames = config.frames
        self.consumed = 0
        """Samples that were trained on, over all ranks."""
        self._configs: dict[Split, list[SourceConfig]] = {}
        self._sources: dict[Split, list[Reader]] = {}
        self._restored: DataState | None = None

    @property
    def eval_batch_size(self) -> int:
        """Samples in a validation batch."""
        return self.config.eval_batch_size or self.config.batch_size

    def setup(self, stage: str) -> None:
        """Open the sources of a stage, once. Raises ConfigError if there are none, DataError."""
        self.config.require(SPLITS_OF[stage][0])
        for split in SPLITS_OF[stage]:
            if split not in self._sources:
                self._configs[split] = self.config.sources_of(split)
                self._sources[split] = open_sources(self._configs[split])

    def train_dataloader(self) -> Loader | StepLoader | Prefetcher:
        assert self.trainer is not None
        config = self.config
        bad_samples = BadSamples(Path(self.trainer.default_root_dir) / BAD_SAMPLES, config.max_bad_samples)
        data = self._data("train", repeats=self._repeats(), bad_samples=bad_samples, too_long=config.too_long)
        check_total(data.mixture.sizes, [source.name for source in self._configs["train"]], config.expected_samples)
        self._resume(len(data))
        samples = self._samples_per_step(self.trainer.world_size)
        sampler = StreamSampler(
            data,
            lambda: self.consumed,
            batch_size=samples,
            seed=config.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            sizes=data.mixture.sizes if config.order == "in-turn" else (),
        )
        device = self.trainer.strategy.root_device
        loader = self._step_loader(data, sampler, samples)
        return Prefetcher(loader, start_on(device)) if device.type == "cuda" else loader

    def _step_loader(self, data: Conversations, sampler: StreamSampler, samples: int) -> Loader | StepLoader:
        """The loader of steps of `samples` samples each."""
        config = self.config
        if samples == config.batch_size and config.max_tokens is None:
            return self._loader(data, batch_size=samples, sampler=sampler)
        chunks = StepChunks(sampler, samples, config.batch_size)
        # All workers together prefetch about one step, because the frames of a step may be gigabytes.
        per_step = chunks.chunks_per_step
        ahead = {"prefetch_factor": max(2, math.ceil(per_step / config.num_workers))} if config.num_workers else {}
        if config.max_tokens is None:
            loader = self._loader(data, batch_sampler=chunks, **ahead)
            return StepLoader(loader, per_step, micro_batches)
        loader = self._loader(data, batch_sampler=chunks, collate_fn=list, **ahead)
        return StepLoader(loader, per_step, partial(packed_rows, max_tokens=config.max_tokens))

    def _samples_per_step(self, devices: int) -> int:
        """Samples per device and optimizer step. Raises ConfigError if the devices cannot share a step evenly."""
        batch_size = self.config.global_batch_size
        if batch_size is None:
            return self.config.batch_size
        share, rest = divmod(batch_size, devices)
        if rest:
            raise ConfigError(f"data.global_batch_size: got {batch_size}, expected a multiple of the {devices} devices")
        return share

    def val_dataloader(self) -> Loader | list[Loader]:
        if self._sources["validation"]:
            return self._loader(self._data("validation"), batch_size=self.eval_batch_size)
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # as intended
        return []

    def on_before_batch_transfer(
        self, batch: Batch | list[Batch] | ComposerError, dataloader_idx: int
    ) -> Batch | list[Batch]:
        """Raise the error of a data worker."""
        if isinstance(batch, ComposerError):
            raise batch
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, but not a step's micro-batches, which the module moves one by one."""
        return batch if isinstance(batch, list) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def place_of_source(self) -> int | None:
        """The place in `data.train` of the source that the next sample comes from; None unless sources take turns."""
        if self.config.order != "in-turn":
            return None
        sizes = mixed_sizes([len(source) for source in self._sources["train"]], self._repeats())
        return min(bisect_right(list(accumulate(sizes)), self.consumed), len(sizes) - 1)

    def trained(self, samples: int) -> None:
        """Count the samples of a training step. The sampler cannot, because workers run ahead of training."""
        assert self.trainer is not None
        self.consumed += samples * self.trainer.world_size

    def state_dict(self) -> dict[str, object]:
        samples = sum(mixed_sizes([len(source) for source in self._sources.get("train", [])], self._repeats()))
        order = self.config.order
        return dict(DataState(consumed=self.consumed, seed=self.config.seed, samples=samples, order=order))

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self._restored = cast(DataState, state_dict)

    def _repeats(self) -> list[float]:
        return [source.repeat for source in self._configs.get("train", [])]

    def _resume(self, samples: int) -> None:
        """Resume the stream where the checkpoint stopped. Raises CheckpointError if it is a different stream."""
        if self._restored is None:
            return
        before: Mapping[str, object] = {**self._restored}
        now = {"seed": self.config.seed, "samples": samples, "order": self.config.order}
        differences = [f"{key} {before[key]}, now {now[key]}" for key in now if before[key] != now[key]]
        if differences:
            raise CheckpointError(
                f"the checkpoint was trained on other data ({'; '.join(differences)}): resume with the same "
                "data.train, data.order and data.seed, or start a new run from its weights (training.initial_weights)"
            )
        self.consumed, self._restored = self._restored["consumed"], None
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")  # this one is

    def _data(self, split: Split, **options: Any) -> Conversations:
        assert self.trainer is not None
        processor: Processor = self.trainer.lightning_module.model.processor
        return Conversations(self._sources[split], processor, self.frames, seed=self.config.seed, **options)

    def _loader(self, data: Conversations, **options: Any) -> Loader:
        _allow_open_files()
        return DataLoader(
            dataset=data,
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **{"collate_fn": collate_or_error, **options},
        )


def _allow_open_files() -> None:
    """Allow this process and its data workers to open up to `OPEN_FILES` files, or as many as the system allows."""
    try:
        import resource
    except ImportError:  # Windows, where workers pass tensors in a different way
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    limit = OPEN_FILES if hard == unlimited else min(hard, OPEN_FILES)
    if soft != unlimited and soft < limit:
        with suppress(ValueError, OSError):  # macOS allows fewer than its hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
