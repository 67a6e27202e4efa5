"""Key-value cache as an immutable state: a forward never changes its input."""

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
    """Keys and values of all blocks.

    Padding is on the left of every row, so that sliding windows and chunks only count real positions.

    Attributes:
        layers: Keys and values of each block, [B, kv heads, S, channels].
        mask: [B, S] bool, False at padding.
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
        return super().load(path, fingerprint).padded_left()  # earlier versions saved padding anywhere

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """Concatenate the rows of states; shorter caches are padded on the left."""
        length = max(state.mask.shape[1] for state in states)
        return super().cat([state._pad(length - state.mask.shape[1]) for state in states])

    def padded_left(self) -> Self:
        """Return the same state with the padding of each row on the left."""
        order = self.mask.int().argsort(dim=1, stable=True)
        places = order[:, None, :, None]
        layers = ((keys.take_along_dim(places, 2), values.take_along_dim(places, 2)) for keys, values in self.layers)
        return type(self)(tuple(layers), self.mask.gather(1, order))

    def _pad(self, count: int) -> Self:
        """Add `count` positions of padding on the left."""
        layers = tuple((F.pad(keys, (0, 0, count, 0)), F.pad(values, (0, 0, count, 0))) for keys, values in self.layers)
        return type(self)(layers, F.pad(self.mask, (count, 0)))


class AppendingLayer(DynamicLayer):
    """Cache layer that always appends to its initial keys and values.

    So activation checkpointing, which runs a block twice, appends once, and the input state is not changed.
    """

    def __init__(self, past: KeysAndValues | None) -> None:
        super().__init__()
        self.past = past
        if past is not None:
            self._set(*past)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> KeysAndValues:
        if self.past is not None:
            key_states = torch.cat([self.past[0], key_states], dim=-2)
            value_states = torch.cat([self.past[1], value_states], dim=-2)
        self._set(key_states, value_states)
        return key_states, value_states

    def _set(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True


def cache_after(state: KVState | None, depth: int) -> Cache:
    """Create the cache of one forward after `state`.

    Args:
        state: Previous positions; None for the start of the text.
        depth: Number of blocks.

    Returns:
        A cache of transformers.
    """
    past = state.layers if state else (None,) * depth
    return Cache(layers=[AppendingLayer(layer) for layer in past])


def read_cache(cache: Cache) -> tuple[KeysAndValues, ...]:
    """Return the keys and values in a cache after a forward. Raises ComposeError if a layer has none."""
    if not all(layer.is_initialized for layer in cache.layers):
        raise ComposeError("it has layers without keys and values in the cache")
    return tuple((layer.keys, layer.values) for layer in cache.layers)


@dataclass(frozen=True)
class ReservedKVState(State):
    """Cache of fixed length S that is filled in place.

    Attributes:
        layers: Keys and values of each block, as in `KVState`.
        mask: [B, S] bool, False at padding and at free slots.
        place: [B] int64, slot of the next position, the same in all rows.
    """

    layers: tuple[KeysAndValues, ...]
    mask: Tensor
    place: Tensor

    @classmethod
    def of(cls, state: KVState, positions: int) -> Self:
        """Copy `state` and add free slots for `positions` more."""
        room = (0, positions)
        layers = tuple((F.pad(keys, (0, 0, *room)), F.pad(values, (0, 0, *room))) for keys, values in state.layers)
        rows, length = state.mask.shape
        return cls(layers, F.pad(state.mask, room), torch.full((rows,), length, device=state.mask.device))

    def tensors(self) -> dict[str, Tensor]:
        return KVState(self.layers, self.mask).tensors() | {"place": self.place}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        rest = dict(tensors)
        place = rest.pop("place")
        state = KVState.from_tensors(rest)
        return cls(state.layers, state.mask, place)

    def cache(self) -> Cache:
        """Create the cache of one step, which writes to this state."""
        return Cache(layers=[FillingLayer(keys, values, self.place[:1]) for keys, values in self.layers])


class FillingLayer(AppendingLayer):
    """Cache layer of fixed length that writes one position to the slot `place` ([1] int64)."""

    is_compileable = True  # so that transformers always creates a mask

    def __init__(self, keys: Tensor, values: Tensor, place: Tensor) -> None:
        super().__init__((keys, values))
        self.place = place

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> KeysAndValues:
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> Any:
        return self.place[0]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[-2], 0
