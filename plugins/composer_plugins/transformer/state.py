"""The key-value cache as a value: what a forward was given is never changed by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicLayer

from composer.errors import ComposeError
from composer.state import State

KeysAndValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class KVState(State):
    """layers: each block's keys and values, [B, kv heads, S, channels]; mask: [B, S] bool, False at padding.

    Padding is on the left of every row, so that sliding windows and chunks count real positions only.
    """

    layers: tuple[KeysAndValues, ...]
    mask: Tensor

    def tensors(self) -> dict[str, Tensor]:
        named = {"mask": self.mask}
        for layer, (keys, values) in enumerate(self.layers):
            named |= {f"{layer}.keys": keys, f"{layer}.values": values}
        return named

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        depth = len(tensors) // 2
        layers = ((tensors[f"{layer}.keys"], tensors[f"{layer}.values"]) for layer in range(depth))
        return cls(tuple(layers), tensors["mask"])

    @classmethod
    def load(cls, path: Path | str, fingerprint: str) -> Self:
        return super().load(path, fingerprint).padded_left()  # earlier versions kept padding where it was

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """The rows of all `states`; shorter caches are padded on the left, which their masks say."""
        length = max(state.mask.shape[1] for state in states)
        return super().cat([state._padded(length - state.mask.shape[1]) for state in states])

    def padded_left(self) -> Self:
        """The same state, each row's padding moved to its left."""
        order = self.mask.int().argsort(dim=1, stable=True)
        places = order[:, None, :, None]
        layers = ((keys.take_along_dim(places, 2), values.take_along_dim(places, 2)) for keys, values in self.layers)
        return type(self)(tuple(layers), self.mask.gather(1, order))

    def _padded(self, count: int) -> Self:
        layers = tuple((F.pad(keys, (0, 0, count, 0)), F.pad(values, (0, 0, count, 0))) for keys, values in self.layers)
        return type(self)(layers, F.pad(self.mask, (count, 0)))


class AppendingLayer(DynamicLayer):
    """A cache layer that appends to what it was made with, not to what it appended last.

    So activation checkpointing, which runs a block twice, appends once, and the state that came in stays as it was.
    """

    def __init__(self, past: KeysAndValues | None) -> None:
        super().__init__()
        self.past = past
        if past is not None:
            self._hold(*past)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysAndValues:
        if self.past is not None:
            key_states = torch.cat([self.past[0], key_states], dim=-2)
            value_states = torch.cat([self.past[1], value_states], dim=-2)
        self._hold(key_states, value_states)
        return key_states, value_states

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True


def cache_after(state: KVState | None, depth: int) -> Cache:
    """A cache for one forward that starts where `state` ends."""
    past = state.layers if state else (None,) * depth
    return Cache(layers=[AppendingLayer(layer) for layer in past])


def held_by(cache: Cache) -> tuple[KeysAndValues, ...]:
    """What a cache holds after a forward. Raises ComposeError if a layer stored nothing."""
    if not all(layer.is_initialized for layer in cache.layers):
        raise ComposeError("it has layers that store no keys and values")
    return tuple((layer.keys, layer.values) for layer in cache.layers)


@dataclass(frozen=True)
class ReservedKVState(State):
    """A cache of fixed length S that is filled in place.

    layers, mask: as in `KVState`; what is not filled yet is not in the mask. place: [B] int64, the slot of the next
    position, the same in every row.
    """

    layers: tuple[KeysAndValues, ...]
    mask: Tensor
    place: Tensor

    @classmethod
    def of(cls, state: KVState, positions: int) -> Self:
        """A copy of `state` with room for `positions` more."""
        room = (0, positions)
        layers = tuple((F.pad(keys, (0, 0, *room)), F.pad(values, (0, 0, *room))) for keys, values in state.layers)
        rows, length = state.mask.shape
        return cls(layers, F.pad(state.mask, room), torch.full((rows,), length, device=state.mask.device))

    def tensors(self) -> dict[str, Tensor]:
        return KVState(self.layers, self.mask).tensors() | {"place": self.place}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        held = dict(tensors)
        place = held.pop("place")
        state = KVState.from_tensors(held)
        return cls(state.layers, state.mask, place)

    def cache(self) -> Cache:
        """A cache for one step, which writes into this state."""
        return Cache(layers=[FillingLayer(keys, values, self.place[:1]) for keys, values in self.layers])


class FillingLayer(AppendingLayer):
    """A cache layer of fixed length that writes one position at `place` ([1] int64)."""

    is_compileable = True  # so that transformers always makes a mask

    def __init__(self, keys: Tensor, values: Tensor, place: Tensor) -> None:
        super().__init__((keys, values))
        self.place = place

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysAndValues:
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> Any:
        return self.place[0]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[-2], 0
