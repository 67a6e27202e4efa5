"""The author's initialization, its formulas written out position by position."""

import pytest
import torch
from torch import Tensor

from composer_plugins.rwkv.backbone import RWKVBackbone
from tests.plugins.rwkv.author import random_model

WIDTH, DEPTH, HEAD = 64, 4, 32


def fresh(version: str) -> RWKVBackbone:
    return random_model(version, 0.0, width=WIDTH, depth=DEPTH, head_size=HEAD)


def require_values(parameter: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(parameter.detach().flatten(), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("version", ["6", "7"])
@torch.no_grad()
def test_every_block_starts_as_the_identity(version: str) -> None:
    made = fresh(version)
    embeds = made.embed(torch.arange(20)[None])
    hidden, _ = made(embeds)
    assert torch.equal(hidden, made.model.ln_out(made.model.blocks[0].ln0(embeds)))


@pytest.mark.parametrize("version", ["6", "7"])
@torch.no_grad()
def test_what_both_versions_start_with(version: str) -> None:
    made = fresh(version)
    assert made.model.emb.weight.abs().max() <= 1e-4
    head = made.model.head.weight  # [264, 64]: orthogonal columns
    torch.testing.assert_close(head.T @ head, 0.25 * 264 / 64 * torch.eye(64), atol=1e-4, rtol=0)
    for layer, block in enumerate(made.model.blocks):
        assert block.att.ln_x.weight.unique().item() == pytest.approx(((layer + 1) / DEPTH) ** 0.7)
        assert block.att.ln_x.eps == 64e-5
        for linear, gain in ((block.att.key, 0.1), (block.att.receptance, 1.0), (block.att.value, 1.0)):
            weight = linear.weight
            torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(64), atol=1e-5, rtol=0)
        assert not block.att.output.weight.any()
        assert not block.ffn.value.weight.any()


def test_rwkv6() -> None:
    blocks = fresh("6").model.blocks
    decay = blocks[0].att.time_decay.detach().flatten()
    assert decay[0] == -6
    assert decay[-1] == pytest.approx(-1)
    assert bool((decay.diff() > 0).all())
    att, deep = blocks[2].att, 2 / 3
    require_values(att.time_decay, [-6 + 5 * (n / 63) ** (0.7 + 1.3 * deep) for n in range(64)])
    require_values(att.time_faaaa, [deep * (1 - n / 63) + ((n + 1) % 3 - 1) * 0.1 for n in range(64)])
    require_values(att.time_maa_v, [1 - (n / 64) ** 0.5 - 0.3 * deep for n in range(64)])
    assert not att.time_maa_w1.any()
    assert 0 < att.time_decay_w2.abs().max() <= 0.01
    assert not blocks[2].ffn.receptance.weight.any()


def test_rwkv7() -> None:
    blocks = fresh("7").model.blocks
    att, deep, shallow = blocks[2].att, 2 / 3, 0.5
    signed = [((n % 32) - 15.5) / 15.5 for n in range(64)]
    zigzag = [s * abs(s) for s in signed]
    linear = [n / 63 - 0.5 for n in range(64)]
    ramp = [-6 + 6 * (n / 63) ** (1 + deep**0.3) for n in range(64)]
    require_values(att.w0, [r + 0.5 + 2.5 * z for r, z in zip(ramp, zigzag, strict=True)])
    require_values(att.a0, [-0.19 + 0.3 * z + 0.4 * place for z, place in zip(zigzag, linear, strict=True)])
    require_values(att.v0, [0.73 - 0.4 * place for place in linear])
    require_values(att.k_k, [0.71 - 0.1 * place for place in linear])
    require_values(att.k_a, [1.02] * 64)
    require_values(att.r_k, [-0.04] * 64)
    for name, power in {"x_r": 0.2, "x_w": 0.9, "x_k": 0.7, "x_v": 0.7, "x_a": 0.9, "x_g": 0.2}.items():
        require_values(getattr(att, name), [1 - (n / 64) ** (power * shallow) for n in range(64)])
    require_values(blocks[2].ffn.x_k, [1 - (n / 64) ** shallow**4 for n in range(64)])
    assert not hasattr(blocks[0].att, "v0"), "the first block has no earlier value to mix in"
    for name in ("w", "a", "v", "g"):
        first, second = getattr(att, f"{name}1"), getattr(att, f"{name}2")
        assert not first.any()
        torch.testing.assert_close(second @ second.T, 0.01 * torch.eye(len(second)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", ["6", "7"])
def test_in_bf16_it_is_the_same_rounded(version: str) -> None:
    """`--trainer.precision=bf16-true` makes bf16 the default dtype while the model is built."""
    expected = fresh(version).state_dict()
    torch.set_default_dtype(torch.bfloat16)
    try:
        made = fresh(version).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    for name, weight in made.items():
        assert weight.dtype == torch.bfloat16
        if not name.endswith(("emb.weight", "time_maa_w2", "time_decay_w2")):  # uniform draws differ by dtype
            torch.testing.assert_close(weight, expected[name].bfloat16(), rtol=0, atol=0, msg=name)
