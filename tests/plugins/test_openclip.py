"""The openclip encoder against timm's and open_clip's own towers with the same weights."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from composer.data.media.image import read_image
from composer.errors import CheckpointError, ComposeError, ConfigError
from composer.model.checkpoint import Checkpoint, header, restore_model
from composer.model.compose import compose
from composer.parts import BlockTokens
from composer.recipe.resolve import model_config
from composer.sample import Media
from composer.testing import check_encoder
from composer.transform import FrameTransform
from composer_plugins.openclip import OpenClipConfig
from composer_plugins.openclip.encoder import HostBlock, OpenClipEncoder
from composer_plugins.openclip.named import open_clip_config
from composer_plugins.tome import TomeConfig
from composer_plugins.tome.reducer import Tome

CLIP = {"model": "ViT-B-32", "width": 64, "depth": 2, "heads": 1, "patch_size": 8, "image_size": 32}


def encoder(**options: Any) -> OpenClipEncoder:
    return OpenClipEncoder(**OpenClipConfig(**options).model_dump()).eval()


def tome(host: OpenClipEncoder, **options: Any) -> Tome:
    return Tome(**TomeConfig(**options).model_dump(), dim=host.dim, depth=host.depth)


def frames(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def native_siglip(**options: Any) -> VisionTransformer:
    """timm's own tiny SigLIP with its pooling head, as the checkpoints hold it."""
    shape = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4}
    return timm.create_model("vit_base_patch16_siglip_224", act_layer="gelu_tanh", **(shape | options)).eval()


def native_clip() -> nn.Module:
    """open_clip's own ViT, which is not timm's: its tokens leave after `ln_post`."""
    return open_clip.transformer.VisionTransformer(
        image_size=32, patch_size=8, width=64, layers=2, heads=1, mlp_ratio=4.0, output_dim=16, output_tokens=True
    ).eval()


def save(state: dict[str, Tensor], path: Path) -> str:
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    return str(path)


def whole_clip(vision: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """State dict of a complete model: the tower under `prefix`, and a text tower; without a prefix, the tower alone."""
    text = {"text.token_embedding.weight": torch.zeros(3, 2), "logit_scale": torch.zeros(())}
    return {prefix + key: value for key, value in vision.items()} | (text if prefix else {})


def test_default_is_a_tiny_siglip() -> None:
    host = encoder()
    assert (host.dim, host.depth, host.patch_size) == (96, 4, 8)
    assert host.transform == FrameTransform(64, 8, "keep-aspect")
    assert host(frames(64, 64)).features.shape == (2, 64, 96)


@pytest.mark.parametrize("ratio", [None, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (64, 104), (96, 40)])
def test_without_merges_it_is_timms_tower_bit_for_bit(size: tuple[int, int], ratio: float | None) -> None:
    host, native = encoder(), native_siglip(dynamic_img_size=True)
    native.load_state_dict(host.tower.state_dict(), strict=False)
    assert not isinstance(native.blocks[0], HostBlock)
    pixels = (frames(*size) / 255 - 0.5) / 0.5
    reducer = None if ratio is None else tome(host, keep_ratio=ratio)
    with torch.no_grad():
        got = host(frames(*size), reducer)
        torch.testing.assert_close(got.features, native.forward_features(pixels), rtol=1e-5, atol=1e-5)
        scaled = (frames(*size).float() - 127.5) / 127.5
        assert torch.equal(got.features, native.forward_features(scaled))
    assert got.grid == (size[0] // 8, size[1] // 8)


def test_state_dict_keys_are_timms_without_the_pooling_head() -> None:
    native = {key for key in native_siglip().state_dict() if not key.startswith("attn_pool.")}
    assert set(encoder().tower.state_dict()) == native
    assert set(encoder().state_dict()) == {f"tower.{key}" for key in native} | {"mean", "std"}


def test_constants_of_the_families() -> None:
    """open_clip reports CLIP's for a SigLIP without weights."""
    for host, mean, std in (
        (encoder(), IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
        (encoder(**CLIP), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    ):
        torch.testing.assert_close(host.mean.flatten() / 255, torch.tensor(mean))
        torch.testing.assert_close(host.std.flatten() / 255, torch.tensor(std))


def test_pixels_and_constants_of_a_tag_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of open_clip that is a plain ViT, against the transform that open_clip itself makes of the tag."""
    monkeypatch.setattr("composer_plugins.openclip.encoder.load_weights", lambda *_: None)
    seen, photo = set(), io.BytesIO()
    noise = torch.randint(0, 256, (301, 452, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(photo, "PNG")
    for model, tag in open_clip.list_pretrained():
        config = OpenClipConfig(model=model, pretrained=tag, width=64, depth=1, heads=1)
        try:
            host = OpenClipEncoder(**config.model_dump())
        except ComposeError:
            continue  # no plain ViT
        stated = merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(model, tag))
        size = open_clip.get_model_config(model)["vision_cfg"]["image_size"]
        *transforms, _, normalize = image_transform_v2(
            PreprocessCfg(**stated | {"size": size}), is_train=False
        ).transforms
        theirs = Image.open(photo)
        for transform in transforms:
            theirs = transform(theirs)
        ours = read_image(Media("image", "a.png", data=photo.getvalue()), host.transform)
        assert np.array_equal(ours, np.asarray(theirs)), f"{model} {tag}"
        for got, expected in ((host.mean, normalize.mean), (host.std, normalize.std)):
            torch.testing.assert_close(got.flatten() / 255, torch.tensor(expected), msg=f"{model} {tag}")
        seen.add((model, tag, tuple(normalize.mean)))
    assert ("ViT-L-14", "laion2b_s32b_b82k", (0.5, 0.5, 0.5)) in seen
    assert len(seen) > 100


@pytest.mark.parametrize(
    ("model", "tag", "mean", "resize"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", 127.5, "center-crop"),
        ("ViT-H-14-378-quickgelu", "dfn5b", 255 * open_clip.OPENAI_DATASET_MEAN[0], "squash"),
    ],
)
def test_a_checkpoint_restored_without_its_tag_keeps_its_pixels(
    model: str, tag: str, mean: float, resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where the tag cannot be downloaded, the tower is built as one of random weights."""
    shape = {"model": model, "image_size": 28, "width": 64, "depth": 1, "heads": 1}
    slots = {
        "encoder": {"name": "openclip", "pretrained": tag, **shape},
        "projector": {"name": "linear"},
        "backbone": {"name": "rwkv7", "width": 32, "depth": 1, "head_size": 16},
        "prompt": {"tokenizer": "bytes"},
    }
    config = model_config(slots)
    with monkeypatch.context() as patch:
        patch.setattr("composer_plugins.openclip.encoder.load_weights", lambda *_: None)
        trained = compose(config).eval()

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    checkpoint: Checkpoint = {
        "composer": header(config, 2, trained),
        "hyper_parameters": {"model": config.model_dump(mode="json")},
        "state_dict": {f"model.{key}": value for key, value in trained.state_dict().items()},
    }
    read = restore_model(checkpoint, "x").encoder
    assert read.mean[0].item() == pytest.approx(mean)
    assert read.transform == trained.encoder.transform
    assert read.transform.resize == resize
    squared = model_config({**slots, "encoder": {**slots["encoder"], "resize": "pad"}})
    assert restore_model(checkpoint, "x", config=squared).encoder.transform.resize == "pad"
    assert torch.equal(read(frames(28, 28)).features, trained.encoder(frames(28, 28)).features)


def test_constants_of_a_local_file_are_the_familys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the file's name is that of a tag."""
    monkeypatch.chdir(tmp_path)
    save_as = tmp_path / "laion2b_s32b_b82k"
    torch.save(native_clip().state_dict(), save_as)
    host = encoder(**CLIP | {"model": "ViT-L-14"}, pretrained=save_as.name)
    torch.testing.assert_close(host.mean.flatten() / 255, torch.tensor(open_clip.OPENAI_DATASET_MEAN))


def test_activations_are_those_of_the_training() -> None:
    gelu = encoder(model="ViT-B-16-SigLIP", width=32, depth=1, heads=1).tower.blocks[0].mlp.act
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(gelu(x), nn.functional.gelu(x, approximate="tanh"))
    quick = encoder(**CLIP | {"model": "ViT-B-32-quickgelu"}).tower.blocks[0].mlp.act
    torch.testing.assert_close(quick(x), x * torch.sigmoid(1.702 * x))
    torch.testing.assert_close(encoder(**CLIP).tower.blocks[0].mlp.act(x), nn.functional.gelu(x))


@pytest.mark.parametrize("prefix", ["visual.", "module.visual.", ""])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_clip_checkpoint_in_open_clips_layout(tmp_path: Path, prefix: str, suffix: str) -> None:
    native = native_clip()
    file = save(whole_clip(native.state_dict(), prefix), tmp_path / f"open_clip_model{suffix}")
    host = encoder(**CLIP, pretrained=file)
    pixels = (frames(32, 32).float() - host.mean) / host.std
    with torch.no_grad():
        _, tokens = native(pixels)
        torch.testing.assert_close(host(frames(32, 32)).features, tokens, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("prefix", ["visual.trunk.", "trunk.", ""])
def test_siglip_checkpoint_in_open_clips_and_timms_layout(tmp_path: Path, prefix: str) -> None:
    native = native_siglip()
    assert any(key.startswith("attn_pool.") for key in native.state_dict())
    file = save(whole_clip(native.state_dict(), prefix), tmp_path / "open_clip_model.safetensors")
    host = encoder(pretrained=file)
    with torch.no_grad():
        expected = native.forward_features((frames(64, 64).float() - 127.5) / 127.5)
        assert torch.equal(host(frames(64, 64)).features, expected)


def test_real_models_layout() -> None:
    """Keys and shapes of the real ViT-L-16-SigLIP-384, built by open_clip itself without memory."""
    config = open_clip.get_model_config("ViT-L-16-SigLIP-384")
    with torch.device("meta"):
        model = open_clip.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        host = OpenClipEncoder(**OpenClipConfig(model="ViT-L-16-SigLIP-384").model_dump())
    theirs = {key: value.shape for key, value in model.state_dict().items() if key.startswith("visual.trunk.")}
    ours = {f"visual.trunk.{key}": value.shape for key, value in host.tower.state_dict().items()}
    assert {key: shape for key, shape in theirs.items() if ".attn_pool." not in key} == ours
    assert host.transform.size == 384
    assert sum(p.numel() for p in model.visual.trunk.attn_pool.parameters()) == 12_595_200  # what we do not build


def test_image_size_resamples_a_checkpoints_positions_once(tmp_path: Path) -> None:
    native = native_siglip()
    file = save(native.state_dict(), tmp_path / "model.safetensors")
    host = encoder(pretrained=file, image_size=96)
    assert host.transform.size == 96
    assert host.tower.pos_embed.shape == (1, 144, 96)
    native.set_input_size((96, 96))
    torch.testing.assert_close(host.tower.pos_embed, native.pos_embed)


def test_a_patch_that_does_not_divide_the_image() -> None:
    """SO400M-14 at 384 pixels was trained on 27 x 27 complete patches."""
    host = encoder(model="ViT-SO400M-14-SigLIP-384", width=32, depth=1, heads=2)
    assert host.transform == FrameTransform(384, 14, "squash")
    assert host.shape(384, 384).grid == (27, 27)
    with torch.no_grad():
        tokens, inner = host(frames(384, 384)), host(frames(384, 384)[..., :378, :378])
    assert tokens.grid == (27, 27)
    assert torch.equal(tokens.features, inner.features)
    kept = encoder(model="ViT-SO400M-14-SigLIP-384", width=32, depth=1, heads=2, resize="keep-aspect")
    assert kept.transform == FrameTransform(378, 14, "keep-aspect")


def test_pixels_outside_whole_patches_are_ignored_as_in_open_clip() -> None:
    """timm's own tower, as open_clip builds it, at 30 pixels of 8: its convolution drops the last 6."""
    host = encoder(image_size=30, resize="squash")
    native = native_siglip(img_size=30)
    native.load_state_dict(host.tower.state_dict(), strict=False)
    with torch.no_grad():
        expected = native.forward_features((frames(30, 30).float() - 127.5) / 127.5)
    torch.testing.assert_close(host(frames(30, 30)).features, expected, rtol=1e-5, atol=1e-5)


def test_positions_are_interpolated_rows_first_and_in_place() -> None:
    """Channel 0 holds the row of a patch, channel 1 its column: on a wide grid only columns are stretched."""
    host = encoder(image_size=64)
    parameter = host.tower.pos_embed
    with torch.no_grad():
        table = parameter.view(8, 8, -1)
        table[..., 0] = torch.arange(8.0)[:, None]
        table[..., 1] = torch.arange(8.0)[None, :]
    position = host.tower._pos_embed(torch.zeros(1, 8, 16, 96)).view(8, 16, 96)
    torch.testing.assert_close(position[..., 0], torch.arange(8.0)[:, None].expand(8, 16))
    inner = slice(4, -4)  # bicubic weights are cut off at the edges
    expected = (torch.arange(16.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(position[:, inner, 1], expected[inner].expand(8, -1), rtol=0, atol=1e-4)
    host(frames(64, 128)).features.square().sum().backward()
    assert host.tower.pos_embed is parameter
    assert parameter.grad is not None
    assert parameter.grad.abs().min() > 0


def test_ladder_of_the_papers_figure() -> None:
    """SigLIP-L at 384 pixels, narrow, ratio 0.1: tokens at layers 0, 6, 12, 18 and 24."""
    host = encoder(model="ViT-L-16-SigLIP-384", width=16, heads=2)
    counts = [576]
    for block in host.tower.blocks:
        block.register_forward_hook(lambda module, inputs, tokens: counts.append(tokens.x.shape[1]))
    final = host(frames(384, 384, count=1), tome(host, keep_ratio=0.1))
    assert counts[::6] == [576, 450, 324, 198, 72]
    assert counts[-2] == 93
    assert final.features.shape == (1, 72, 16)


@pytest.mark.parametrize("amount", [{"r": 21}, {"target_tokens": 93}])
def test_without_the_last_block_there_are_23_merges_and_93_tokens(amount: dict[str, int]) -> None:
    host = encoder(model="ViT-L-16-SigLIP-384", width=16, heads=2, layer=-2)
    reducer = tome(host, **amount)
    assert reducer.schedule(576) == (21,) * 23
    assert host(frames(384, 384, count=1), reducer).features.shape == (1, 93, 16)


@pytest.mark.parametrize("layer", [-1, -2, -4])
def test_an_earlier_layer_is_that_blocks_output_without_the_final_norm(layer: int) -> None:
    torch.manual_seed(0)
    complete = encoder()
    host = encoder(layer=layer)
    kept = host.state_dict()
    host.load_state_dict({name: value for name, value in complete.state_dict().items() if name in kept})
    pixels = frames(64, 64)
    normalized = (pixels.float() - complete.mean) / complete.std
    blocks = len(complete.tower.blocks) + layer + 1
    taken = native_siglip()
    taken.load_state_dict(complete.tower.state_dict(), strict=False)  # it has a pooling head too
    (expected,) = taken.get_intermediate_layers(normalized, n=[blocks - 1], norm=layer == -1)
    assert torch.equal(host(pixels).features, expected)
    assert host.depth == blocks
    check_encoder(encoder(layer=layer))


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ComposeError, match=r"model\.encoder\.layer: got -5, expected -4 to -1"):
        encoder(layer=-5)


def test_a_token_of_size_two_is_two_equal_tokens() -> None:
    """What proportional attention is for: attention cannot tell a merged token from its equal parts."""
    block = encoder().tower.blocks[0]
    x = torch.randn(1, 5, 96)
    twice = torch.cat([x, x[:, -1:]], dim=1)
    merged, _ = block._attention(x, torch.tensor([[1, 1, 1, 1, 2]]))
    torch.testing.assert_close(merged, block._attention(twice, None)[0][:, :5], rtol=1e-4, atol=1e-5)


def test_proportional_is_a_switch() -> None:
    host = encoder()
    on = host(frames(64, 64), tome(host, r=8)).features
    off = host(frames(64, 64), tome(host, r=8, proportional=False)).features
    assert not torch.allclose(on, off)
    first = host.tower.blocks[0]
    x = torch.randn(1, 6, 96)
    plain = first(BlockTokens(x, None, None), None, 0, 0).x
    sized = BlockTokens(x, torch.tensor([[1, 2, 3, 1, 1, 5]]), None)
    assert torch.equal(first(sized, tome(host, r=0, proportional=False), 0, 0).x, plain)


def test_clips_class_token_is_never_merged_and_is_stripped() -> None:
    host = encoder(**CLIP)
    got = host(frames(32, 48), tome(host, r=5), keep_sources=True)
    assert got.features.shape == (2, 24 - 10, 64)
    assert got.sizes.sum(dim=1).tolist() == [24.0, 24.0]


def test_gradients_reach_every_parameter_through_merges() -> None:
    for options in ({}, CLIP):
        host = encoder(**options).train()
        features = host(frames(32, 48), tome(host, keep_ratio=0.5)).features
        (features * torch.randn_like(features)).sum().backward()
        for name, parameter in host.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_a_frames_tokens_do_not_depend_on_its_batch() -> None:
    host = encoder()
    reducer = tome(host, keep_ratio=0.3)
    many = frames(64, 48, count=4)
    with torch.no_grad():
        together = host(many, reducer, keep_sources=True)
        for place, frame in enumerate(many):
            alone = host(frame[None], reducer, keep_sources=True)
            torch.testing.assert_close(alone.features[0], together.features[place], rtol=1e-4, atol=1e-5)
            assert together.sources is not None
            assert alone.sources is not None
            assert torch.equal(alone.sources[0], together.sources[place])


def test_activation_checkpointing_changes_no_gradient() -> None:
    plain = encoder().train()
    checkpointed = encoder().train()
    checkpointed.load_state_dict(plain.state_dict())
    apply_activation_checkpointing(checkpointed, check_fn=lambda module: isinstance(module, plain.block_classes))
    gradients = []
    for host in (plain, checkpointed):
        host(frames(64, 48), tome(plain, keep_ratio=0.5)).features.square().sum().backward()
        gradients.append([p.grad for p in host.parameters()])
    assert type(checkpointed.tower.blocks[0]) is not HostBlock
    for expected, got in zip(*gradients, strict=True):
        assert torch.equal(expected, got)


def test_autocast_keeps_the_accounts_exact() -> None:
    host = encoder(image_size=160)
    with torch.autocast("cpu", torch.bfloat16):
        got = host(frames(160, 160), tome(host, target_tokens=30), keep_sources=True)
    assert got.features.dtype in (torch.bfloat16, torch.float32)
    assert got.sizes.dtype == torch.float32
    assert got.sources is not None
    assert got.sizes.sum(dim=1).tolist() == [400.0, 400.0]
    counted = torch.stack([row.bincount(minlength=30) for row in got.sources])
    assert torch.equal(counted.float(), got.sizes)
    got.features.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in host.parameters())


def test_bf16_weights() -> None:
    host = encoder().bfloat16()
    assert host(frames(64, 48), tome(host, keep_ratio=0.5)).features.dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"keep_ratio": 0.25}, {"keep_ratio": 0.5, "order": "raster"}])
def test_compiles_as_one_graph(options: dict[str, Any]) -> None:
    host = encoder(depth=2)
    reducer = tome(host, **options)
    compiled = torch.compile(host, fullgraph=True, backend="aot_eager")
    expected, got = host(frames(64, 48), reducer), compiled(frames(64, 48), reducer)
    torch.testing.assert_close(got.features, expected.features)
    assert torch.equal(got.sizes, expected.sizes)


def test_blocks_compile_once_for_all_grids() -> None:
    """One graph for the first block, whose tokens have no sizes yet, and one for all others, in every batch."""
    torch._dynamo.reset()
    counters.clear()
    host = encoder(depth=4)
    reducer = tome(host, keep_ratio=0.4)
    batches = [frames(64, 48), frames(64, 48, count=3), frames(64, 64)]
    expected = [host(batch, reducer).features for batch in batches]
    for block in host.tower.blocks:
        block.compile(fullgraph=True, backend="eager", dynamic=True)
    for batch, features in zip(batches, expected, strict=True):
        torch.testing.assert_close(host(batch, reducer).features, features)
    assert counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()


@pytest.fixture
def process_group() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_blocks_can_be_sharded_in_bf16() -> None:
    """FSDP2 casts every float between blocks to bf16, which cannot count to 257; sizes are integers there."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    host = encoder(image_size=136, depth=3).train()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    for block in host.tower.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(host, mesh=mesh, mp_policy=policy)
    flat = torch.zeros(1, 3, 136, 136, dtype=torch.uint8)
    got = host(flat, tome(host, target_tokens=37))
    assert got.sizes.sum().item() == 289
    got.features.float().square().sum().backward()
    assert all(p.grad is not None for p in host.parameters())


def test_errors_name_the_key_and_the_remedy(tmp_path: Path) -> None:
    native = native_siglip()
    file = save(native.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"does not match the tower.*expected.*check model, width, depth"):
        encoder(pretrained=file, width=64)
    with pytest.raises(CheckpointError, match=r"blocks\.4\.norm1\.weight is missing"):
        encoder(pretrained=file, depth=5)
    with pytest.raises(CheckpointError, match="has no vision tower"):
        encoder(pretrained=save({"text.weight": torch.zeros(2)}, tmp_path / "text.pt"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        encoder(pretrained=str(broken))
    with pytest.raises(ComposeError, match="open_clip has no model 'ViT-Q'"):
        encoder(model="ViT-Q")
    with pytest.raises(ComposeError, match="not a plain ViT"):
        encoder(model="RN50")
    with pytest.raises(ComposeError, match="use a SigLIP or CLIP ViT"):
        encoder(model="ViTamin-B")
    with pytest.raises(ComposeError, match=r"expected an existing file or a tag of ViT-B-16-SigLIP: .*webli"):
        encoder(model="ViT-B-16-SigLIP", width=32, depth=1, heads=1, pretrained="webly")
    with pytest.raises(ComposeError, match=r"needs model\.encoder\.model"):
        encoder(pretrained="webli")
    with pytest.raises(ComposeError, match="use model ViT-B-32-quickgelu"):
        encoder(**CLIP, pretrained="openai")
    with pytest.raises(ComposeError, match="set heads to a divisor of the width"):
        encoder(width=90)
    with pytest.raises(ConfigError, match="multiple of the patch size"):
        encoder(image_size=60)
    with pytest.raises(ValidationError, match="width 96 is not a multiple of heads 5"):
        OpenClipConfig(width=96, heads=5)


def test_a_pickled_file_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Hostile()}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        encoder(pretrained=str(tmp_path / "model.pt"))
    assert not (tmp_path / "ran").exists()


def test_the_native_block_is_what_the_host_block_extends() -> None:
    assert HostBlock.__mro__[1] is Block
    assert list(HostBlock(32, 2).state_dict()) == list(Block(32, 2).state_dict())


def test_clip_keeps_the_contract() -> None:
    check_encoder(encoder(**CLIP), in_blocks=True)


def test_a_size_that_holds_no_whole_patches_is_named_as_in_the_recipe() -> None:
    encoder = {"name": "openclip", "image_size": 32, "patch_size": 7, "width": 16, "depth": 1, "heads": 2}
    parts = {"encoder": encoder, "projector": "mlp", "backbone": {"name": "transformer", "width": 16, "heads": 2}}
    with pytest.raises(ConfigError, match=r"^model\.encoder: image_size: got 32, .* patch size 7; the nearest is 35$"):
        compose(model_config({**parts, "prompt": {"tokenizer": "bytes"}}))


def test_the_models_are_open_clips() -> None:
    """Their files are read without importing open_clip."""
    for name in open_clip.list_models():
        assert open_clip_config(name) == open_clip.get_model_config(name), name
    assert open_clip_config("ViT-B-99") is None
    assert open_clip_config("../factory") is None
