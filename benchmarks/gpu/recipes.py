"""AuroraLong's stages with random weights, at real size or tiny, and inputs for them."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from composer.batch import Batch, Clip, FrameGroup
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.planning.plan import plan
from composer.planning.stage import StagePlan
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import Recipe, resolve
from composer.recipe.training import TrainingConfig
from composer.recipe.yamlfile import Origin, load_recipes, located
from composer.sample import Media, Message, Sample
from composer.tokenizer import Tokenizer

RECIPES = Path(__file__).parents[2] / "recipes"
STAGES = ("1-pretrain", "2-vision", "3-language")
TEXT_TOKENS = 128
"""Tokens of a question and its answer, half each; the same as in `composer plan`."""

WORLD_ENTRIES = 65_529


@dataclass(frozen=True)
class Stage:
    """A stage of the recipe, with random weights."""

    name: str
    recipe: Recipe

    @property
    def model(self) -> ModelConfig:
        return self.recipe.model

    @property
    def training(self) -> TrainingConfig:
        return self.recipe.training

    def plan(self, frames: int, batch_size: int) -> StagePlan:
        """What `composer plan` says of this stage with so many frames, and one micro-batch per step."""
        sizes = {"frames": frames, "batch_size": batch_size, "global_batch_size": batch_size}
        data = self.recipe.data.model_copy(update=sizes)
        return plan([(self.name, replace(self.recipe, data=data))], text_tokens=TEXT_TOKENS).stages[0]


def stage(name: str, *, tiny: bool, overlays: tuple[Path, ...] = (), **model: Any) -> Stage:
    """Resolve one of `STAGES` like `composer fit`. model: options that override the recipe's `model:`."""
    folder = RECIPES / "auroralong"
    files = load_recipes([folder / f"{name}.yaml", *([folder / "tiny.yaml"] if tiny else []), *overlays])
    recipe = resolve(files, flags=[located({"model": model}, Origin("benchmarks.gpu"))] if model else ())
    return Stage(name, replace(recipe, model=_without_files(recipe.model)))


def _without_files(config: ModelConfig) -> ModelConfig:
    """Use random weights; and, if the World vocabulary is not installed, a vocabulary of the same size."""
    config = config.without_pretrained()
    if config.prompt.tokenizer != "world" or importlib.util.find_spec("rwkv"):
        return config
    words = tuple(f" {number}" for number in range(WORLD_ENTRIES - 256))
    return config.model_copy(update={"prompt": config.prompt.model_copy(update={"tokenizer": words})})


def build(config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> MultimodalModel:
    """Build the model on the device, in evaluation mode. No matrix is zero: GPUs multiply zeros faster."""
    # An orthogonal matrix needs a QR decomposition, and is no faster than a random one.
    with device, patch.object(torch.nn.init, "orthogonal_", _normal):
        model = compose(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model.requires_grad_(False)


def _normal(tensor: Tensor, gain: float = 1.0) -> Tensor:
    return torch.nn.init.normal_(tensor, std=gain / max(tensor.shape) ** 0.5)


def batch(model: MultimodalModel, frames: int, rows: int) -> Batch:
    """Create a batch like a data worker: each row has a clip of random pixels, a question and an answer."""
    processor = model.processor
    side = processor.transform.size
    clip = Clip(random_pixels(frames, side), torch.arange(frames, dtype=torch.float32))
    text = text_of(processor.tokenizer, TEXT_TOKENS // 2)
    media = Media("video" if frames > 1 else "image", "random")
    turns = (Message("user", (media, text)), Message("assistant", (text,)))
    example = processor.encode(Sample("random", "benchmarks.gpu", turns), [clip])
    return collate([example] * rows)


def random_pixels(frames: int, side: int) -> Tensor:
    """Create random frames [frames, 3, side, side] uint8."""
    return torch.randint(0, 256, (frames, 3, side, side), dtype=torch.uint8)


def frame_group(pixels: Tensor, first: int = 0) -> FrameGroup:
    """Create the group of a clip's frames, one per second. first: index of the first frame."""
    place = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
    return FrameGroup(pixels, place, torch.arange(first, first + len(pixels), device=pixels.device).float())


def text_of(tokenizer: Tokenizer, tokens: int) -> str:
    """Create a text of at least `tokens` tokens, with only a few more."""
    text = ""
    while len(tokenizer.encode(text)) < tokens:
        text += "? a" if text else "a"
    return text
