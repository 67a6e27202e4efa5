"""Conformance of a backbone's steps in place. Legend: B rows, T positions, D width."""

import torch
from torch import Tensor

from composer.parts import Backbone
from composer.state import State
from composer.testing.module import close, require

STEPS = 3


@torch.no_grad()
def check_step(backbone: Backbone, embeds: Tensor, mask: Tensor) -> None:
    """Whether `step` gives what `forward` gives, in place. Checks nothing if the backbone does not reserve states.

    Args:
        backbone: in evaluation mode.
        embeds: [B, T, D], what comes before; its first positions are read again, one by one.
        mask: [B, T] bool, False at padding.
    """
    _, state = backbone(embeds, mask)
    before = state.clone().tensors()
    reserved = backbone.reserve(state, STEPS)
    if reserved is None:
        return
    addresses = _addresses(reserved.tensors())
    require(reserved.rows == len(embeds), f"reserve() gives {reserved.rows} rows for a state of {len(embeds)}")
    after = state
    for place in range(STEPS - 1):
        after = _check_next(backbone, embeds[:, place : place + 1], after, reserved)
    moved = [name for name, address in _addresses(reserved.tensors()).items() if address != addresses[name]]
    require(not moved, f"step() replaces the tensors {', '.join(moved)} of its state: update them in place (copy_)")
    rows = torch.arange(len(embeds)).flip(0)[:2]
    last = embeds[rows, STEPS : STEPS + 1]
    _check_next(backbone, last, after.select(rows), reserved.select(rows))
    changed = [name for name, value in state.tensors().items() if not torch.equal(value, before[name])]
    require(not changed, f"step() changes {', '.join(changed)} of the state that reserve() was given: copy it there")


def _check_next(backbone: Backbone, embeds: Tensor, state: State, reserved: State) -> State:
    expected, after = backbone(embeds, None, state)
    require(close(backbone.step(embeds, reserved), expected), "step() differs from forward() on the same position")
    return after


def _addresses(tensors: dict[str, Tensor]) -> dict[str, int]:
    return {name: value.data_ptr() for name, value in tensors.items()}
