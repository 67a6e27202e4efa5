"""Counts what reads values of tensors back to the host; on CUDA each of these waits for the device."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "repeat_interleave.Tensor", "aten.equal")
METHODS = ("tolist", "numpy", "cpu")
"""On the CPU these are no operators."""


@contextmanager
def host_reads() -> Iterator[Counter[str]]:
    """What composer and transformers read meanwhile, in forward and backward: how often, by the place in the code."""
    places: Counter[str] = Counter()
    with _Operators(places), _Methods(places):
        yield places


def _count(places: Counter[str], name: str) -> None:
    for frame in reversed(traceback.extract_stack()):
        for folder in ("/composer/", "/composer_plugins/", "/transformers/"):
            if folder in frame.filename and "/tests/" not in frame.filename:
                places[f"{name} in {frame.filename.rpartition(folder)[2]}:{frame.name}"] += 1
                return


class _Operators(TorchDispatchMode):
    def __init__(self, places: Counter[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in OPERATORS):
            _count(self.places, func.__name__)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, places: Counter[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in METHODS:
            _count(self.places, func.__name__)
        return func(*args, **(kwargs or {}))
