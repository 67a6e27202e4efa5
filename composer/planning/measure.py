"""Operations and memory of each part, measured on tensors of the true shapes that hold no values."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from composer.batch import FrameGroup
from composer.model.multimodal import MultimodalModel
from composer.parts import Backbone, Encoder
from composer.planning.build import make_fake
from composer.planning.recorder import FusedAttention
from composer.planning.repeat import RepeatingRecorder, kind_of

PARTS = ("encoder", "projector", "backbone")

AUTOCAST = {"bf16-mixed": torch.bfloat16, "bf16": torch.bfloat16, "16-mixed": torch.float16, "16": torch.float16}
"""The precisions of Lightning that cast weights as they are used, and to what."""

WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64, "64": torch.float64}
"""The precisions of Lightning whose weights are not fp32."""


@dataclass(frozen=True)
class Cost:
    """One forward of a part. flops: 2 for each multiplication with its addition. The rest are bytes.

    saved: kept for the backward pass; kept: the same with activation checkpointing; block: the most that one block
    saves, which activation checkpointing computes again; extra: more than `saved`, at the forward's most expensive
    moment; casts: copies of weights in autocast's precision, once for all of the batch; kept_casts: those that
    activation checkpointing keeps too.
    """

    flops: int = 0
    saved: int = 0
    kept: int = 0
    block: int = 0
    extra: int = 0
    casts: int = 0
    kept_casts: int = 0


class Meter:
    """Measures a model that `build_meta` made, whose parts in `train` are trained, on a device of this type.

    precision: Lightning's name of it. uncounted: the parts whose forward fails on tensors without values, each with
    its error. They cost nothing here.
    """

    def __init__(
        self, model: MultimodalModel, train: tuple[str, ...], precision: str = "bf16-mixed", device: str = "cuda"
    ) -> None:
        self.model, self.train, self.mode, self.device = model, train, FakeTensorMode(), torch.device(device)
        self.autocast, self.dtype = AUTOCAST.get(precision), WEIGHTS.get(precision, torch.float32)
        self.uncounted: dict[str, str] = {}
        make_fake(model, self.mode, self.device, self.dtype)
        for name, part in model.parts().items():
            part.requires_grad_(name in train)
            part.train(name in train)

    def frame(self, height: int, width: int, reached: bool) -> dict[str, Cost]:
        """Encoder (with its reducers) and projector on one frame. reached: whether gradients reach the projector."""
        with self.mode, self.device:
            group = FrameGroup(
                torch.empty(1, 3, height, width, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), torch.zeros(1)
            )
            tokens, encoder = self._measured("encoder", lambda: self.model.reduce(group))
            shape = self.model.processor.shape(height, width)
            features = torch.empty(1, shape.count, shape.dim, dtype=self.dtype)
            features = features if tokens is None else tokens.features.detach()
            features.requires_grad_(reached)
            _, projector = self._measured("projector", lambda: self.model.projector(features))
        return {"encoder": encoder, "projector": projector}

    def text(self, positions: int, answered: int, reached: bool) -> Cost:
        """The backbone on one row, its head on the answered positions. reached: whether gradients go through it."""
        backbone = self.model.backbone
        with self.mode, self.device:
            embeds = torch.empty(1, positions, backbone.dim, dtype=self.dtype).requires_grad_(reached)
            predicting = torch.zeros(answered, dtype=torch.int64)

            def forward() -> Tensor:
                hidden, _ = backbone(embeds)
                logits = backbone.head(hidden.flatten(0, 1).index_select(0, predicting)).float()
                return nn.functional.cross_entropy(logits, predicting)

            return self._measured("backbone", forward)[1]

    def _measured(self, name: str, forward: Callable[[], Any]) -> tuple[Any, Cost]:
        """Output and cost of a part's forward. None and a cost of zero if the forward fails (see `uncounted`)."""
        part: nn.Module = getattr(self.model, name)
        recorder = RepeatingRecorder(part)
        try:
            with (
                recorder,
                torch.autograd.graph.saved_tensors_hooks(recorder.save, lambda tensor: tensor),
                _repeating(_blocks(part), recorder),
                _autocast(self.device.type, self.autocast),
            ):
                out = forward()
        except Exception as error:  # of any kind: what a forward does with values that are all zero is its own
            self.uncounted[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return None, Cost()
        saved = sum((recorder.inside | recorder.outside).values())
        return out, Cost(
            flops=recorder.flops,
            saved=saved,
            kept=sum((recorder.outside | recorder.inputs).values()),
            block=max(recorder.blocks, default=0),
            extra=max(0, recorder.peak - saved),
            casts=sum((recorder.casts | recorder.block_casts).values()),
            # Autocast keeps the copies of trained weights until the forward ends.
            kept_casts=sum((recorder.casts | (recorder.block_casts if name in self.train else {})).values()),
        )


def _blocks(part: nn.Module) -> list[nn.Module]:
    classes = part.block_classes if isinstance(part, Encoder | Backbone) else ()
    return [module for module in part.modules() if isinstance(module, classes)]


@contextmanager
def _repeating(blocks: list[nn.Module], recorder: RepeatingRecorder) -> Iterator[None]:
    """Call the blocks through the recorder."""
    with ExitStack() as stack:
        for block in blocks:
            run = partial(recorder.run, block, kind_of(block), block.forward)
            stack.enter_context(patch.object(block, "forward", run))
        yield


@contextmanager
def _autocast(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast of a device type that this machine need not have (`torch.autocast` refuses), and its fused attention."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, dtype is not None)
    torch.set_autocast_dtype(device, dtype or before[1])
    torch.autocast_increment_nesting()
    try:
        with FusedAttention() if device == "cuda" else ExitStack():
            yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
