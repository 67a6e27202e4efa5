"""RWKV-6 against the author's `rwkv` package, and its wkv operator against the recurrence in fp64."""

import contextlib
import io
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composer.errors import CheckpointError, ConfigError
from composer.testing import check_backbone
from composer.tokenizer import tokenizer_from
from composer_plugins.rwkv import RWKV6Config, fused
from composer_plugins.rwkv import wkv6 as wkv6_module
from composer_plugins.rwkv.backbone import RWKV6Backbone, _sizes
from composer_plugins.rwkv.wkv6 import wkv6

BYTES = tokenizer_from("bytes")


def backbone(stir: float = 0.1, **options: int | str | None) -> RWKV6Backbone:
    """A small model; stirred, since at the author's initialisation every block is the identity."""
    torch.manual_seed(0)
    made = RWKV6Backbone(tokenizer=BYTES, **{"width": 64, "depth": 3, "head_size": 32, **options})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(stir * torch.randn_like(parameter))
    return made.eval()


def distance(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


# The operator.


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


# The fused elementwise steps.


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


# The model.


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[RWKV6Backbone, Path]:
    """A random model of two heads of 64 and its file in the author's layout."""
    made = backbone(0.3, width=128, head_size=64)
    path = tmp_path_factory.mktemp("rwkv") / "RWKV-x060-tiny.pth"
    torch.save(made.model.state_dict(), path)
    return made, path


@pytest.fixture(scope="module")
def author(official: tuple[RWKV6Backbone, Path]):
    """The author's own implementation with the same weights."""
    os.environ.update(RWKV_V7_ON="0", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    with contextlib.redirect_stdout(io.StringIO()):
        from rwkv.model import RWKV

        return RWKV(model=str(official[1]), strategy="cpu fp32")


IDS = torch.randint(0, 257, (1, 150), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(made: RWKV6Backbone, *pieces: int) -> Tensor:
    """Logits of IDS read in pieces of these lengths."""
    found, state, place = [], None, 0
    for length in pieces:
        hidden, state = made(made.embed(IDS[:, place : place + length]), None, state)
        found.append(made.head(hidden)[0])
        place += length
    return torch.cat(found)


@pytest.mark.parametrize("pieces", [(150,), (1, 7, 64, 1, 40, 37)], ids=["one-shot", "pieces"])
def test_logits_equal_the_authors(official: tuple[RWKV6Backbone, Path], author, pieces: tuple[int, ...]) -> None:
    expected, _ = author.forward(IDS[0].tolist(), None, full_output=True)
    assert distance(logits(official[0], *pieces), expected) < 5e-6  # measured: 1.2e-6


def test_the_state_equals_the_authors(official: tuple[RWKV6Backbone, Path], author) -> None:
    _, expected = author.forward(IDS[0].tolist(), None, full_output=True)
    with torch.no_grad():
        _, state = official[0](official[0].embed(IDS))
    for layer, parts in enumerate(state.layers):
        for part, theirs in zip((parts.mixed, parts.wkv, parts.ffn_mixed), expected[3 * layer :], strict=False):
            assert distance(part[0], theirs) < 5e-6


def test_an_official_file_loads_with_sizes_from_its_shapes(official: tuple[RWKV6Backbone, Path]) -> None:
    made, path = official
    loaded = RWKV6Backbone(tokenizer=BYTES, pretrained=str(path)).eval()
    assert torch.equal(logits(loaded, 150), logits(made, 150))
    assert (loaded.dim, loaded.vocab_size) == (128, 264)
    same = RWKV6Backbone(tokenizer=BYTES, pretrained=str(path), width=128, head_size=64)
    assert torch.equal(logits(same.eval(), 150), logits(made, 150))


def test_a_file_in_bf16_is_computed_in_fp32(official: tuple[RWKV6Backbone, Path], tmp_path: Path) -> None:
    half = {name: value.bfloat16() for name, value in official[0].model.state_dict().items()}
    torch.save(half, tmp_path / "half.pth")
    loaded = RWKV6Backbone(tokenizer=BYTES, pretrained=str(tmp_path / "half.pth"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_safetensors_file_loads(official: tuple[RWKV6Backbone, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(official[0].model.state_dict(), tmp_path / "model.safetensors")
    loaded = RWKV6Backbone(tokenizer=BYTES, pretrained=str(tmp_path / "model.safetensors"))
    assert torch.equal(logits(loaded.eval(), 150), logits(official[0], 150))


def test_unusable_weights_are_refused(official: tuple[RWKV6Backbone, Path], tmp_path: Path) -> None:
    path = str(official[1])
    with pytest.raises(ConfigError, match=r"model\.backbone\.width: got 64, but .* has 128"):
        RWKV6Backbone(tokenizer=BYTES, pretrained=path, width=64)
    with pytest.raises(ConfigError, match="65530 ids are more than the 264 rows"):
        RWKV6Backbone(pretrained=path)
    with pytest.raises(CheckpointError, match="no file here"):
        RWKV6Backbone(pretrained=str(tmp_path / "missing.pth"))
    (tmp_path / "cut.pth").write_bytes(official[1].read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        RWKV6Backbone(pretrained=str(tmp_path / "cut.pth"))
    torch.save({"model.layers.0.weight": torch.ones(1)}, tmp_path / "llama.pth")
    with pytest.raises(CheckpointError, match=r"found model\.layers\.0\.weight"):
        RWKV6Backbone(pretrained=str(tmp_path / "llama.pth"))
    partial = official[0].model.state_dict()
    del partial["ln_out.bias"]
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(CheckpointError, match=r"ln_out\.bias"):
        RWKV6Backbone(tokenizer=BYTES, pretrained=str(tmp_path / "partial.pth"))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 100 is not a multiple of head_size 32"):
        RWKV6Backbone(tokenizer=BYTES, width=100)


def test_the_published_models_have_their_published_sizes() -> None:
    """1.600 B and 3.100 B parameters, ranks 32 and 64; 7.636 B, ranks 64 and 128."""
    from composer_plugins.rwkv.rwkv6 import RWKV6

    for width, depth, billions in ((2048, 24, 1.600), (2560, 32, 3.100), (4096, 32, 7.636)):
        with torch.device("meta"):
            model = RWKV6(_sizes(65536, width=width, depth=depth, head_size=64))
        assert sum(parameter.numel() for parameter in model.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)


def test_the_initialisation_is_the_authors() -> None:
    made = backbone(0.0, width=64, depth=4)
    blocks = made.model.blocks
    ids = torch.arange(20)[None]
    with torch.no_grad():
        hidden, _ = made(made.embed(ids))
        identity = made.model.ln_out(blocks[0].ln0(made.embed(ids)))
    assert torch.equal(hidden, identity)
    decay = blocks[0].att.time_decay.detach().flatten()
    assert decay[0] == -6
    assert decay[-1] == pytest.approx(-1)
    assert bool((decay.diff() > 0).all())
    for layer, block in enumerate(blocks):
        assert block.att.ln_x.weight.unique().item() == pytest.approx(((layer + 1) / 4) ** 0.7)
        assert block.att.ln_x.eps == 64e-5
        key = block.att.key.weight
        torch.testing.assert_close(key @ key.T, 0.01 * torch.eye(64), atol=1e-5, rtol=0)
    assert made.model.emb.weight.abs().max() <= 1e-4
    expected = [(-6 + 5 * (n / 63) ** (0.7 + 1.3 * 2 / 3)) for n in range(64)]
    torch.testing.assert_close(blocks[2].att.time_decay.flatten(), torch.tensor(expected))
    expected = [2 / 3 * (1 - n / 63) + ((n + 1) % 3 - 1) * 0.1 for n in range(64)]
    torch.testing.assert_close(blocks[2].att.time_faaaa.flatten(), torch.tensor(expected))
    expected = [1 - (n / 64) ** 0.5 - 0.3 * 2 / 3 for n in range(64)]
    torch.testing.assert_close(blocks[2].att.time_maa_v.flatten(), torch.tensor(expected))


def test_optimizer_groups_follow_the_authors_rules() -> None:
    made = backbone()
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    decayed, rest, fast = made.parameter_groups()
    assert {names[id(p)].rpartition(".")[2] for p in fast["params"]} == {"time_decay"}
    assert (fast["lr_scale"], fast["weight_decay"], rest["weight_decay"]) == (2.0, 0.0, 0.0)
    matrices = {names[id(p)] for p in decayed["params"]}
    assert {"model.emb.weight", "model.head.weight", "model.blocks.0.ffn.value.weight"} <= matrices
    assert all(name.endswith(".weight") and ".ln" not in name for name in matrices)
    made.model.emb.weight.requires_grad_(False)
    assert "model.emb.weight" not in {names[id(p)] for g in made.parameter_groups() for p in g["params"]}


def test_visual_embeddings_pass_the_input_norm() -> None:
    made, x = backbone(), torch.randn(1, 5, 64)
    with torch.no_grad():
        torch.testing.assert_close(made(x)[0], made(x * 50 + 3)[0], atol=1e-3, rtol=0)


def test_it_keeps_the_contract() -> None:
    check_backbone(RWKV6Backbone(tokenizer=BYTES, width=32, depth=2, head_size=16))
    check_backbone(RWKV6Backbone(tokenizer=BYTES, **RWKV6Config(width=64, depth=1).model_dump()))


def test_its_own_tokenizer_is_worlds() -> None:
    made = RWKV6Backbone(width=32, depth=1)
    assert made.vocab_size == 65536
    assert made.tokenizer.encode("\n\n") == [261]
    assert RWKV6Backbone(tokenizer=tokenizer_from(["red"]), width=32, depth=1).vocab_size == 264
