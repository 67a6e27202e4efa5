"""Decodes the next token of each row. Legend: b rows that are not finished, V vocabulary."""

from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from composer.parts import Backbone
from composer.state import State

EAGER_STEPS = 3
"""Steps before a CUDA graph is captured: they compile and tune kernels, and a short answer does not need a graph."""


class Decoding(Protocol):
    """Decodes a batch. ahead: whether a step runs before the host has read the tokens of the previous step."""

    ahead: bool

    def __call__(self, ids: Tensor) -> Tensor:
        """Compute the logits [b, V] after ids [b]. The next call may overwrite them."""

    def select(self, rows: Tensor) -> None:
        """Continue only with these rows ([b] int64)."""


class Growing:
    """Decodes with `Backbone.forward`, which every backbone has: each step returns a new state."""

    ahead = False

    def __init__(self, backbone: Backbone, state: State) -> None:
        self.backbone, self.state = backbone, state

    def __call__(self, ids: Tensor) -> Tensor:
        hidden, self.state = self.backbone(self.backbone.embed(ids[:, None]), None, self.state)
        return self.backbone.head(hidden[:, -1])

    def select(self, rows: Tensor) -> None:
        self.state = self.state.select(rows)


class Reserved:
    """Decodes with `Backbone.step`: shapes do not change, and the state is updated in place.

    On CUDA all steps after the first few replay one graph.

    Args:
        backbone: The backbone.
        state: A state from `Backbone.reserve`.
    """

    ahead = True
    state: State
    _run: Callable[[], Tensor]
    _eager: int

    def __init__(self, backbone: Backbone, state: State) -> None:
        self.backbone = backbone
        self._prepare(state)

    def __call__(self, ids: Tensor) -> Tensor:
        self.ids.copy_(ids)
        if self._eager == 0 and self.ids.is_cuda and is_static(self.backbone, self.state):
            self._run = Graph(self._step)
        self._eager -= 1
        return self._run()

    def select(self, rows: Tensor) -> None:
        self._prepare(self.state.select(rows))

    def _prepare(self, state: State) -> None:
        self.state = state
        device = next(iter(state.tensors().values())).device
        self.ids = torch.zeros(state.rows, dtype=torch.int64, device=device)
        self._run, self._eager = self._step, EAGER_STEPS

    def _step(self) -> Tensor:
        return _advance(self.backbone, self.ids, self.state)


class Graph:
    """A function as a CUDA graph. Each call replays it on the tensors that it read when it was captured."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = run()

    def __call__(self) -> Tensor:
        self._graph.replay()
        return self._out


def decoding_of(backbone: Backbone, state: State, positions: int) -> Decoding:
    """Choose how to decode: on CUDA with `Backbone.step` if the backbone has it, else with `Backbone.forward`.

    On CPUs fixed shapes have no benefit, and finished rows are dropped at once.

    Args:
        backbone: The backbone.
        state: State after the prompts.
        positions: Maximum number of tokens to decode.
    """
    on_cuda = next(backbone.parameters()).is_cuda
    reserved = backbone.reserve(state, positions) if on_cuda else None
    return Growing(backbone, state) if reserved is None else Reserved(backbone, reserved)


def is_static(backbone: Backbone, state: State) -> bool:
    """Whether `Backbone.step`, `embed` and `head` depend on no tensor's value, so that a CUDA graph can be captured.

    Traces them with fake tensors, once per backbone.
    """
    if backbone not in _STATIC:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            fake = state.from_tensors({name: mode.from_tensor(value) for name, value in state.tensors().items()})
            ids = torch.zeros(fake.rows, dtype=torch.int64, device=next(iter(fake.tensors().values())).device)
            try:
                _advance(backbone, ids, fake)
                _STATIC[backbone] = True
            except (DataDependentOutputException, DynamicOutputShapeException):
                _STATIC[backbone] = False
    return _STATIC[backbone]


_STATIC: WeakKeyDictionary[Backbone, bool] = WeakKeyDictionary()


def _advance(backbone: Backbone, ids: Tensor, state: State) -> Tensor:
    return backbone.head(backbone.step(backbone.embed(ids[:, None]), state)[:, -1])
