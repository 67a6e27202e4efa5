"""Builds parts whose weights are loaded later."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

_FILLS = frozenset(
    {"add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_"}
)
"""Methods that only write a tensor's values."""


@contextmanager
def unfilled_parameters() -> Iterator[None]:
    """Create the parameters of modules on the meta device, without values, until the block ends.

    Buffers are computed as usual: with `torch.device("meta")`, those that no checkpoint contains, such as rotary
    tables, would be lost.
    """
    memo: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # by identity, so that tied parameters stay tied

    def unfilled(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.is_meta:
            return parameter
        if id(parameter) not in memo:
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            memo[id(parameter)] = parameter, empty
        return memo[id(parameter)][1]

    handle = register_module_parameter_registration_hook(unfilled)  # type: ignore[arg-type]  # torch's own type is wrong
    try:
        with _NothingToFill():
            yield
    finally:
        handle.remove()


class _NothingToFill(TorchFunctionMode):
    """Skips functions that would fill meta tensors: the first such call imports the meta kernels and sympy."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")  # as torch.nn.init passes it
        fills = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _FILLS
        return tensor if fills and isinstance(tensor, Tensor) and tensor.is_meta else func(*args, **kwargs)


def fill(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Assign the tensors of a state dict to a module's parameters and buffers; tied parameters stay tied."""
    tied: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        tied.setdefault(id(parameter), []).append(name)
    module.load_state_dict(weights, assign=True)
    for first, *others in tied.values():
        for name in others:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(first))
