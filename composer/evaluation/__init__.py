"""Questions asked of a trained model: answers that are kept, graded and reported. No torch here."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer.evaluation.benchmarks import evaluate as evaluate
    from composer.evaluation.report import Result as Result

_PLACES = {"evaluate": "composer.evaluation.benchmarks", "Result": "composer.evaluation.report"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
