"""The author's own implementation (package `rwkv`), one copy of its module for each version of the model."""

import contextlib
import importlib.util
import io
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from composer.tokenizer import tokenizer_from
from composer_plugins.rwkv.backbone import RWKV6Backbone, RWKV7Backbone, RWKVBackbone

BYTES = tokenizer_from("bytes")
VERSIONS: dict[str, type[RWKVBackbone]] = {"6": RWKV6Backbone, "7": RWKV7Backbone}


@cache
def module(version: str, scripted: bool = False) -> ModuleType:
    """The package chooses the version, and whether it scripts its functions, when it is imported."""
    name = f"rwkv_model_v{version}"
    spec = importlib.util.find_spec("rwkv.model")
    assert spec is not None
    assert spec.origin is not None
    spec = importlib.util.spec_from_file_location(name, spec.origin)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    # It reads these again at every forward.
    os.environ.update(RWKV_JIT_ON=str(int(scripted)), RWKV_CUDA_ON="0")
    with patch.dict("os.environ", RWKV_V7_ON=str(int(version == "7"))):
        spec.loader.exec_module(made)
    return made


def authors(made: RWKVBackbone, path: Path, scripted: bool = False) -> Any:
    """The author's model with the weights of `made`, by way of an official file written to `path` (*.pth)."""
    torch.save({name: value.detach().clone() for name, value in made.model.state_dict().items()}, path)
    # The package adds the suffix itself in version 7 only, and prints what it loads.
    name = str(path.with_suffix("")) if made.version == "7" else str(path)
    with contextlib.redirect_stdout(io.StringIO()):
        return module(made.version, scripted).RWKV(model=name, strategy="cpu fp32")


def random_model(version: str, noise: float = 0.1, **options: Any) -> RWKVBackbone:
    """Build a small model with noise on its weights: at the author's initialization every block is the identity."""
    torch.manual_seed(0)
    made = VERSIONS[version](tokenizer=BYTES, **{"width": 128, "depth": 3, "head_size": 64, **options})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return made.eval()


def distance(got: Tensor, expected: Tensor) -> float:
    """max |a - b| / max |b|."""
    return ((got - expected).abs().max() / expected.abs().max()).item()
