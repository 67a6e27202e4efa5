"""The wkv operators of both versions against the recurrence in fp64: values, states and all gradients."""

from collections.abc import Callable
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from composer_plugins.rwkv import chunks
from composer_plugins.rwkv.wkv6 import wkv6
from composer_plugins.rwkv.wkv7 import wkv7
from tests.plugins.rwkv.author import distance
from tests.plugins.rwkv.operators import KINDS, VERSIONS

OPERATORS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"6": wkv6, "7": wkv7}
LOG_W = {"6": 3, "7": 1}


@pytest.fixture(params=["6", "7"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def made(version: str, kind: str, T: int, B: int = 2, H: int = 2, K: int = 16) -> list[Tensor]:
    torch.manual_seed(T)
    return VERSIONS[version][0](kind, B, T, H, K)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [1, 2, 5, 33, 64, 65, 130, 700, 2000])
def test_chunks_equal_the_recurrence_values_and_gradients(version: str, T: int, kind: str) -> None:
    B = 2 if T < 500 else 1
    single = [x.requires_grad_() for x in made(version, kind, T, B)]
    double = [x.detach().double().requires_grad_() for x in single]
    out, state = OPERATORS[version](*single)
    expected_out, expected_state = VERSIONS[version][1](*double)
    assert distance(out, expected_out) < 1e-5  # measured: 6e-7, 1.2e-6 extreme
    assert distance(state, expected_state) < 1e-5
    weight, state_weight = torch.randn_like(out), torch.randn_like(state)
    ((out * weight).sum() + (state * state_weight).sum()).backward()
    ((expected_out * weight).sum() + (expected_state * state_weight).sum()).backward()
    # Where decays leave nothing, their own gradients are nothing beside the others: the largest one is the scale.
    scale = max(x.grad.abs().max() for x in double)
    for got, expected in zip(single, double, strict=True):
        error = (got.grad - expected.grad).abs().max()
        assert error < 1e-5 * (scale if kind == "extreme" else expected.grad.abs().max())  # measured: 1e-6


@given(cuts=st.lists(st.integers(1, 150), max_size=6), kind=st.sampled_from(KINDS), version=st.sampled_from("67"))
@settings(max_examples=60, deadline=None)
def test_any_split_into_pieces_is_the_whole(cuts: list[int], kind: str, version: str) -> None:
    *inputs, state = made(version, kind, 151, B=1)
    operator = OPERATORS[version]
    timed = [i for i, x in enumerate(inputs) if x.ndim == 4]
    full, end = operator(*inputs, state)
    outputs = []
    places = [0, *sorted(set(cuts)), 151]
    for start, stop in pairwise(places):
        piece = [x[:, start:stop] if i in timed else x for i, x in enumerate(inputs)]
        out, state = operator(*piece, state)
        outputs.append(out)
    assert distance(torch.cat(outputs, dim=1), full) < 1e-5
    assert distance(state, end) < 1e-5


def test_packed_sequences_equal_each_alone(version: str) -> None:
    lengths = [1, 70, 3, 64, 1, 30]
    *inputs, _ = made(version, "mixed", sum(lengths), B=1)
    states = torch.randn(len(lengths), 2, 16, 16)
    cu_seqlens = tuple(accumulate(lengths, initial=0))
    packed, ends = OPERATORS[version](*inputs, states, cu_seqlens)
    assert packed.shape == inputs[0].shape
    for row, (start, stop) in enumerate(pairwise(cu_seqlens)):
        alone = [x[:, start:stop] if x.ndim == 4 else x for x in inputs]
        out, end = OPERATORS[version](*alone, states[row : row + 1])
        assert distance(packed[:, start:stop], out) < 2e-6
        assert distance(ends[row], end[0]) < 2e-6


@pytest.mark.parametrize("strongest", [1e-4, 0.5, 1.9, 7.0, 16.0, 30.0, 1000.0, 1e9])
def test_any_decay_at_every_position_is_exact(version: str, strongest: float) -> None:
    inputs = made(version, "none", 70, B=1, H=1, K=4)
    inputs[LOG_W[version]] = torch.full_like(inputs[0], -strongest)
    out, state = OPERATORS[version](*inputs)
    expected, expected_state = VERSIONS[version][1](*[x.double() for x in inputs])
    assert distance(out, expected) < 1e-5
    assert distance(state, expected_state) < 1e-5


@pytest.mark.parametrize("strongest", [0.0, 1.0, 100.0, 1000.0, 1e30])
def test_finite_inputs_never_give_nan_or_inf(version: str, strongest: float) -> None:
    inputs = [x.requires_grad_() for x in made(version, "none", 300, B=1)]
    inputs[LOG_W[version]] = (-strongest * torch.rand_like(inputs[0])).requires_grad_()
    out, state = OPERATORS[version](*inputs)
    (out.square().sum() + state.square().sum()).backward()
    assert all(bool(x.isfinite().all()) for x in (out, state, *(x.grad for x in inputs)))


def test_one_strong_decay_does_not_shorten_the_chunks() -> None:
    """A single position's -30 fits into half a chunk's exponent; only sums of strong decays need shorter chunks."""
    mild = torch.full((1, 100, 1, 4), -0.01)
    one = mild.clone()
    one[0, 30] = -30.0
    for log_w, expected in ((mild, 50), (one, 50), (mild * 200, 25), (mild * 3000, 2)):
        assert chunks.split_decays(log_w).length == expected


def test_the_recurrence_is_fp32_under_autocast(version: str) -> None:
    *inputs, state = made(version, "mild", 40)
    inputs = [x if i == LOG_W[version] or x.ndim == 2 else x.bfloat16() for i, x in enumerate(inputs)]
    with torch.autocast("cpu", torch.bfloat16):
        out, end = OPERATORS[version](*inputs, state)
    assert (out.dtype, end.dtype) == (torch.bfloat16, torch.float32)
    _, expected = OPERATORS[version](*inputs, state)
    assert torch.equal(end, expected)


def test_values_that_are_not_finite_come_through(version: str) -> None:
    inputs = made(version, "mild", 100)
    inputs[LOG_W[version]] = torch.full_like(inputs[0], float("nan"))
    out, _ = OPERATORS[version](*inputs)
    assert bool(out.isnan().any())


def test_padding_is_neutral(version: str) -> None:
    """Positions that neither add, nor replace, nor decay leave the state as it was."""
    *inputs, state = made(version, "none", 50)
    for place in {"6": (1, 2), "7": (3, 5)}[version]:
        inputs[place] = torch.zeros_like(inputs[place])
    if version == "7":
        inputs[2] = torch.zeros_like(inputs[2])
    _, end = OPERATORS[version](*inputs, state)
    assert torch.equal(end, state)
