"""A training step reads no value of a tensor back to the host, which would wait for the device each time."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from composer.batch import Clip, Example
from composer.data.steps import pack_row
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.planning.build import build_meta, make_fake
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import model_config
from composer.sample import Media, Message, Sample
from composer_plugins.rwkv import chunks
from tests.composer.host_reads import host_reads

TOWER = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 1, "heads": 2}
FAMILIES = ("siglip", "siglip2", "clip", "dinov2", "dinov2-registers")
ENCODERS: dict[str, dict[str, Any]] = {
    "openclip": {"name": "openclip", **TOWER},
    **{family: {"name": "transformers-vision", "family": family, **TOWER} for family in FAMILIES},
}
REDUCERS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "tome": [{"name": "tome", "keep_ratio": 0.5, "order": "raster"}],
    "pooling": [{"name": "pooling", "window": 3}],
}
BACKBONES: dict[str, dict[str, Any]] = {
    "rwkv6": {"name": "rwkv6", "width": 32, "depth": 2, "head_size": 16},
    "rwkv7": {"name": "rwkv7", "width": 32, "depth": 2, "head_size": 16},
    "transformer": {"name": "transformer", "width": 32, "depth": 2, "heads": 2},
}


def config(encoder: str, reducer: str, backbone: str) -> ModelConfig:
    parts = {"encoder": ENCODERS[encoder], "reducer": REDUCERS[reducer], "backbone": BACKBONES[backbone]}
    return model_config({**parts, "projector": "mlp", "prompt": {"tokenizer": "bytes"}})


def examples(model: MultimodalModel) -> list[Example]:
    """Conversations of several lengths about 0, 1 or 2 clips of two sizes."""
    found = []
    for i in range(3):
        sizes = [(16, 16), (16, 24)][:i]
        clips = [Clip(torch.zeros(2, 3, *size, dtype=torch.uint8), torch.arange(2.0)) for size in sizes]
        media = [Media("video", f"{k}.mp4") for k in range(i)]
        turns = (Message("user", (*media, "What?")), Message("assistant", ("yes " * (1 + 5 * i),)))
        found.append(model.processor.encode(Sample(f"s{i}", "f", turns), clips))
    return found


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decays that wkv6 reads, on a CPU only, to choose its chunks: on CUDA fla's kernels are in their place."""
    monkeypatch.setattr(chunks, "_in_bounds", lambda total, middle: True)


@pytest.mark.parametrize(("encoder", "reducer", "backbone"), list(product(ENCODERS, REDUCERS, BACKBONES)))
def test_forward_and_backward_can_be_traced_without_values(
    encoder: str, reducer: str, backbone: str, on_device: None
) -> None:
    """Fake tensors have none: whatever needs one (`item`, `nonzero`, boolean indices) raises."""
    model = build_meta(config(encoder, reducer, backbone))
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    make_fake(model, mode, torch.device("cpu"), torch.float32)
    made = examples(model)
    for batch in (collate(made), pack_row(made)) if encoder == "openclip" else (collate(made),):
        fake = tree_map_only(Tensor, mode.from_tensor, batch)
        with mode, torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(fake)
            out.loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_real_step_reads_nothing_back(backbone: str, pack: bool, on_device: None) -> None:
    """transformers and others look for tracing, and read more of real tensors than of fake ones."""
    model = compose(config("openclip", "tome", backbone))
    batch = (pack_row if pack else collate)(examples(model))
    with host_reads() as reads:
        model(batch).loss.backward()
    assert not reads
