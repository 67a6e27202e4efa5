"""State of an RWKV model, of constant size for any length of text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from composer.state import State
from composer_plugins.rwkv.model import LayerState


@dataclass(frozen=True)
class RecurrentState(State):
    """State of all blocks: the last inputs of their mixers and their wkv matrices."""

    layers: tuple[LayerState, ...]

    def tensors(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": part for i, layer in enumerate(self.layers) for name, part in layer._asdict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        depth = len(tensors) // len(LayerState._fields)
        return cls(tuple(LayerState(*(tensors[f"{i}.{name}"] for name in LayerState._fields)) for i in range(depth)))
