"""The transformers-vision encoder against the library's own models with the same weights."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import transformers
from packaging.version import Version
from PIL import Image
from pydantic import ValidationError
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from transformers import PreTrainedModel

from composer.data.media.image import read_image
from composer.errors import CheckpointError, ComposeError, ConfigError
from composer.sample import Media
from composer.testing import check_encoder
from composer.transform import FrameTransform
from composer_plugins.tome import TomeConfig
from composer_plugins.tome.reducer import Tome
from composer_plugins.transformers_vision import TransformersVisionConfig
from composer_plugins.transformers_vision.encoder import TransformersVisionEncoder
from composer_plugins.transformers_vision.families import FAMILIES, resample

EVERY = list(FAMILIES)


def encoder(**options: Any) -> TransformersVisionEncoder:
    return TransformersVisionEncoder(**TransformersVisionConfig(**options).model_dump()).eval()


def tome(host: TransformersVisionEncoder, **options: Any) -> Tome:
    return Tome(**TomeConfig(**options).model_dump(), dim=host.dim, depth=host.depth)


def frames(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def native(host: TransformersVisionEncoder) -> PreTrainedModel:
    """The library's own model with the encoder's weights."""
    model = type(host.tower)(host.tower.config).eval()
    missing, unexpected = model.load_state_dict(host.tower.state_dict(), strict=False)
    assert set(missing) <= {"embeddings.mask_token"}
    assert not unexpected
    return model


def native_tokens(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """Patch tokens after the last norm as the library computes them."""
    _, _, height, width = pixels.shape
    kind = model.config.model_type
    if kind == "siglip2_vision_model":
        patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(len(pixels), -1, 192)
        shapes = torch.tensor([[height // 8, width // 8]] * len(pixels))
        return model(patches, torch.ones(patches.shape[:2]), shapes).last_hidden_state
    if kind.startswith("dinov2"):
        registers = getattr(model.config, "num_register_tokens", 0)
        return model(pixels).last_hidden_state[:, 1 + registers :]
    hidden = model(pixels, interpolate_pos_encoding=True).last_hidden_state
    return model.post_layernorm(hidden)[:, 1:] if kind == "clip_vision_model" else hidden


def test_default_is_the_same_tiny_siglip_as_openclips() -> None:
    from composer_plugins.openclip import OpenClipConfig
    from composer_plugins.openclip.encoder import OpenClipEncoder

    host, other = encoder(), OpenClipEncoder(**OpenClipConfig().model_dump())
    assert (host.dim, host.depth, host.patch_size, host.transform) == (96, 4, 8, FrameTransform(64, 8))
    assert (other.dim, other.depth, other.patch_size, other.transform) == (96, 4, 8, FrameTransform(64, 8))
    assert sum(p.numel() for p in host.parameters()) == sum(p.numel() for p in other.parameters())
    assert host.tower.config.num_attention_heads == other.tower.blocks[0].attn.num_heads


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("family", EVERY)
def test_without_merges_it_is_the_librarys_tower_bit_for_bit(family: str, hosted: bool) -> None:
    host = encoder(family=family)
    model = native(host)
    pixels = (frames(64, 64).float() - host.mean) / host.std
    with torch.no_grad():
        got = host(frames(64, 64), tome(host, keep_ratio=1.0) if hosted else None)
        # transformers masks SigLIP2's attention with an all-true mask, for which SDPA may pick another kernel.
        close = {"rtol": 1e-5, "atol": 1e-5} if family == "siglip2" else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(got.features, native_tokens(model, pixels), **close)
    assert got.grid == (8, 8)


@pytest.mark.parametrize("family", EVERY)
def test_grids_of_other_shapes_are_interpolated_as_the_library_does(family: str) -> None:
    host = encoder(family=family)
    model = native(host)
    for size in ((64, 104), (96, 40)):
        pixels = (frames(*size).float() - host.mean) / host.std
        with torch.no_grad():
            got = host(frames(*size))
            torch.testing.assert_close(got.features, native_tokens(model, pixels), rtol=1e-4, atol=1e-5)
        assert got.grid == (size[0] // 8, size[1] // 8)


@pytest.mark.parametrize("family", EVERY)
def test_state_dict_keys_are_the_librarys(family: str) -> None:
    host = encoder(family=family)
    expected = set(FAMILIES[family].model(host.tower.config).state_dict()) - {"embeddings.mask_token"}
    assert set(host.tower.state_dict()) == expected
    assert set(host.state_dict()) == {f"tower.{key}" for key in expected} | {"mean", "std"}


@pytest.mark.parametrize("family", EVERY)
def test_gradients_reach_every_parameter_through_merges(family: str) -> None:
    host = encoder(family=family).train()
    got = host(frames(64, 48), tome(host, keep_ratio=0.5))
    assert got.features.shape == (2, 24, 96)
    (got.features * torch.randn_like(got.features)).sum().backward()
    for name, parameter in host.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert "position" not in name or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("family", ["siglip", "clip", "dinov2-registers"])
def test_activation_checkpointing_changes_no_gradient(family: str) -> None:
    plain, checkpointed = encoder(family=family).train(), encoder(family=family).train()
    checkpointed.load_state_dict(plain.state_dict())
    apply_activation_checkpointing(checkpointed, check_fn=lambda module: isinstance(module, plain.block_classes))
    gradients = []
    for host in (plain, checkpointed):
        host(frames(64, 48), tome(plain, keep_ratio=0.5)).features.square().sum().backward()
        gradients.append([p.grad for p in host.parameters()])
    for expected, got in zip(*gradients, strict=True):
        assert torch.equal(expected, got)


@pytest.mark.parametrize("family", EVERY)
def test_an_earlier_layer_is_the_librarys_hidden_state(family: str) -> None:
    complete, host = encoder(family=family), encoder(family=family, layer=-2)
    kept = host.state_dict()
    host.load_state_dict({name: value for name, value in complete.state_dict().items() if name in kept})
    pixels = frames(64, 64)
    outputs: list[Tensor] = []
    block = getattr(complete.tower.encoder, complete.family.layers)[-2]
    block.register_forward_hook(lambda module, inputs, tokens: outputs.append(tokens.x))
    complete(pixels)
    features = host(pixels).features
    assert torch.equal(features, outputs[0][:, -features.shape[1] :])
    assert (host.depth, complete.depth) == (3, 4)
    check_encoder(host)


def test_layer_scale_is_respected() -> None:
    host = encoder(family="dinov2")
    before = host(frames(64, 64)).features
    with torch.no_grad():
        host.tower.encoder.layer[2].layer_scale2.lambda1.zero_()
    assert not torch.allclose(host(frames(64, 64)).features, before)


def test_autocast_and_bf16() -> None:
    host = encoder()
    with torch.autocast("cpu", torch.bfloat16):
        got = host(frames(64, 64), tome(host, target_tokens=7))
    assert got.sizes.sum(dim=1).tolist() == [64.0, 64.0]
    assert host.bfloat16()(frames(64, 48), tome(host, r=3)).features.dtype == torch.bfloat16


def test_compiles_as_one_graph() -> None:
    host = encoder(depth=2)
    reducer = tome(host, keep_ratio=0.5)
    compiled = torch.compile(host, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(frames(64, 48), reducer).features, host(frames(64, 48), reducer).features, rtol=1e-5, atol=1e-5
    )


def test_resampling_is_rows_first_and_in_fp32() -> None:
    table = torch.stack([torch.arange(8.0)[:, None].expand(8, 8), torch.arange(8.0).expand(8, 8)], dim=-1)
    wide = resample(table.flatten(0, 1), (8, 16)).view(8, 16, 2)
    torch.testing.assert_close(wide[..., 0], torch.arange(8.0)[:, None].expand(8, 16))
    assert wide[0, 5:11, 1].diff().min() > 0.4
    half = torch.randn(64, 5).bfloat16()
    assert torch.equal(resample(half, (5, 9)), resample(half.float(), (5, 9)).bfloat16())


def save_model(folder: Path, family: str) -> PreTrainedModel:
    """A tiny model with its text tower and heads, saved by the library as the public checkpoints are."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
    }
    text = {**vision, "vocab_size": 50, "max_position_embeddings": 8}
    text.pop("patch_size")
    torch.manual_seed(0)
    if family == "siglip2":
        vision["num_patches"] = 16
    else:
        vision["image_size"] = 32
    if family.startswith("dinov2"):
        vision.pop("intermediate_size")
        model = FAMILIES[family].model(FAMILIES[family].config(**vision))
    else:
        name = {"siglip": "Siglip", "siglip2": "Siglip2", "clip": "CLIP"}[family]
        config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision)
        model = getattr(transformers, f"{name}Model")(config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("family", EVERY)
def test_public_checkpoint_layout(tmp_path: Path, family: str) -> None:
    model = save_model(tmp_path, family)
    host = encoder(pretrained=str(tmp_path))
    assert (host.dim, host.depth, host.patch_size, host.transform.size) == (32, 2, 8, 32)
    theirs = getattr(model, "vision_model", model).state_dict()
    ours = host.tower.state_dict()
    assert ours
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    assert not [key for key in ours if key.startswith("head")]
    assert host(frames(32, 48), tome(host, r=2)).features.shape == (2, 20, 32)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_pixels_are_those_of_the_checkpoints_image_processor(tmp_path: Path, family: str, nested: bool) -> None:
    """The library's own image processor, saved beside the weights, scales the same picture. Nested: its newer file."""
    save_model(tmp_path, family)
    kind = {"clip": transformers.CLIPImageProcessor, "siglip": transformers.SiglipImageProcessor}[family]
    mean, std = {"clip": ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]), "siglip": ([0, 0, 0], [1, 1, 1])}[family]
    processor = kind(image_mean=mean, image_std=std, do_resize=False, do_center_crop=False)
    processor.save_pretrained(tmp_path)
    if nested:
        stated = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": stated}))
        (tmp_path / "preprocessor_config.json").unlink()
    host = encoder(pretrained=str(tmp_path))
    expected = processor(list(frames(32, 32)), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close((frames(32, 32).float() - host.mean) / host.std, expected)
    assert host.mean.dtype == host.std.dtype == torch.float32


def photo(height: int = 75, width: int = 113) -> Image.Image:
    noise = torch.randint(
        0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(height)
    )
    return Image.fromarray(noise.numpy())


def read(image: Image.Image, transform: FrameTransform) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, "PNG")
    return read_image(Media("image", "a.png", data=file.getvalue()), transform)


SQUARE = {"height": 32, "width": 32}
PADDED = FrameTransform(32, 8, "pad", like="transformers")


@pytest.mark.parametrize("resample", [1, 2, 3])
@pytest.mark.parametrize(
    ("family", "kind", "options", "resize"),
    [
        ("siglip", "SiglipImageProcessor", {"size": SQUARE}, "squash"),
        ("clip", "CLIPImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}, "center-crop"),
        ("clip", "CLIPImageProcessor", {"size": 32, "crop_size": 32}, "center-crop"),
        ("clip", "CLIPImageProcessor", {"size": SQUARE, "crop_size": SQUARE}, "squash"),
        ("clip", "ViTImageProcessor", {"size": 32}, "squash"),
        ("dinov2", "BitImageProcessor", {"size": {"shortest_edge": 37}, "crop_size": SQUARE}, "center-crop"),
    ],
)
def test_frames_are_those_of_the_checkpoints_image_processor(
    tmp_path: Path, family: str, kind: str, options: dict[str, Any], resize: str, resample: int
) -> None:
    save_model(tmp_path, family)
    stated = {"image_processor_type": kind, "resample": resample, "do_rescale": False, "do_normalize": False, **options}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    # Before 0.27 torchvision has no Lanczos, and transformers takes bicubic unless it is told to use Pillow.
    old = resample == 1 and Version(torchvision.__version__) < Version("0.27")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil" if old else "torchvision")
    transform = encoder(pretrained=str(tmp_path)).transform
    assert (transform.resize, transform.size) == (resize, 32)
    for image in (photo(), photo(113, 75), photo(50, 51), photo(20, 24)):
        theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0).astype(int)
        assert np.array_equal(read(image, transform), theirs)


def test_frames_of_naflex_are_those_of_its_image_processor(tmp_path: Path) -> None:
    """Features too: the library gets its own patches, and masks the padding."""
    model = save_model(tmp_path, "siglip2")
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    processor.save_pretrained(tmp_path)
    host = encoder(pretrained=str(tmp_path))
    assert host.transform == FrameTransform(32, 8, "max-patches", "bilinear", like="transformers")
    for image in (photo(), photo(113, 75), photo(50, 50), photo(20, 200)):
        theirs = processor(image, return_tensors="pt")
        frame = torch.from_numpy(read(image, host.transform).transpose(2, 0, 1).copy())
        with torch.no_grad():
            got = host(frame[None])
            expected = model.vision_model(**theirs).last_hidden_state
        assert got.grid == tuple(theirs["spatial_shapes"][0].tolist())
        torch.testing.assert_close(got.features, expected[:, : got.features.shape[1]], rtol=1e-4, atol=1e-5)


def test_the_recipe_comes_before_the_checkpoints_image_processor(tmp_path: Path) -> None:
    save_model(tmp_path, "dinov2")
    stated = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    for options, size, resize, short_side in (
        ({}, 224, "center-crop", 256),
        ({"image_size": 448}, 448, "center-crop", 512),
        ({"image_size": 40, "resize": "pad"}, 40, "pad", None),
    ):
        transform = encoder(pretrained=str(tmp_path), **options).transform
        assert transform == FrameTransform(size, 8, resize, "bilinear", short_side, "transformers")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"size": {"height": 30, "width": 40}}, "got size {'height': 30, 'width': 40}, expected"),
        ({"size": {"shortest_edge": 30}, "crop_size": 32, "do_center_crop": True}, "expected a square"),
        (
            {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 15, "resample": 3},
            "got max_num_patches 15, expected",
        ),
        ({"size": SQUARE, "resample": 4}, "got resample 4, expected one of"),
    ],
)
def test_ways_of_resizing_that_are_not_offered(tmp_path: Path, stated: dict[str, Any], message: str) -> None:
    save_model(tmp_path, "siglip")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=re.escape(message)):
        encoder(pretrained=str(tmp_path))
    if stated.get("resample") != 4:
        assert encoder(pretrained=str(tmp_path), resize="pad").transform == PADDED


def test_a_patch_that_does_not_divide_the_image(tmp_path: Path) -> None:
    """As so400m-patch14-384: features of the library's processor and tower, whose convolution drops the last pixels."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipVisionConfig(**sizes, image_size=52, patch_size=14, vision_use_head=False)
    model = transformers.SiglipVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    processor = transformers.SiglipImageProcessor(size={"height": 52, "width": 52})
    processor.save_pretrained(tmp_path)
    host = encoder(pretrained=str(tmp_path))
    assert host.transform == encoder(pretrained=str(tmp_path), image_size=52).transform
    assert host.shape(52, 52).grid == (3, 3)
    pixels = processor(photo(), return_tensors="pt")["pixel_values"]
    frame = torch.from_numpy(read(photo(), host.transform).transpose(2, 0, 1).copy())
    with torch.no_grad():
        torch.testing.assert_close(host(frame[None]).features, model(pixels).last_hidden_state, rtol=1e-5, atol=1e-5)
    kept = encoder(pretrained=str(tmp_path), resize="keep-aspect").transform
    assert kept == FrameTransform(42, 14, "keep-aspect", like="transformers")


@pytest.mark.parametrize("stated", [None, {}, {"image_mean": None}])
def test_a_checkpoint_that_states_no_constants_has_the_familys(tmp_path: Path, stated: dict[str, Any] | None) -> None:
    save_model(tmp_path, "clip")
    if stated is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    host, plain = encoder(pretrained=str(tmp_path)), transformers.CLIPImageProcessor()
    torch.testing.assert_close(host.mean.flatten() / 255, torch.tensor(plain.image_mean))
    torch.testing.assert_close(host.std.flatten() / 255, torch.tensor(plain.image_std))


@pytest.mark.parametrize("name", ["image_mean", "image_std"])
@pytest.mark.parametrize("value", [[], [0.5], [0.5] * 4, 0.5])
def test_constants_of_other_than_three_channels_are_refused(tmp_path: Path, name: str, value: object) -> None:
    save_model(tmp_path, "clip")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(CheckpointError, match=rf"{name}: got .*, expected three numbers"):
        encoder(pretrained=str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json of .* cannot be read"):
        encoder(pretrained=str(tmp_path))


def test_weights_are_read_on_the_cpu_whatever_the_device_context(tmp_path: Path) -> None:
    """Lightning builds the model inside `with device:`; a CPU has one other device, and transformers minds it too."""
    save_model(tmp_path, "siglip")
    expected = encoder(pretrained=str(tmp_path)).tower.state_dict()
    with torch.device("meta"):
        host = encoder(pretrained=str(tmp_path))
    for name, weight in host.tower.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_a_pretrained_tower_at_another_size_keeps_its_positions(tmp_path: Path) -> None:
    save_model(tmp_path, "siglip")
    host = encoder(pretrained=str(tmp_path), image_size=48)
    assert host.transform.size == 48
    assert host.tower.embeddings.position_embedding.weight.shape == (16, 32)
    assert host(frames(48, 48)).grid == (6, 6)


def test_half_precision_checkpoints_are_read_as_fp32(tmp_path: Path) -> None:
    save_model(tmp_path, "siglip").bfloat16().save_pretrained(tmp_path)
    assert {p.dtype for p in encoder(pretrained=str(tmp_path)).parameters()} == {torch.float32}


def test_errors_name_the_key_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.encoder\.pretrained: .*neither a local folder"):
        encoder(pretrained=str(tmp_path / "absent"))
    save_model(tmp_path, "siglip")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        encoder(pretrained=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ComposeError, match="is a 'vit', expected one of siglip, siglip2, clip"):
        encoder(pretrained=str(tmp_path))
    with pytest.raises(ComposeError, match="width 96 is not a multiple of heads 5"):
        encoder(heads=5)
    with pytest.raises(ConfigError, match="image_size: got 60, expected a positive multiple of the patch size 8"):
        encoder(image_size=60)
    with pytest.raises(ValidationError, match="remove family, width"):
        TransformersVisionConfig(pretrained="x", family="clip", width=3)


def test_incomplete_weights_are_refused(tmp_path: Path) -> None:
    """transformers fills what is missing with random numbers and a log line."""
    from safetensors.torch import load_file, save_file

    save_model(tmp_path, "siglip")
    state = load_file(tmp_path / "model.safetensors")
    del state["vision_model.encoder.layers.1.mlp.fc1.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"1 weights of the vision tower are missing in .*, for example encoder\.layers\.1\.mlp"
    ):
        encoder(pretrained=str(tmp_path))


@pytest.mark.parametrize("family", EVERY)
def test_every_family_keeps_the_contract(family: str) -> None:
    check_encoder(encoder(family=family, depth=2), in_blocks=True)
