"""A model of stand-in parts and a data set of plain colors, small enough to train hundreds of steps in a test."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

import composer.registry
from composer.batch import Clip, Example
from composer.model.processor import Processor, collate
from composer.plugin import Component, ComponentConfig, hookimpl
from composer.recipe.resolve import model_config
from composer.recipe.training import TrainingConfig
from composer.sample import Media, Message, Sample
from composer.training.module import ComposerModule
from tests.composer.stand_ins import SumBackbone

MODEL = {"encoder": "tiny-mean", "projector": "tiny-linear", "backbone": "tiny-sum"}
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class BackboneConfig(ComponentConfig):
    dim: int = 6


def build_backbone(dim: int, tokenizer: object) -> SumBackbone:
    return SumBackbone(dim)


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component("encoder", "tiny-mean", "Mean colors.", ComponentConfig, "tests.composer.stand_ins:MeanEncoder")
    yield Component(
        "projector", "tiny-linear", "One matrix.", ComponentConfig, "tests.composer.stand_ins:LinearProjector"
    )
    yield Component("backbone", "tiny-sum", "A running sum.", BackboneConfig, f"{__name__}:build_backbone")


@pytest.fixture(scope="module", autouse=True)
def only_tiny_components() -> Iterator[None]:
    """Make the stand-ins the only installed components while the tests of a module run that imports this fixture."""
    point = EntryPoint("tiny", __name__, "composer.plugins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composer.registry, "entry_points", lambda group: [point])
        composer.registry.load_registry.cache_clear()
        yield
    composer.registry.load_registry.cache_clear()


class Colors(Dataset[Example]):
    """Clips of one color, and the question which."""

    def __init__(self, processor: Processor, count: int) -> None:
        self.processor, self.count = processor, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        name, rgb = list(COLORS.items())[index * 7 % 3]
        pixels = torch.tensor(rgb, dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8).contiguous()
        clip = Clip(pixels, torch.arange(2).float())
        question = Message("user", (Media("video", f"{index}.mp4"), "Color?"))
        sample = Sample(f"s{index}", "tiny", (question, Message("assistant", (name,))), {"question_type": "color"})
        return self.processor.encode(sample, [clip])


class EndlessOrder(Sampler[int]):
    """Epoch after epoch, each in its own order, from the sample after the last trained one."""

    def __init__(self, size: int, data: "TinyData") -> None:
        self.size, self.data = size, data

    def __len__(self) -> int:
        return self.size // self.data.trainer.world_size

    def __iter__(self) -> Iterator[int]:
        start = self.data.trained_samples
        epoch = start // self.size
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(epoch)).tolist()
        trainer = self.data.trainer
        yield from order[start % self.size + trainer.global_rank :: trainer.world_size]


class TinyData(pl.LightningDataModule):
    frames = 2

    def __init__(self, size: int = 24, batch_size: int = 4) -> None:
        super().__init__()
        self.size, self.batch_size = size, batch_size
        self.trained_samples = 0

    def place_of_source(self) -> None:
        """Nothing is logged."""

    def trained(self, count: int) -> None:
        self.trained_samples += count * self.trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        return {"trained_samples": self.trained_samples}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.trained_samples = state_dict["trained_samples"]

    @property
    def processor(self) -> Processor:
        return self.trainer.lightning_module.model.processor

    def train_dataloader(self) -> DataLoader[Example]:
        data = Colors(self.processor, self.size)
        return DataLoader(data, self.batch_size, sampler=EndlessOrder(self.size, self), collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Example]:
        return DataLoader(Colors(self.processor, 6), batch_size=4, collate_fn=collate)


def module(**training: Any) -> ComposerModule:
    pl.seed_everything(0, verbose=False)
    return ComposerModule(model_config(MODEL), TrainingConfig(**{"learning_rate": 0.02, **training}))


def trainer(run: Path, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(default_root_dir=run, **{**defaults, **options})
