"""Evaluation of a trained model: asks questions; stores, grades and reports the answers. Does not import torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from composer.evaluation.benchmarks import evaluate as evaluate
    from composer.evaluation.report import Result as Result

_MODULES = {"evaluate": "composer.evaluation.benchmarks", "Result": "composer.evaluation.report"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
