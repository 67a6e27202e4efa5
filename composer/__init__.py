"""Build multimodal LLMs from plugins; train, evaluate and query them.

Importing this package imports no torch: the names below are loaded when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer.inference.model import Model, build, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'composer' has no attribute {name!r}")
    return getattr(importlib.import_module("composer.inference.model"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
