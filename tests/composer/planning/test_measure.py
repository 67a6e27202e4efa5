"""The bytes that the meter predicts, next to those that a real step of AuroraLong's tiny stages keeps on a CPU."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from composer.batch import Batch
from composer.data.media.clip import Clip
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.planning.build import build_meta
from composer.planning.load import Load
from composer.planning.measure import PARTS, Cost, Meter
from composer.planning.memory import Measured, activations, memory_of
from composer.recipe.resolve import resolve
from composer.recipe.yamlfile import Origin, load_recipes, parse_yaml
from composer.sample import Media, Message, Sample
from composer.training.activation_checkpointing import checkpoint_blocks
from composer_plugins.rwkv.traced import traced

AURORALONG = Path(__file__).parents[3] / "recipes/auroralong"
STAGES = {
    "1-pretrain": (("projector",), 1),
    "2-vision": (("encoder", "projector"), 1),
    "3-language": (("encoder", "projector", "backbone"), 5),
}
ROWS = 3


class Alive(TorchDispatchMode):
    """Bytes of the tensors that operations made and that are still alive, weights not included."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.weights = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.weights:
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return out

    def bytes(self) -> int:
        return sum(size for storage, size in self.storages.values() if not storage.expired())


def config_of(stage: str) -> Any:
    config = resolve(load_recipes([AURORALONG / f"{stage}.yaml", AURORALONG / "tiny.yaml"])).model
    return config.without_pretrained()


def batch_of(model: MultimodalModel, frames: int) -> Batch:
    side = model.processor.transform.size
    clip = Clip(torch.randint(0, 256, (frames, 3, side, side), dtype=torch.uint8), torch.arange(float(frames)))
    media = Media("video" if frames > 1 else "image", "here")
    turns = (Message("user", (media, "what " * 20)), Message("assistant", ("this " * 20,)))
    return collate([model.processor.encode(Sample("one", "here", turns), [clip])] * ROWS)


def trained(model: MultimodalModel, train: tuple[str, ...]) -> MultimodalModel:
    for name, part in model.parts().items():
        part.requires_grad_(name in train)
        part.train(name in train)
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stage", STAGES)
def test_predicted_bytes_are_those_that_a_real_forward_keeps(stage: str, precision: str, checkpointing: bool) -> None:
    """Of everything that is alive when the backward pass starts, and of what autograd's hooks see it save."""
    train, frames = STAGES[stage]
    model = trained(compose(config_of(stage)), train)
    if checkpointing:
        checkpoint_blocks(model)
    batch = batch_of(model, frames)
    alive = Alive(model)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
    hooked: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        hooked[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with alive, autocast, nullcontext() if checkpointing else saved_tensors_hooks(save, lambda tensor: tensor):
        loss = model(batch).loss
        kept = alive.bytes()
    assert loss.requires_grad

    meter = Meter(build_meta(config_of(stage)), train, precision, "cpu")
    side = model.processor.transform.size
    frame = meter.frame(side, side, reached="encoder" in train)
    row = meter.text(batch.ids.shape[1], len(batch.predicting) // ROWS, reached=True)
    assert not meter.uncounted
    costs = {**frame, "backbone": row}
    counts = {part: ROWS if part == "backbone" else ROWS * frames for part in PARTS}
    predicted = sum(counts[part] * (cost.kept if checkpointing else cost.saved) for part, cost in costs.items())
    predicted += sum(cost.kept_casts if checkpointing else cost.casts for cost in costs.values())
    assert predicted == pytest.approx(kept, rel=0.05)
    if not checkpointing:
        storages = [x.untyped_storage() for key, x in hooked.items() if key not in alive.weights]
        assert predicted == pytest.approx(sum(storage.nbytes() for storage in storages), rel=0.05)
        assert 0 < max(cost.block for cost in costs.values()) < predicted / 2


def test_parts_are_added_in_their_order() -> None:
    """The encoder's moment is over when the backbone needs most; a block is computed again next to all that is kept."""
    frame = {"encoder": Cost(saved=10, kept=4, block=5, extra=100), "projector": Cost(saved=1, kept=1)}
    measured = Measured(frame, {2: Cost(saved=50, kept=20, block=30, extra=7)}, {2: 64})
    assert activations(measured, 2, 3, checkpointing=False) == max(3 * 2 * 110, 3 * 2 * 11 + 3 * 57)
    assert activations(measured, 2, 3, checkpointing=True) == max(3 * 2 * 104, 3 * (10 + 20) + 3 * 30)
    late = Measured(frame | {"encoder": Cost(saved=10)}, measured.rows, measured.positions)
    assert activations(late, 2, 3, checkpointing=False) == 3 * 2 * 11 + 3 * 57


def test_gradients_take_the_place_of_activations_in_a_step_of_one_batch() -> None:
    load = Load([], None, None, 1, 8, 8, 8, 8, None, "bf16-mixed")
    measured = Measured({"encoder": Cost(), "projector": Cost()}, {1: Cost(saved=2**30)}, {1: 64})
    one = memory_of(2**29, 2**28, load, measured, checkpointing=False)
    several = memory_of(2**29, 2**28, replace(load, batch=4), measured, checkpointing=False)
    assert (one["weights"], one["gradients"], one["optimizer"], one["activations"]) == (2, 1, 2, 8)
    assert one["total"] == 2 + 2 + 8
    assert several["total"] == 2 + 1 + 2 + 4


@pytest.mark.parametrize("name", ["rwkv6", "rwkv7"])
def test_on_cuda_the_operator_saves_its_inputs_and_multiplies_like_the_chunk_form(name: str) -> None:
    """Nothing of [B, T, H, K] is saved but inputs (rwkv6's kernel also keeps its products, 64 fp32 per head)."""
    B, T, H, K = 2, 256, 3, 64
    costs = {}
    for device in ("cuda", "cpu"):
        slot = {"name": name, "width": H * K, "depth": 1, "head_size": K}
        costs[device] = Meter(model_with(slot), ("backbone",), "32-true", device).text(T, 1, reached=True)
    assert costs["cuda"].flops == pytest.approx(costs["cpu"].flops, rel=0.02)
    assert costs["cuda"].saved < 0.9 * costs["cpu"].saved
    r, k, v, a, b, log_w = (torch.zeros(B, T, H, K, requires_grad=True) for _ in range(6))
    queries, keys = ([r], [k]) if name == "rwkv6" else ([r, a], [k, b])
    saved: list[Tensor] = []
    with saved_tensors_hooks(lambda x: (saved.append(x), x)[1], lambda x: x):
        out, state = traced(queries, keys, v, [log_w], products=name == "rwkv6")
    assert (out.shape, state.shape) == ((B, T, H, K), (B, H, K, K))
    assert sum(x.numel() for x in saved) == B * T * H * K * (len(queries) + len(keys) + 2 + (name == "rwkv6"))


def test_attention_on_cuda_saves_no_weights() -> None:
    """Without a GPU torch would take the path that keeps [heads, T, T]."""
    T, heads = 512, 2
    for precision in ("bf16-mixed", "32-true"):
        slot = {"name": "transformer", "width": 64, "depth": 1, "heads": heads}
        cost = Meter(model_with(slot), ("backbone",), precision).text(T, 1, reached=True)
        assert cost.flops > 4 * T * T * 64
        assert cost.saved < T * 64 * 4 * 40 < heads * T * T * 4 * 3


def model_with(backbone: dict[str, Any]) -> MultimodalModel:
    model = {"encoder": "openclip", "projector": "mlp", "prompt": {"tokenizer": "bytes"}, "backbone": backbone}
    return build_meta(resolve([parse_yaml(yaml.safe_dump({"model": model}), Origin("here"))]).model)
