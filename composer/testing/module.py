"""Checks for parts of every kind: side effects of `forward`, state dict and gradients."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)


def require(condition: bool, message: str) -> None:
    """Raise AssertionError if a condition is false, also under `python -O`.

    Args:
        condition: The condition to check.
        message: Message of the error.

    Raises:
        AssertionError: If the condition is false.
    """
    if not condition:
        raise AssertionError(message)


def close(got: Tensor, expected: Tensor) -> bool:
    """Return whether two tensors are equal up to rounding: within 1e-4 of the largest expected value.

    Args:
        got: Actual values.
        expected: Expected values.

    Returns:
        Whether shapes are equal and values are close.
    """
    scale = expected.abs().max().clamp(min=1.0)
    return got.shape == expected.shape and bool(((got - expected).abs() <= 1e-4 * scale).all())


def check_module(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> None:
    """Check the rules for every part.

    `forward` is deterministic and writes no attributes; every tensor attribute is a parameter or a buffer; gradients
    reach every trainable parameter; the state dict is complete. Leaves the part in eval mode.

    Args:
        part: A part on the CPU.
        run: Function that runs the part on the same inputs each time and returns one floating-point tensor.

    Raises:
        AssertionError: If a rule is broken. Names what to fix.
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
    require(torch.equal(first, second), "two runs on the same input differ in eval mode: make forward deterministic")
    require(bool(first.isfinite().all()), "forward returned values that are not finite")
    _check_state(part, run, first)
    _check_gradients(part, run)


def check_checkpointing(
    part: nn.Module, run: Callable[[nn.Module], Tensor], blocks: tuple[type[nn.Module], ...]
) -> None:
    """Check that activation checkpointing of a part's blocks changes neither its output nor its gradients.

    Args:
        part: A part on the CPU.
        run: Function that runs the part; see `check_module`.
        blocks: The part's `block_classes`. If empty, nothing is checked.

    Raises:
        AssertionError: If checkpointing fails or changes a value. Names what to fix.
    """
    if not blocks:
        return
    names = ", ".join(block.__name__ for block in blocks)
    has_blocks = any(isinstance(module, blocks) for module in part.modules())
    require(has_blocks, f"block_classes is {names}, but the part has no such module: none could be checkpointed")
    try:
        plain, wrapped = copy.deepcopy(part), copy.deepcopy(part)
    except RuntimeError as error:
        raise AssertionError(
            f"forward keeps a tensor and its graph in an attribute: return it instead ({error})"
        ) from error
    apply_activation_checkpointing(
        wrapped, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=lambda module: isinstance(module, blocks)
    )
    remedy = f"{names} must not change its inputs (such as a cache), and must return the same values if run again"
    expected = _run_with_gradients(plain, run)
    try:
        got = _run_with_gradients(wrapped, run)
    except Exception as error:
        raise AssertionError(f"training.gradient_checkpointing fails with {error!r}: {remedy}") from error
    wrong = [name for name, value in expected.items() if not close(got[name], value)]
    require(not wrong, f"training.gradient_checkpointing changes the {', the '.join(wrong)}: {remedy}")


def _run_with_gradients(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    """Run a part forward and backward. Returns its output and the gradient of every parameter that has one."""
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
            if value.is_floating_point() and _is_saved(other, value):
                value.add_(torch.randn_like(value))
    other.load_state_dict(part.state_dict())
    with torch.no_grad():
        restored = run(other)
    require(torch.equal(restored, expected), "a copy that loaded the part's state dict returns a different output")


def _check_gradients(part: nn.Module, run: Callable[[nn.Module], Tensor]) -> None:
    trainable = {name: p for name, p in part.named_parameters() if p.requires_grad}
    if not trainable:
        return
    part.train()
    part.zero_grad(set_to_none=True)
    output = run(part)
    require(output.requires_grad, "the output has no gradient, although the part has trainable parameters")
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


def _attributes(part: nn.Module) -> dict[str, object]:
    """Return every attribute of a part's modules. The values stay alive, so that no other object gets their `id`."""
    attributes = {}
    for name, module in part.named_modules():
        values = {**vars(module), **module._parameters, **module._buffers}
        for attribute, value in values.items():
            if attribute not in ("_parameters", "_buffers", "_modules"):
                attributes[_join(name, attribute)] = value
    return attributes


def _same(one: object, another: object) -> bool:
    return bool(one == another) if isinstance(one, int | float | str) else one is another


def _is_saved(part: nn.Module, value: Tensor) -> bool:
    return any(value.data_ptr() == saved.data_ptr() for saved in part.state_dict().values())


def _join(module: str, attribute: str) -> str:
    return f"{module}.{attribute}" if module else attribute
