"""The wkv operator of RWKV-6 against the recurrence in fp64."""

import pytest
import torch
from torch import Tensor

from composer_plugins.rwkv import wkv6 as wkv6_module
from composer_plugins.rwkv.wkv6 import wkv6
from tests.plugins.rwkv.author import distance


def recurrence(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's loop over positions, and nothing else."""
    out = []
    for t in range(r.shape[1]):
        new = k[:, t, :, :, None] * v[:, t, :, None, :]
        out.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state + u[None, :, :, None] * new))
        state = log_w[:, t, :, :, None].exp() * state + new
    return torch.stack(out, dim=1), state


def decays(kind: str, noise: Tensor) -> Tensor:
    if kind == "mild":
        return -torch.exp(noise - 3)
    if kind == "strong":
        return -torch.exp(2 * noise)
    if kind == "extreme":
        return -torch.exp(3 * noise + 2)  # far below the floor of -30, and almost 0 beside it
    return -torch.exp(torch.where(noise > 1.3, 5 * noise, noise - 5))


@pytest.mark.parametrize("kind", ["mild", "strong", "extreme", "mixed"])
@pytest.mark.parametrize("T", [1, 2, 5, 33, 64, 65, 130])
def test_wkv6_equals_the_recurrence_in_fp64_values_and_gradients(T: int, kind: str) -> None:
    torch.manual_seed(T)
    B, H, K = 2, 2, 16
    r, k, v = torch.randn(3, B, T, H, K)
    inputs = [r, k, v, decays(kind, torch.randn(B, T, H, K)), torch.randn(H, K), torch.randn(B, H, K, K)]
    single = [x.clone().requires_grad_() for x in inputs]
    double = [x.double().requires_grad_() for x in inputs]
    out, state = wkv6(*single)
    expected_out, expected_state = recurrence(*double)
    assert distance(out, expected_out) < 1e-5  # measured: 2e-7 mild, 2.5e-6 extreme
    assert distance(state, expected_state) < 1e-5
    weight, state_weight = torch.randn_like(out), torch.randn_like(state)
    ((out * weight).sum() + (state * state_weight).sum()).backward()
    ((expected_out * weight).sum() + (expected_state * state_weight).sum()).backward()
    for got, expected in zip(single, double, strict=True):
        assert distance(got.grad, expected.grad) < 2e-5  # measured: 4e-7 mild, 3e-6 extreme


@pytest.mark.parametrize("strongest", [1e-4, 0.5, 1.9, 7.0, 16.0, 30.0, 1e9])
def test_any_decay_at_every_position_is_exact(strongest: float) -> None:
    torch.manual_seed(0)
    r, k, v = torch.randn(3, 1, 70, 1, 4)
    inputs = [r, k, v, torch.full_like(r, -strongest), torch.randn(1, 4), torch.randn(1, 1, 4, 4)]
    out, state = wkv6(*inputs)
    expected, expected_state = recurrence(*[x.double() for x in inputs])
    assert distance(out, expected) < 1e-5
    assert distance(state, expected_state) < 1e-5


def test_one_strong_decay_does_not_shorten_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single position's -30 fits into half a chunk's exponent; only sums of strong decays need shorter chunks."""
    lengths = []
    split = wkv6_module._split
    monkeypatch.setattr(wkv6_module, "_split", lambda x, count, C: lengths.append(C) or split(x, count, C))
    r, k, v = torch.randn(3, 1, 100, 1, 4)
    mild = torch.full_like(r, -0.01)
    one = mild.clone()
    one[0, 30] = -30.0
    for log_w, expected in ((mild, 50), (one, 50), (torch.full_like(r, -2.0), 25), (torch.full_like(r, -30.0), 2)):
        wkv6(r, k, v, log_w, torch.randn(1, 4), None)
        assert lengths[-1] == expected


def test_the_recurrence_is_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    r, k, v, noise = torch.randn(4, 1, 40, 2, 16)
    inputs = (r.bfloat16(), k.bfloat16(), v.bfloat16(), decays("mild", noise), torch.randn(2, 16), None)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = wkv6(*inputs)
    assert (out.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    _, expected = wkv6(*inputs)
    assert torch.equal(state, expected)


def test_values_that_are_not_finite_come_through() -> None:
    r, k, v = torch.randn(3, 1, 100, 1, 4)
    out, _ = wkv6(r, k, v, torch.full_like(r, float("nan")), torch.randn(1, 4), None)
    assert bool(out.isnan().any())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["mild", "strong"])
def test_flas_kernels_equal_the_recurrence(kind: str) -> None:
    torch.manual_seed(0)
    B, T, H, K = 2, 100, 2, 64
    r, k, v = torch.randn(3, B, T, H, K, device="cuda")
    log_w = decays(kind, torch.randn(B, T, H, K)).cuda()
    inputs = [r, k, v, log_w, torch.randn(H, K, device="cuda"), torch.randn(B, H, K, K, device="cuda")]
    out, state = wkv6(*inputs)
    expected, expected_state = recurrence(*[x.double().cpu() for x in inputs])
    assert distance(out.cpu(), expected) < 5e-3
    assert distance(state.cpu(), expected_state) < 5e-3
