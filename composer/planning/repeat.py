"""Recorder that traces one of several equal blocks and adds its cost again for each of the others."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from composer.planning.recorder import Recorder

BARE = vars(nn.Module()).keys()
PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)

Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device, bool]


class Repeat(NamedTuple):
    """Cost of a block and its outputs.

    rise: most bytes alive in it, above those before it. saved: bytes, inputs not included. saved_inputs: indices.
    new: layouts of new outputs. output: from all inputs and new outputs.
    """

    flops: int
    rise: int
    casts: int
    saved: int
    saved_inputs: list[int]
    new: list[Layout]
    output: Callable[[list[Tensor]], Any]


class RepeatingRecorder(Recorder):
    """Recorder of a part whose blocks are called through `run`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__([*part.parameters(), *part.buffers()])
        self._repeats: dict[Hashable, Repeat] = {}
        self._used: set[int] = set()
        self._anchor = torch.empty((), requires_grad=True)

    def run(self, block: nn.Module, kind: Hashable, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a block's forward, unless one of the same kind was traced on inputs of the same layouts."""
        if self._given is not None:
            return forward(*args, **kwargs)
        self.enter(block, args, kwargs)
        leaves, spec = tree_flatten((args, kwargs))
        inputs = [x for x in leaves if isinstance(x, Tensor)]
        storages = [x.untyped_storage()._cdata for x in inputs]
        aliases = tuple(map(storages.index, storages))
        weights = {id(weight) for weight in block.parameters()}
        fresh = weights.isdisjoint(self._used)  # autocast keeps the copies that it makes at the first use
        key = (kind, spec, aliases, fresh, torch.is_grad_enabled(), *map(self._input, leaves))
        self._used |= weights
        repeat = self._repeats.get(key)
        if repeat is None:
            out = self._trace(key, inputs, lambda: forward(*args, **kwargs))
        else:
            out = self._repeat(repeat, inputs)
        self.leave()
        return out

    def _input(self, x: Any) -> Hashable:
        """Equal for inputs on which a block costs the same. An object that the block may change equals none."""
        if isinstance(x, Tensor):
            key, size = x.untyped_storage()._cdata, x.untyped_storage().nbytes()
            autocast = torch.is_autocast_enabled(x.device.type)
            return *_layout(x), size, key in self._weights, key in self._copies, autocast
        self._held.append(x)  # so that no identity is used twice
        params = getattr(x, "__dataclass_params__", None)
        frozen = isinstance(x, nn.Module) or (params is not None and params.frozen)
        return _value(x) if frozen or isinstance(x, PLAIN) else object()

    def _trace(self, key: Hashable, inputs: list[Tensor], forward: Callable[[], Any]) -> Any:
        flops, casts, before, peak = self.flops, sum(self.block_casts.values()), self._bytes, self.peak
        self.peak = before
        out = forward()
        rise, self.peak = self.peak - before, max(peak, self.peak)
        leaves, spec = tree_flatten(out)
        places = {id(x): place for place, x in enumerate(inputs)}
        new = [x for x in leaves if isinstance(x, Tensor) and id(x) not in places]
        places |= {id(x): len(inputs) + place for place, x in enumerate(new)}
        outputs = [(places[id(x)], None) if isinstance(x, Tensor) else (None, x) for x in leaves]
        given = {x.untyped_storage()._cdata for x in inputs}
        repeat = Repeat(
            self.flops - flops,
            rise,
            sum(self.block_casts.values()) - casts,
            sum(size for storage, size in self._block.items() if storage not in given),
            [place for place, x in enumerate(inputs) if x.untyped_storage()._cdata in self._block],
            [_layout(x) for x in new],
            lambda tensors: tree_unflatten([x if place is None else tensors[place] for place, x in outputs], spec),
        )
        # All that the block leaves alive must be what it saved and outputs that have a storage each.
        if (
            all(isinstance(x, (Tensor, *PLAIN)) for x in leaves)
            and all(x.nbytes == x.untyped_storage().nbytes() for x in new)
            and self._bytes - before == repeat.saved + sum(x.nbytes for x in new)
        ):
            self._repeats[key] = repeat
        return out

    def _repeat(self, repeat: Repeat, inputs: list[Tensor]) -> Any:
        self.flops += repeat.flops
        self.peak = max(self.peak, self._bytes + repeat.rise)
        self._bytes += repeat.saved
        unique = -1 - len(self.block_casts)  # identities of storages are positive
        self.block_casts[unique] = repeat.casts
        if repeat.saved:
            self.inside[unique] = self._block[unique] = repeat.saved
        for place in repeat.saved_inputs:
            self.save(inputs[place])
        new = []
        for shape, stride, dtype, device, grad in repeat.new:
            x = torch.empty_strided(shape, stride, dtype=dtype, device=device)
            new.append(x.add_(self._anchor) if grad else x)
        return repeat.output([*inputs, *new])


def kind_of(block: nn.Module) -> Hashable:
    """Equal for blocks of the same classes, options and layouts of weights."""
    return tuple(
        (
            name,
            type(module),
            module.training,
            tuple((key, _value(x)) for key, x in vars(module).items() if key not in BARE),
            tuple((key, x is not None and _layout(x)) for key, x in (module._parameters | module._buffers).items()),
        )
        for name, module in block.named_modules()
    )


def _value(x: Any) -> Hashable:
    return tuple(map(_value, x)) if isinstance(x, tuple) else repr(x) if isinstance(x, PLAIN) else id(x)


def _layout(x: Tensor) -> Layout:
    return tuple(x.shape), x.stride(), x.dtype, x.device, x.requires_grad
