"""Checks that hold for every part: what its `forward` may write, what it saves, and where gradients arrive."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)


def require(holds: bool, message: str) -> None:
    """Raise AssertionError with `message` unless it holds (unlike `assert`, also under `python -O`)."""
    if not holds:
        raise AssertionError(message)


def close(got: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same but for the order of floating-point sums: within 1e-4 of the largest value."""
    scale = expected.abs().max().clamp(min=1.0)
    return got.shape == expected.shape and bool(((got - expected).abs() <= 1e-4 * scale).all())


def check_module(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> None:
    """What every part must do, `run` being one forward of it, on inputs that never change, to one float tensor.

    The same input gives the same output; `forward` writes no attribute; every tensor it holds is a parameter or a
    buffer; gradients reach every trainable parameter; its state dict is all of it. Leaves the part in eval mode.
    """
    part.eval()
    _check_loose_tensors(part)
    before = _attributes(part)
    with torch.no_grad():
        first, second = run(part), run(part)
    written = [
        name for name, value in _attributes(part).items() if name not in before or not _same(before[name], value)
    ]
    require(
        not written, f"forward wrote the attribute {', '.join(written)}: return it instead, forward runs in parallel"
    )
    require(torch.equal(first, second), "two runs on one input differ in eval mode: make forward deterministic")
    require(bool(first.isfinite().all()), "forward gives values that are not finite")
    _check_state(part, run, first)
    _check_gradients(part, run)


def check_checkpointing(
    part: nn.Module, run: Callable[[nn.Module], Tensor], blocks: tuple[type[nn.Module], ...]
) -> None:
    """Whether the part gives the same output and gradients if its blocks compute their activations again.

    run: see `check_module`. blocks: the part's `block_classes`; nothing is checked if there are none.
    """
    if not blocks:
        return
    names = ", ".join(block.__name__ for block in blocks)
    found = any(isinstance(module, blocks) for module in part.modules())
    require(found, f"block_classes names {names}, and no module is one: none could be checkpointed")
    try:
        plain, wrapped = copy.deepcopy(part), copy.deepcopy(part)
    except RuntimeError as error:
        raise AssertionError(
            f"forward keeps a tensor and its graph in an attribute: return it instead ({error})"
        ) from error
    apply_activation_checkpointing(
        wrapped, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=lambda module: isinstance(module, blocks)
    )
    remedy = f"{names} must not change what it is given (such as a cache), and must give the same when run again"
    expected = _with_gradients(plain, run)
    try:
        got = _with_gradients(wrapped, run)
    except Exception as error:
        raise AssertionError(f"training.gradient_checkpointing fails with {error!r}: {remedy}") from error
    wrong = [name for name, value in expected.items() if not close(got[name], value)]
    require(not wrong, f"training.gradient_checkpointing changes the {', the '.join(wrong)}: {remedy}")


def _with_gradients(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    """The output, and the gradient of every parameter that has one."""
    output = run(part.eval())
    if output.requires_grad:
        generator = torch.Generator().manual_seed(0)
        (output.float() * torch.randn(output.shape, generator=generator)).sum().backward()
    prefix = "_checkpoint_wrapped_module."
    gradients = {f"gradient of {name.replace(prefix, '')}": p.grad for name, p in part.named_parameters()}
    return {"output": output.detach()} | {name: value for name, value in gradients.items() if value is not None}


def _check_loose_tensors(part: nn.Module) -> None:
    for name, module in part.named_modules():
        for attribute, value in vars(module).items():
            require(
                not isinstance(value, Tensor),
                f"the tensor {_join(name, attribute)} is neither a parameter nor a buffer, so it is neither saved nor "
                "moved to the GPU: use register_buffer",
            )


def _check_state(part: nn.Module, run: Callable[[nn.Module], Tensor], expected: Tensor) -> None:
    other = copy.deepcopy(part)
    with torch.no_grad():
        for value in [*other.parameters(), *other.buffers()]:
            if value.is_floating_point() and _saved(other, value):
                value.add_(torch.randn_like(value))
    other.load_state_dict(part.state_dict())
    with torch.no_grad():
        restored = run(other)
    require(torch.equal(restored, expected), "loading its own state dict into a copy does not give the same output")


def _check_gradients(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> None:
    trainable = {name: p for name, p in part.named_parameters() if p.requires_grad}
    if not trainable:
        return
    part.train()
    part.zero_grad(set_to_none=True)
    output = run(part)
    require(output.requires_grad, "the output has no gradient though the part has trainable parameters")
    generator = torch.Generator().manual_seed(0)
    (output.float() * torch.randn(output.shape, generator=generator)).sum().backward()
    unreached = [name for name, p in trainable.items() if p.grad is None]
    require(
        not unreached,
        f"no gradient reaches {', '.join(unreached)}: use each in forward, without detach or a new nn.Parameter, or "
        "set requires_grad to False",
    )
    broken = [name for name, p in trainable.items() if p.grad is not None and not p.grad.isfinite().all()]
    require(not broken, f"the gradient of {', '.join(broken)} is not finite")
    part.zero_grad(set_to_none=True)
    part.eval()


def _attributes(part: nn.Module) -> dict[str, Any]:
    """Everything that the modules of a part hold. The values stay alive, so that no other gets the identity of one."""
    found = {}
    for name, module in part.named_modules():
        held = {**vars(module), **module._parameters, **module._buffers}
        for attribute, value in held.items():
            if attribute not in ("_parameters", "_buffers", "_modules"):
                found[_join(name, attribute)] = value
    return found


def _same(one: Any, another: Any) -> bool:
    return bool(one == another) if isinstance(one, int | float | str) else one is another


def _saved(part: nn.Module, value: Tensor) -> bool:
    return any(value.data_ptr() == kept.data_ptr() for kept in part.state_dict().values())


def _join(module: str, attribute: str) -> str:
    return f"{module}.{attribute}" if module else attribute
