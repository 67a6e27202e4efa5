"""Both RWKV backbones: the contract, official files, segments, padding and packs beside each sequence alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from composer.errors import CheckpointError, ConfigError
from composer.testing import check_backbone
from composer.tokenizer import tokenizer_from
from composer_plugins.rwkv import RWKV6Config, RWKV7Config
from composer_plugins.rwkv.backbone import RWKVBackbone
from composer_plugins.rwkv.rwkv6 import RWKV6
from composer_plugins.rwkv.rwkv7 import RWKV7
from composer_plugins.rwkv.sizes import RWKV6Sizes, RWKV7Sizes
from tests.plugins.rwkv.author import BYTES, VERSIONS, distance, random_model

IDS = torch.randint(0, 257, (1, 150), generator=torch.Generator().manual_seed(0))
CONFIGS = {"6": RWKV6Config, "7": RWKV7Config}


@pytest.fixture(params=["6", "7"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@torch.no_grad()
def logits(made: RWKVBackbone) -> Tensor:
    hidden, _ = made(made.embed(IDS))
    return made.head(hidden)[0]


def test_it_keeps_the_contract(version: str) -> None:
    check_backbone(VERSIONS[version](tokenizer=BYTES, width=32, depth=2, head_size=16))
    check_backbone(VERSIONS[version](tokenizer=BYTES, width=32, depth=2, head_size=16, segment_length=5))
    check_backbone(VERSIONS[version](tokenizer=BYTES, **CONFIGS[version](width=64, depth=1).model_dump()))


def test_its_own_tokenizer_is_worlds(version: str) -> None:
    made = VERSIONS[version](width=32, depth=1)
    assert made.vocab_size == 65536
    assert made.tokenizer.encode("\n\n") == [261]
    assert VERSIONS[version](tokenizer=tokenizer_from(["red"]), width=32, depth=1).vocab_size == 264


def test_visual_embeddings_pass_the_input_norm(version: str) -> None:
    made, x = random_model(version), torch.randn(1, 5, 128)
    with torch.no_grad():
        torch.testing.assert_close(made(x)[0], made(x * 50 + 3)[0], atol=1e-3, rtol=0)


# Weights.


@pytest.fixture
def official(version: str, tmp_path: Path) -> tuple[RWKVBackbone, Path]:
    """A random model and its file in the author's layout."""
    made = random_model(version)
    torch.save(made.model.state_dict(), tmp_path / "model.pth")
    return made, tmp_path / "model.pth"


def test_an_official_file_loads_with_sizes_from_its_shapes(official: tuple[RWKVBackbone, Path]) -> None:
    made, path = official
    kind = VERSIONS[made.version]
    loaded = kind(tokenizer=BYTES, pretrained=str(path)).eval()
    assert torch.equal(logits(loaded), logits(made))
    assert (loaded.dim, loaded.vocab_size) == (128, 264)
    assert torch.equal(
        logits(kind(tokenizer=BYTES, pretrained=str(path), width=128, head_size=64).eval()), logits(made)
    )


def test_a_file_in_bf16_is_computed_in_fp32(official: tuple[RWKVBackbone, Path]) -> None:
    made, path = official
    torch.save({name: value.bfloat16() for name, value in made.model.state_dict().items()}, path)
    loaded = VERSIONS[made.version](tokenizer=BYTES, pretrained=str(path))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_that_do_not_fit_are_refused(official: tuple[RWKVBackbone, Path]) -> None:
    made, path = official
    kind = VERSIONS[made.version]
    with pytest.raises(ConfigError, match=r"model\.backbone\.width: got 64, but .* has 128"):
        kind(tokenizer=BYTES, pretrained=str(path), width=64)
    with pytest.raises(ConfigError, match=r"65530 ids, but .* has 264"):
        kind(pretrained=str(path))
    partial = made.model.state_dict()
    del partial["ln_out.bias"]
    torch.save(partial, path)
    with pytest.raises(CheckpointError, match=r"ln_out\.bias"):
        kind(tokenizer=BYTES, pretrained=str(path))


def test_sizes_that_do_not_fit_are_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="width 100 is not a multiple of head_size 32"):
        VERSIONS[version](tokenizer=BYTES, width=100)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("width", "depth", "billions"), [(2048, 24, 1.600), (2560, 32, 3.100), (4096, 32, 7.636)])
def test_the_published_rwkv6_models_have_their_published_sizes(width: int, depth: int, billions: float) -> None:
    with torch.device("meta"):
        model = RWKV6(RWKV6Sizes.of_width(vocab=65536, width=width, depth=depth, head=64))
    assert parameters(model) / 1e9 == pytest.approx(billions, abs=5e-4)


@pytest.mark.parametrize(
    ("width", "depth", "options", "billions"),
    # The published 0.4 B has a narrower gate than the formula gives.
    [(768, 12, {}, 0.191), (1024, 24, {"gate_rank": 128}, 0.451), (2048, 24, {}, 1.527)],
)
def test_the_published_rwkv7_models_have_their_published_sizes(
    width: int, depth: int, options: dict[str, int], billions: float
) -> None:
    with torch.device("meta"):
        model = RWKV7(RWKV7Sizes.of_width(vocab=65536, width=width, depth=depth, head=64, **options))
    assert parameters(model) / 1e9 == pytest.approx(billions, abs=6e-4)


# Optimizer groups.


@pytest.mark.parametrize(("version", "fastest"), [("6", "time_decay"), ("7", "w0")], indirect=["version"])
def test_optimizer_groups_follow_the_authors_rules(version: str, fastest: str) -> None:
    made = random_model(version)
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    decayed, rest, fast = made.parameter_groups()
    assert {names[id(p)].rpartition(".")[2] for p in fast["params"]} == {fastest}
    assert (fast["lr_scale"], fast["weight_decay"], rest["weight_decay"]) == (2.0, 0.0, 0.0)
    matrices = {names[id(p)] for p in decayed["params"]}
    assert {"model.emb.weight", "model.head.weight", "model.blocks.0.ffn.value.weight"} <= matrices
    assert all(name.endswith(".weight") and ".ln" not in name for name in matrices)
    made.model.emb.weight.requires_grad_(False)
    assert "model.emb.weight" not in {names[id(p)] for g in made.parameter_groups() for p in g["params"]}


# Sequences.


def gradients(made: RWKVBackbone, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Gradients of all parameters, and of the embeddings, of `loss` of the embeddings."""
    embeds = made.model.emb(IDS).detach().requires_grad_()
    made.zero_grad()
    loss(embeds).backward()
    assert embeds.grad is not None
    result = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    return result | {"embeds": embeds.grad}


@pytest.mark.parametrize("segment", [1, 7, 64, 149, 150, 1000])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_segments_change_neither_values_nor_gradients(version: str, segment: int, checkpointing: bool) -> None:
    full = random_model(version, depth=2)
    cut = random_model(version, depth=2, segment_length=segment)
    expected, expected_state = full(full.embed(IDS))
    expected_gradients = gradients(full, lambda embeds: full(embeds)[0].square().sum())
    if checkpointing:
        apply_activation_checkpointing(cut, check_fn=lambda module: isinstance(module, cut.block_classes))
    hidden, state = cut(cut.embed(IDS))
    assert distance(hidden, expected) < 1e-5  # measured: 2e-6
    for (name, part), other in zip(state.tensors().items(), expected_state.tensors().values(), strict=True):
        assert distance(part, other) < 1e-5, name
    result = gradients(cut, lambda embeds: cut(embeds)[0].square().sum())
    assert {name.replace("_checkpoint_wrapped_module.", "") for name in result} == set(expected_gradients)
    for name, gradient in result.items():
        assert distance(gradient, expected_gradients[name.replace("_checkpoint_wrapped_module.", "")]) < 1e-4, (
            name
        )  # measured: 3e-5


def test_a_packed_row_of_one_sequence_is_cut_into_segments(version: str) -> None:
    """A sample longer than a pack has a packed row of its own, the very row that segments are for."""
    made = random_model(version, depth=2, segment_length=64)
    read: list[int] = []
    made.model.blocks[0].register_forward_pre_hook(lambda block, inputs: read.append(inputs[0].shape[1]))
    full = (0, 150)
    hidden, state = made(made.embed(IDS), cu_seqlens=full)
    assert read == [64, 64, 22]
    expected, expected_state = random_model(version, depth=2)(made.embed(IDS))
    assert distance(hidden, expected) < 1e-5
    for (name, part), other in zip(state.tensors().items(), expected_state.tensors().values(), strict=True):
        assert part.shape == other.shape, name
        assert distance(part, other) < 1e-5, name
    with pytest.raises(ValueError, match="rise from 0 to T = 150"):
        made(made.embed(IDS), cu_seqlens=(0, 149))


def test_right_padding_is_bit_exact(version: str) -> None:
    """Each row of a batch is what a batch of the same shape without padding gives, and so is its state."""
    made = random_model(version)
    with torch.no_grad():
        embeds = made.embed(IDS[:, :80].view(2, 40))
        mask = torch.arange(40)[None] < torch.tensor([[40], [23]])
        alone, alone_state = made(embeds[1:, :23])
        hidden, state = made(embeds, mask)
        noisy, noisy_state = made(torch.where(mask[..., None], embeds, torch.randn_like(embeds)), mask)
    assert torch.equal(hidden[mask], noisy[mask])
    for got, expected in zip(state.tensors().values(), noisy_state.tensors().values(), strict=True):
        assert torch.equal(got, expected)
    assert distance(hidden[1, :23], alone[0]) < 5e-6  # measured: 1e-6
    for got, expected in zip(state.tensors().values(), alone_state.tensors().values(), strict=True):
        assert distance(got[1], expected[0]) < 5e-6


def test_packed_sequences_keep_their_gradients_apart(version: str) -> None:
    made = random_model(version, depth=2)
    cu_seqlens = (0, 60, 61, 150)
    packed = gradients(made, lambda embeds: made(embeds, cu_seqlens=cu_seqlens)[0].square().sum())
    pieces = [(0, 60), (60, 61), (61, 150)]
    apart = gradients(made, lambda embeds: sum(made(embeds[:, a:b])[0].square().sum() for a, b in pieces))
    for name, gradient in packed.items():
        assert distance(gradient, apart[name]) < 1e-5, name
    only = gradients(made, lambda embeds: made(embeds, cu_seqlens=cu_seqlens)[0][:, 60:61].square().sum())["embeds"]
    assert bool(only[:, 60].any())
    assert not only[:, :60].any()
    assert not only[:, 61:].any()


def test_the_states_size_does_not_depend_on_what_was_read(version: str) -> None:
    made = random_model(version)
    with torch.no_grad():
        sizes = [
            sum(part.numel() for part in made(made.embed(IDS[:, :length]))[1].tensors().values()) for length in (1, 150)
        ]
    assert sizes == [3 * (2 * 128 + 128 * 64)] * 2


# Decoding.


@torch.no_grad()
def test_one_position_without_gradients_is_one_position_with(version: str) -> None:
    """The step of generation against the path that training takes, for several rows."""
    made = random_model(version)
    _, state = made(made.embed(IDS.view(3, 50)))
    embeds = made.embed(torch.tensor([[1], [2], [3]]))
    fast, fast_state = made(embeds, None, state)
    with torch.enable_grad():
        slow, slow_state = made(embeds, None, state)
    assert distance(fast, slow) < 5e-6
    for got, expected in zip(fast_state.tensors().values(), slow_state.tensors().values(), strict=True):
        assert got.shape == expected.shape
        assert distance(got, expected) < 5e-6


@torch.no_grad()
def test_one_position_in_bf16(version: str) -> None:
    made = random_model(version).bfloat16()
    hidden, state = made(made.embed(IDS[:, :20]))
    step, after = made(made.embed(IDS[:, 20:21]), None, state)
    full, _ = made(made.embed(IDS[:, :21]))
    assert step.dtype == hidden.dtype == torch.bfloat16
    assert {part.dtype for name, part in after.tensors().items() if name.endswith("wkv")} == {torch.float32}
    assert distance(step[:, 0].float(), full[:, -1].float()) < 0.1  # measured: 0.02


# bf16 autocast, as `--trainer.precision=bf16-mixed` trains and `composer ask` may answer.


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def off(got: Tensor, expected: Tensor) -> float:
    """|a - b| / |b|. bf16 resolves 0.004 of a number."""
    return ((got.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("layout", ["dense", "padded", "packed"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_in_bf16_autocast_is_near_fp32(version: str, layout: str, checkpointing: bool) -> None:
    made = random_model(version, 0.02).train()  # with more noise, rounding changes gradients more
    lengths = {
        "dense": {},
        "padded": {"mask": torch.arange(150)[None] < 101},
        "packed": {"cu_seqlens": (0, 60, 61, 150)},
    }[layout]
    mask = lengths.get("mask", torch.ones(1, 150, dtype=torch.bool))

    def loss(embeds: Tensor) -> Tensor:
        logits = made.head(made(embeds, **lengths)[0])[:, :-1]
        return nn.functional.cross_entropy(logits.float()[mask[:, 1:]], IDS[:, 1:][mask[:, 1:]])

    expected, expected_state = made(made.embed(IDS), **lengths)
    expected_gradients = gradients(made, loss)
    if checkpointing:
        apply_activation_checkpointing(made, check_fn=lambda module: isinstance(module, made.block_classes))
    with autocast():
        hidden, state = made(made.embed(IDS), **lengths)
        result = gradients(made, loss)
    assert off(hidden[mask], expected[mask]) < 0.005  # measured: 0.0013
    for name, part in state.tensors().items():
        assert part.dtype == torch.float32, name
        assert off(part, expected_state.tensors()[name]) < 0.02, name  # measured: 0.0045
    assert {name.replace("_checkpoint_wrapped_module.", "") for name in result} == set(expected_gradients)
    for name, gradient in result.items():
        assert off(gradient, expected_gradients[name.replace("_checkpoint_wrapped_module.", "")]) < 0.05, (
            name
        )  # measured: 0.021


@torch.no_grad()
def test_decoding_in_bf16_autocast_is_as_near_fp32_as_reading(version: str) -> None:
    """The state stays fp32 and does not drift: 140 steps are as far from fp32 as one forward over all positions."""
    made = random_model(version)
    expected, expected_state = made(made.embed(IDS))
    with autocast():
        read, read_state = made(made.embed(IDS))
        hidden, state = made(made.embed(IDS[:, :10]))
        steps = [hidden]
        for place in range(10, 150):
            hidden, state = made(made.embed(IDS[:, place : place + 1]), None, state)
            assert {part.dtype for part in (hidden, *state.tensors().values())} == {torch.float32}
            steps.append(hidden)
    assert off(torch.cat(steps, dim=1), expected) < 1.2 * off(read, expected)  # measured: 1.0 times
    for name, part in state.tensors().items():
        once = off(read_state.tensors()[name], expected_state.tensors()[name])
        assert off(part, expected_state.tensors()[name]) <= 1.5 * once, name


@pytest.mark.slow
@torch.no_grad()
def test_the_compiled_step_is_the_step(version: str) -> None:
    plain, compiled = random_model(version, depth=2), random_model(version, depth=2, compile_decoding=True)
    _, state = plain(plain.embed(IDS))
    for place in range(3):
        hidden, after = compiled(compiled.embed(IDS[:, place : place + 1]), None, state)
        expected, state = plain(plain.embed(IDS[:, place : place + 1]), None, state)
        assert distance(hidden, expected) < 5e-6
        state = after
