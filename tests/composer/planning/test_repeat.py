"""A block that is repeated costs what it costs if it is traced."""

from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from composer.planning.build import build_meta
from composer.planning.measure import PARTS, Meter
from composer.planning.repeat import RepeatingRecorder, kind_of
from composer.recipe.resolve import resolve
from composer.recipe.yamlfile import Origin, parse_yaml

BACKBONES: dict[str, dict[str, Any]] = {
    "rwkv6": {"name": "rwkv6", "width": 64, "depth": 5},
    "rwkv7": {"name": "rwkv7", "width": 64, "depth": 5},
    "segments": {"name": "rwkv7", "width": 64, "depth": 5, "segment_length": 32},
    "cache": {"name": "transformer", "width": 64, "depth": 5, "heads": 2},
}


@pytest.mark.parametrize("trained", [(), ("projector",), PARTS])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_costs_are_those_without_repeats(
    backbone: str, trained: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, traces = [], []
    trace = RepeatingRecorder._trace
    monkeypatch.setattr(RepeatingRecorder, "_trace", lambda *args: (traces.append(args[1]), trace(*args))[1])
    for _ in range(2):
        model = {"encoder": {"name": "openclip", "depth": 6}, "projector": "mlp", "prompt": {"tokenizer": "bytes"}}
        recipe = parse_yaml(yaml.safe_dump({"model": model | {"backbone": BACKBONES[backbone]}}), Origin("here"))
        meter = Meter(build_meta(resolve([recipe]).model), trained)
        costs.append((meter.frame(32, 32, bool(trained)), meter.text(80, 7, bool(trained))))
        assert not meter.uncounted
        monkeypatch.setattr(RepeatingRecorder, "_input", lambda *_: object())
    assert costs[0] == costs[1]
    assert len(set(traces)) == len(traces)
    calls = 15 if backbone == "segments" else 5
    assert len(traces) < 2 * (6 + calls) - (0 if backbone == "cache" else 3)


class Scaled(nn.Module):
    """A block that costs more if `wide`, and adds to `log`."""

    def __init__(self, wide: bool) -> None:
        super().__init__()
        self.wide, self.linear = wide, nn.Linear(8, 8)

    def forward(self, x: Tensor, log: list[int]) -> Tensor:
        log.append(1)
        return self.linear(x).sin() if self.wide else self.linear(x)


def test_only_equal_blocks_with_inputs_that_stay_equal_are_repeated() -> None:
    narrow, wide = Scaled(False), Scaled(True)
    assert kind_of(narrow) == kind_of(Scaled(False)) != kind_of(wide)
    with FakeTensorMode():
        part = nn.Sequential(*(Scaled(False) for _ in range(3)))
        recorder = RepeatingRecorder(part)
        x, log = torch.empty(4, 8), []
        with recorder, saved_tensors_hooks(recorder.save, lambda saved: saved):
            for block in part:
                x = recorder.run(block, kind_of(block), block.forward, x, log)
    assert log == [1, 1, 1]
