"""A model of a recipe's sizes whose tensors hold no numbers: on the meta device, then as fake tensors that compute
shapes alone."""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.plugin import SlotConfig
from composer.recipe.model import ModelConfig


def unstated_sizes(config: ModelConfig) -> list[str]:
    """Slots that name pretrained weights and no size of their own: a plan of them would be of the defaults."""
    found = []
    for name in ("encoder", "projector", "backbone"):
        slot: SlotConfig = getattr(config, name)
        weights = getattr(slot, "pretrained", None)
        model, *sizes = (getattr(slot, option, None) for option in ("model", "width", "depth"))
        stated = model is not None or None not in sizes
        if weights is not None and not stated:
            found.append(
                f"model.{name}: the sizes of {weights!r} are not known without its weights, and the plan is of "
                f"{slot.name!r}'s defaults: lay over it a recipe that states them with random weights (--overlay)."
            )
    return found


def build_meta(config: ModelConfig) -> MultimodalModel:
    """The model on the meta device. Raises what `compose` raises."""
    with torch.device("meta"):
        return compose(config.without_pretrained())


def make_fake(model: MultimodalModel, mode: FakeTensorMode, device: torch.device, dtype: torch.dtype) -> None:
    """Replace all tensors by fake ones of this device: unlike those of meta they take part in autocast.

    dtype: of what is floating-point.
    """
    memo: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in memo:
            with mode:
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                new = torch.empty(tensor.shape, dtype=kind, device=device)
                memo[id(tensor)] = nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new
        return memo[id(tensor)]

    keep: list[Tensor] = []  # so that no id is given to a second tensor
    for part in model.parts().values():
        for module in part.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    keep.append(parameter)
                    module._parameters[name] = fake(parameter)  # type: ignore[assignment]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    keep.append(buffer)
                    module._buffers[name] = fake(buffer)
