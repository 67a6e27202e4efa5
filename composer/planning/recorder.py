"""Recorder of the operations and memory of a forward, operation by operation, on tensors without values."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


OPERATIONS = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""Operations by operator; the CPU's attention is one that torch 2.11 does not know."""

Sizes = dict[int, int]
"""Bytes of storages, by their identity."""


class Recorder(TorchDispatchMode):
    """Operations and bytes of one forward of a part. While it records, a number that is read out of a tensor is zero.

    flops: 2 for each multiplication with its addition.

    Sets of storages, weights not included:
    outside: saved for the backward pass by what is not in a block.
    inside: saved in a block; blocks: the bytes of each one.
    inputs: what blocks that save something are given, which activation checkpointing keeps instead.
    casts, block_casts: saved copies of weights in another precision, which do not grow with the batch.
    peak: most bytes that were alive at a time, casts not included.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.outside: Sizes = {}
        self.inside: Sizes = {}
        self.inputs: Sizes = {}
        self.casts: Sizes = {}
        self.block_casts: Sizes = {}
        self.blocks: list[int] = []
        self.flops = self.peak = 0
        self._alive: Sizes = {}
        self._bytes = 0
        self._given: list[torch.UntypedStorage] | None = None
        self._block: Sizes = {}
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._copies: set[int] = set()
        self._held: list[torch.UntypedStorage] = []  # storages, so that no identity is used twice

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 0.0 if args[0].dtype.is_floating_point else 0
        out = func(*args, **(kwargs or {}))
        operations = OPERATIONS.get(func._overloadpacket)
        if operations is not None:
            self.flops += operations(*args, **(kwargs or {}), out_val=out)
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self._weights:
            copy = out.untyped_storage()
            self._copies.add(copy._cdata)
            weakref.finalize(copy, self._copies.discard, copy._cdata).atexit = False
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return out

    def save(self, tensor: Tensor) -> Tensor:
        """Hook of autograd: `tensor` is saved for the backward pass."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._weights:
            return tensor
        self._held.append(storage)
        if key in self._copies:
            (self.casts if self._given is None else self.block_casts)[key] = storage.nbytes()
        elif self._given is None:
            self.outside[key] = storage.nbytes()
        else:
            self.inside[key] = self._block[key] = storage.nbytes()
        return tensor

    def enter(self, _: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Hook of a block, before its forward."""
        if self._given is None:
            self._given = [x.untyped_storage() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            self._block = {}

    def leave(self, *_: object) -> None:
        """Hook of a block, after its forward."""
        if self._block and self._given:
            self.inputs |= {storage._cdata: storage.nbytes() for storage in self._given}
            self._held += self._given
            self.blocks.append(sum(self._block.values()))
        self._given, self._block = None, {}

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive and key not in self._weights and key not in self._copies:
            self._alive[key] = storage.nbytes()
            self._bytes += storage.nbytes()
            self.peak = max(self.peak, self._bytes)
            weakref.finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self._bytes -= self._alive.pop(key, 0)


class FusedAttention(TorchFunctionMode):
    """Attention as the kernels of a GPU save it. Without a GPU, torch takes the path that saves the weights."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _fused(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (x.to(torch.get_autocast_dtype("cuda")) for x in (query, key, value))
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    if attn_mask is None and query.dtype != torch.float32:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[
            0
        ]
    if attn_mask is not None:
        mask = attn_mask if attn_mask.dtype != torch.bool else torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    return efficient(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
