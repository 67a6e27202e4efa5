"""The wkv operators as one node of a compiled graph.

torch.compile traces neither fla's kernels nor chunks whose length depends on the decays, and would break the graph of
every block there. The backward pass of the node runs the operator again.

Legend: B rows, S sequences (B unless packed), T positions, H heads, K channels of a head.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

OPERATORS: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {}
"""`wkv6` and `wkv7` by version; their modules, which import this one, enter them."""


def wkv_node(
    version: int, inputs: Sequence[Tensor], state: Tensor | None, cu_seqlens: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """`wkv6` or `wkv7` by version: their tensors [B, T, H, K] in order, then `state` and `cu_seqlens`."""
    return _wkv(version, list(inputs), state, None if cu_seqlens is None else list(cu_seqlens))


def _run(
    version: int, inputs: Sequence[Tensor], state: Tensor | None, cu_seqlens: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    return OPERATORS[version](*inputs, state, None if cu_seqlens is None else tuple(cu_seqlens))


@torch.library.custom_op("composer_rwkv::wkv", mutates_args=())
def _wkv(
    version: int, inputs: Sequence[Tensor], state: Tensor | None, cu_seqlens: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    out, after = _run(version, inputs, state, cu_seqlens)
    return out.contiguous(), after.contiguous()


@_wkv.register_fake
def _(
    version: int, inputs: Sequence[Tensor], state: Tensor | None, cu_seqlens: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    v = inputs[2 if version == 6 else 3]
    sequences = v.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
    after = v.new_empty(sequences, *v.shape[2:], v.shape[3], dtype=torch.float32)
    return v.new_empty(v.shape), after


@torch.library.custom_op("composer_rwkv::wkv_backward", mutates_args=())
def _wkv_backward(
    version: int,
    inputs: Sequence[Tensor],
    state: Tensor | None,
    cu_seqlens: Sequence[int] | None,
    grad_out: Tensor,
    grad_after: Tensor,
) -> list[Tensor]:
    with torch.enable_grad(), _recording():
        leaves = [x.detach().requires_grad_() for x in (*inputs, *(() if state is None else (state,)))]
        results = _run(version, leaves[: len(inputs)], None if state is None else leaves[-1], cu_seqlens)
        grads = torch.autograd.grad(results, leaves, (grad_out, grad_after), materialize_grads=True)
    return [grad.contiguous() for grad in grads]


@_wkv_backward.register_fake
def _(
    version: int,
    inputs: Sequence[Tensor],
    state: Tensor | None,
    cu_seqlens: Sequence[int] | None,
    grad_out: Tensor,
    grad_after: Tensor,
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in (*inputs, *(() if state is None else (state,)))]


def _recording() -> AbstractContextManager[None]:
    """A context in which autograd records: without it, no operator's implementation does. torch has no public name."""
    exclude = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradOther", "AutogradCPU", "AutogradCUDA", "ADInplaceOrView"):
        exclude = exclude.remove(getattr(torch._C.DispatchKey, key))
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), exclude)


def _save(ctx: Any, inputs: Any, output: object) -> None:
    ctx.version, tensors, state, ctx.cu_seqlens = inputs
    ctx.save_for_backward(*tensors, *(() if state is None else (state,)))
    ctx.has_state = state is not None


def _backward(ctx: Any, grad_out: Tensor, grad_after: Tensor) -> tuple[object, ...]:
    tensors = list(ctx.saved_tensors)
    state = tensors.pop() if ctx.has_state else None
    grads = _wkv_backward(ctx.version, tensors, state, ctx.cu_seqlens, grad_out, grad_after)
    return None, grads[: len(tensors)], grads[-1] if ctx.has_state else None, None


_wkv.register_autograd(_backward, setup_context=_save)
