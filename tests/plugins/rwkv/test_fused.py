"""The fused elementwise steps against their definitions."""

import torch

from composer_plugins.rwkv import fused


def test_fused_steps_equal_their_definitions_and_have_their_gradients() -> None:
    torch.manual_seed(0)
    x, first, amount = torch.randn(2, 5, 3), torch.randn(2, 3), torch.randn(2, 5, 3)
    shared = torch.randn(1, 1, 3)
    x, first, amount, shared = (value.double().requires_grad_() for value in (x, first, amount, shared))
    delta = fused.token_delta(x, first)
    torch.testing.assert_close(delta, torch.stack([first, *x.unbind(1)[:-1]], dim=1) - x)
    torch.testing.assert_close(fused.token_shift(x, delta, amount, shared), (x + delta * amount, x + delta * shared))
    torch.testing.assert_close(fused.squared_relu(x), x.clamp(min=0) ** 2)
    assert torch.autograd.gradcheck(fused.token_delta, (x, first))
    own_delta = delta.detach().requires_grad_()
    assert torch.autograd.gradcheck(fused.token_shift, (x, own_delta, amount, shared))
    assert torch.autograd.gradcheck(fused.token_shift, (x, own_delta, shared))
    assert torch.autograd.gradcheck(fused.squared_relu, (x,))
