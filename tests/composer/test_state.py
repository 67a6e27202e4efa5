"""States as values, in files, and the fingerprint that ties them to a model."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from composer.errors import CheckpointError
from composer.state import fingerprint
from tests.composer.stand_ins import SumState

STATE = SumState(torch.arange(12.0).view(4, 3))


def test_values() -> None:
    clone = STATE.clone()
    clone.total += 1
    assert torch.equal(STATE.total, torch.arange(12.0).view(4, 3))
    assert STATE.rows == 4
    assert torch.equal(STATE.select(torch.tensor([3, 0, 3])).total, STATE.total[[3, 0, 3]])
    joined = SumState.cat([STATE, STATE.select(torch.tensor([1]))])
    assert torch.equal(joined.total, torch.cat([STATE.total, STATE.total[1:2]]))
    assert STATE.to("meta").total.device.type == "meta"
    assert type(clone) is type(joined) is SumState


def test_a_file_gives_the_state_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "state.safetensors"
    columns = SumState(STATE.total.t())  # not contiguous
    columns.save(path, "abc")
    assert torch.equal(SumState.load(path, "abc").total, columns.total)
    STATE.save(path, "abc")
    assert torch.equal(SumState.load(path, "abc").total, STATE.total)


class OtherState(SumState):
    pass


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(CheckpointError, match="no such file, expected a state"):
        SumState.load(path, "abc")
    STATE.save(path, "abc")
    with pytest.raises(CheckpointError, match="different model: got fingerprint abc, expected xyz"):
        SumState.load(path, "xyz")
    with pytest.raises(CheckpointError, match="got SumState, expected OtherState"):
        OtherState.load(path, "abc")
    whole = path.read_bytes()
    for length in (0, 5, 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated, or not a state"):
            SumState.load(path, "abc")
    save_file({"total": STATE.total}, path)
    with pytest.raises(CheckpointError, match="got format None, expected"):
        SumState.load(path, "abc")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(30, 20), nn.LayerNorm(5)
        self.register_buffer("counter", torch.tensor(3))


def test_a_fingerprint_is_of_names_shapes_and_values() -> None:
    torch.manual_seed(0)
    model = Model()
    mark = fingerprint(model)
    assert len(mark) == 16
    assert fingerprint(copy.deepcopy(model)) == mark
    for name in dict(model.state_dict()):
        other = copy.deepcopy(model)
        value = other.state_dict()[name]
        value.copy_(value * 2 + 1)
        assert fingerprint(other) != mark, name
    other = copy.deepcopy(model)
    other.c = nn.Identity()
    assert fingerprint(other) == mark
    other.a.weight = nn.Parameter(model.a.weight.detach().view(30, 20))
    assert fingerprint(other) != mark


def test_a_fingerprint_is_the_same_in_fp32_and_in_the_bf16_it_was_stored_in() -> None:
    stored = Model().bfloat16()
    assert fingerprint(stored) == fingerprint(copy.deepcopy(stored).float())
    assert fingerprint(Model()) != fingerprint(Model()), "two random models are two models"
