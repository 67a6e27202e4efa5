"""Operations and saved activations of each part, measured on fake tensors of the true shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from composer.batch import FrameGroup
from composer.model.multimodal import MultimodalModel
from composer.parts import Backbone, Encoder
from composer.planning.build import make_fake

PARTS = ("encoder", "projector", "backbone")


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""The CPU's attention, which the counter of torch 2.11 does not know."""


@dataclass(frozen=True)
class Cost:
    """Of one forward. flops: 2 for each multiplication with its addition. saved: bytes kept for the backward pass.

    kept: bytes kept with activation checkpointing: the blocks' inputs, and one block's activations.
    casts: bytes of bf16 copies of weights, once for the whole batch.
    """

    flops: int
    saved: int
    kept: int
    casts: int


class _Zeros(TorchDispatchMode):
    """Where a model reads one number out of a tensor that has none (`item`, `if tensor:`), it reads zero."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 0.0 if args[0].dtype.is_floating_point else 0
        return func(*args, **(kwargs or {}))


class Meter:
    """Measures a model that `build_meta` made. Of its parts those in `train` are trained, in bf16 autocast.

    uncounted: the parts whose forward fails on tensors without values, each with its error. They cost nothing here.
    """

    def __init__(self, model: MultimodalModel, train: tuple[str, ...]) -> None:
        self.model, self.mode = model, FakeTensorMode()
        self.uncounted: dict[str, str] = {}
        make_fake(model, self.mode)
        for name, part in model.parts().items():
            part.requires_grad_(name in train)
            part.train(name in train)

    def frame(self, height: int, width: int, reached: bool) -> dict[str, Cost]:
        """Encoder (with its reducers) and projector on one frame. reached: whether gradients reach the projector."""
        with self.mode:
            group = FrameGroup(
                torch.empty(1, 3, height, width, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), torch.zeros(1)
            )
            tokens, encoder = self._measured("encoder", lambda: self.model.reduce(group))
            shape = self.model.processor.shape(height, width)
            features = torch.empty(1, shape.count, shape.dim) if tokens is None else tokens.features.detach()
            features.requires_grad_(reached)
            _, projector = self._measured("projector", lambda: self.model.projector(features))
        return {"encoder": encoder, "projector": projector}

    def text(self, positions: int, answered: int, reached: bool) -> Cost:
        """The backbone on one row, its head on the answered positions. reached: whether gradients go through it."""
        backbone = self.model.backbone
        with self.mode:
            embeds = torch.empty(1, positions, backbone.dim).requires_grad_(reached)

            def forward() -> Tensor:
                hidden, _ = backbone(embeds)
                logits = backbone.head(hidden[:, :answered]).float().flatten(0, 1)
                return torch.nn.functional.cross_entropy(logits, torch.zeros(answered, dtype=torch.int64))

            return self._measured("backbone", forward)[1]

    def _measured(self, name: str, forward: Callable[[], Any]) -> tuple[Any, Cost]:
        """What a part's forward gives, and its cost, in bf16 autocast; None and no cost if it becomes `uncounted`."""
        part: nn.Module = getattr(self.model, name)
        storages: dict[int, Any] = {}
        copies: dict[int, Any] = {}
        inputs = 0
        weights = {p.untyped_storage()._cdata for p in part.parameters()}
        shapes = {frozenset(p.shape) for p in part.parameters() if p.ndim > 1}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                copied = tensor.ndim > 1 and tensor.dtype == torch.bfloat16 and frozenset(tensor.shape) in shapes
                (copies if copied else storages)[storage._cdata] = storage
            return tensor

        def count(_: Any, given: tuple[Any, ...]) -> None:
            nonlocal inputs
            first = given[0][0] if isinstance(given[0], tuple) else given[0]
            inputs += first.numel() * first.element_size()

        classes = part.block_classes if isinstance(part, Encoder | Backbone) else ()
        blocks = [module for module in part.modules() if isinstance(module, classes)]
        hooks = [block.register_forward_pre_hook(count) for block in blocks]
        try:
            with (
                _Zeros(),
                FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter,
                torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
                torch.autocast("cpu", dtype=torch.bfloat16),
            ):
                out = forward()
        except Exception as error:  # of any kind: what a forward does with values that are all zero is its own
            self.uncounted[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return None, Cost(0, 0, 0, 0)
        finally:
            for hook in hooks:
                hook.remove()
        saved, casts = (sum(storage.nbytes() for storage in found.values()) for found in (storages, copies))
        kept = min(saved, inputs + saved // len(blocks)) if blocks else saved
        return out, Cost(counter.get_total_flops(), saved, kept, casts)
