"""Checkpoints of every encoder family and backbone, restored where the weights they were trained from are gone."""

import json
import shutil
import socket
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from lightning.pytorch import seed_everything
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, ByT5Tokenizer

from composer.errors import CheckpointError, ConfigError
from composer.model.checkpoint import header, load_model, newest, read_checkpoint, restore_model, write_checkpoint
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.prompt import Piece, pieces
from composer.recipe.resolve import model_config, recorded
from composer.recipe.training import TrainingConfig
from composer.sample import Message, Sample
from composer.tokenizer import encode_pieces, tokenizer_from
from composer.training.module import ComposerModule
from composer_plugins.openclip import OpenClipConfig
from composer_plugins.openclip.encoder import OpenClipEncoder
from composer_plugins.transformer.stored import restore_tokenizer, serialize_tokenizer
from composer_plugins.transformer.text import PretrainedTokenizer
from composer_plugins.transformers_vision.families import FAMILIES
from tests.composer.training.tiny import TinyData, trainer
from tests.plugins.rwkv.author import VERSIONS
from tests.plugins.transformer.tokenizers import KINDS, fast

ENVIRONMENT = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
"""Where Python code is."""

TINY = {"image_size": 16, "patch_size": 8, "width": 32, "depth": 2, "heads": 2}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LANGUAGE: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-scaled": {"rope_scaling": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 0.5, "attn_logit_softcapping": 0.5, "sliding_window": 5},
    "gemma3_text": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt2": {},
    "bloom": {},
    "mpt": {},
}


def open_clip_file(folder: Path, **options: Any) -> dict[str, Any]:
    """The encoder `openclip` from a file of a tower of this shape."""
    made = OpenClipEncoder(**OpenClipConfig(**options | {"layer": -1}).model_dump())
    weights = folder / "tower.safetensors"
    save_file({key: value.contiguous() for key, value in made.tower.state_dict().items()}, weights)
    return {"name": "openclip", **options, "pretrained": str(weights)}


def vision_folder(folder: Path, family: str) -> dict[str, Any]:
    """The encoder `transformers-vision` from a folder whose config and pixels are unlike any default."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 4, "image_size": 16}
    other = {"layer_norm_eps": 1e-3, "hidden_act": "relu"}
    if family == "siglip2":
        sizes["num_patches"] = sizes.pop("image_size")
    if family.startswith("dinov2"):
        sizes["mlp_ratio"] = 3
    else:
        sizes["intermediate_size"] = 48
    kind = FAMILIES[family]
    kind.model(kind.config(**sizes, **other)).save_pretrained(folder / "vision")
    (folder / "vision/preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_resize": true, "resample": 2, '
        '"do_center_crop": false, "size": {"height": 12, "width": 12}}'
    )
    return {"name": "transformers-vision", "pretrained": str(folder / "vision")}


def rwkv_file(folder: Path, version: str) -> dict[str, Any]:
    made = VERSIONS[version](tokenizer=tokenizer_from("bytes"), width=48, depth=2, head_size=16, ffn_width=80)
    torch.save(made.model.state_dict(), folder / "rwkv.pth")
    return {"name": f"rwkv{version}", "pretrained": str(folder / "rwkv.pth")}


def language_folder(folder: Path, name: str) -> dict[str, Any]:
    """The backbone `transformer` from a folder with an own tokenizer and chat template."""
    tokenizer = fast("qwen", "<s>", "</t>", special=("<user>", "<assistant>"))
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder / "language")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    sizes |= {"head_dim": 16, "intermediate_size": 48, "max_position_embeddings": 64, "vocab_size": 320}
    options = {"pad_token_id": None, "tie_word_embeddings": False, **LANGUAGE[name]}
    config = AutoConfig.for_model(name.partition("-")[0], **sizes, **options)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "language")
    return {"name": "transformer", "pretrained": str(folder / "language")}


RANDOM: dict[str, dict[str, Any]] = {
    "openclip": {"encoder": {"name": "openclip", **TINY}},
    "transformers-vision": {"encoder": {"name": "transformers-vision", **TINY}},
    "rwkv6": {"backbone": {"name": "rwkv6", "width": 32, "depth": 1, "head_size": 16}},
    "rwkv7": {"backbone": {"name": "rwkv7", "width": 32, "depth": 1, "head_size": 16}},
    "transformer": {"backbone": {"name": "transformer", "width": 32, "depth": 1, "heads": 2}},
}


def slots(case: str, folder: Path) -> dict[str, Any]:
    """A model whose encoder or backbone is the one of this name."""
    kind, _, name = case.partition(":")
    model: dict[str, Any] = {
        "encoder": {"name": "openclip", **TINY},
        "reducer": [{"name": "tome", "keep_ratio": 0.5}],
        "projector": {"name": "mlp"},
        "backbone": {"name": "rwkv6", "width": 32, "depth": 1, "head_size": 16},
        "prompt": {"tokenizer": "bytes"},
    }
    if kind == "random":
        return model | RANDOM[name]
    if kind == "openclip":
        return model | {"encoder": open_clip_file(folder, **OPEN_CLIP[name])}
    if kind == "vision":
        return model | {"encoder": vision_folder(folder, name)}
    if kind == "rwkv":
        return model | {"backbone": rwkv_file(folder, name)}
    return model | {"backbone": language_folder(folder, name), "prompt": {}}


SHAPE = {"image_size": 32, "width": 64, "depth": 2, "heads": 1}
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "siglip": TINY,
    "siglip-by-name": {"model": "ViT-B-16-SigLIP", **SHAPE},
    "clip-quickgelu": {"model": "ViT-B-32-quickgelu", **SHAPE, "resize": "pad", "layer": -2},
}
CASES = [
    *(f"random:{name}" for name in RANDOM),
    *(f"openclip:{name}" for name in OPEN_CLIP),
    *(f"vision:{name}" for name in FAMILIES),
    *(f"rwkv:{version}" for version in VERSIONS),
    *(f"language:{name}" for name in LANGUAGE),
]


def trained(model: dict[str, Any], path: Path) -> MultimodalModel:
    """A model whose weights are no longer those that it was built with, and its checkpoint."""
    torch.manual_seed(0)
    config = model_config(model)
    made = compose(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    content = {
        "composer": header(config, 2, made),
        "hyper_parameters": {"model": recorded(config)},
        "state_dict": {f"model.{key}": value for key, value in made.state_dict().items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(100_000)}}}],
    }
    write_checkpoint(content, path)
    return made


_opened: list[Path] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode()
        if not path.startswith(ENVIRONMENT):
            _opened.append(Path(path))


sys.addaudithook(_hear)  # for good: there is no way to remove one


@contextmanager
def opened_files() -> Iterator[list[Path]]:
    """Files outside of the Python environment that are opened meanwhile."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def unreachable(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("the network is not needed")


@torch.no_grad()
def outputs(model: MultimodalModel) -> list[Tensor]:
    """What the encoder, the projector and the backbone give, the latter in two pieces."""
    side, _ = model.encoder.transform.size_of(40, 40)
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = model.encoder(pixels).features
    ids = torch.arange(9)[None] * 7 % model.backbone.vocab_size
    first, state = model.backbone(model.backbone.embed(ids))
    second, _ = model.backbone(model.backbone.embed(ids), None, state)
    return [features, model.projector(features), first, second, model.backbone.head(second)]


def prompt(model: MultimodalModel) -> list[list[int]]:
    turns = (Message("user", ("What</t> is it?",)), Message("assistant", ("A cat.",)))
    parts = pieces(Sample("s", "here", turns), "inline", model.backbone.template)
    return encode_pieces(model.backbone.tokenizer, parts)


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_alone_gives_the_same_model_bit_for_bit(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    path = tmp_path / "step-1.ckpt"
    original = trained(slots(case, base), path)
    shutil.rmtree(base)
    monkeypatch.setattr(socket, "socket", unreachable)
    verified: list[int] = []
    checksum = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, *rest: verified.append(len(data)) or checksum(data, *rest))

    with opened_files() as files:
        model = load_model(path)
    assert set(files) == {path}
    assert len(files) == 2  # the list of its records, and its content
    read = read_checkpoint(path, resume=False)
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in read["state_dict"].values()}
    stored = sum(held.values())
    assert stored <= sum(verified) < stored + 50_000  # once, with a tokenizer, and without the optimizer's state

    assert all(not value.is_meta for value in (*model.parameters(), *model.buffers()))
    for one, other in zip(outputs(model), outputs(original), strict=True):
        assert torch.equal(one, other)
    assert list(model.state_dict()) == list(original.state_dict())
    assert model.encoder.transform == original.encoder.transform
    assert prompt(model) == prompt(original)
    assert model.backbone.context_length == original.backbone.context_length
    assert not model.training
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in original.parameters()]
    again = header(model_config(read["hyper_parameters"]["model"]), 2, model)["resolved"]
    one, other = (json.dumps(stored, default=Tensor.tolist) for stored in (again, read["composer"]["resolved"]))
    assert one == other


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    original = trained(slots("language:qwen2", tmp_path), tmp_path / "step-1.ckpt")
    model = load_model(tmp_path / "step-1.ckpt")
    assert len(list(model.parameters())) == len(list(original.parameters()))
    assert model.backbone.model.lm_head.weight is model.backbone.model.model.embed_tokens.weight


def test_options_that_change_no_weight_are_still_the_users(tmp_path: Path) -> None:
    path = tmp_path / "step-1.ckpt"
    model = slots("vision:dinov2", tmp_path)
    trained(model, path)
    shutil.rmtree(tmp_path / "vision")
    checkpoint = read_checkpoint(path)
    other = model_config({**model, "encoder": {**model["encoder"], "resize": "pad"}, "reducer": []})
    changed = restore_model(checkpoint, str(path), config=other)
    assert changed.encoder.transform.resize == "pad"
    assert changed.encoder.transform.resample == "bilinear"
    assert not changed.reducers


@pytest.mark.parametrize(
    ("case", "slot", "options", "message"),
    [
        ("rwkv:6", "backbone", {"width": 64}, "model.backbone.width: got 64, but the checkpoint has 48: remove it"),
        (
            "openclip:siglip-by-name",
            "encoder",
            {"model": "ViT-B-32"},
            "model.encoder.model: got 'ViT-B-32', but the checkpoint has 'ViT-B-16-SigLIP': remove it",
        ),
    ],
)
def test_options_that_contradict_the_weights_are_refused(
    case: str, slot: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = slots(case, tmp_path)
    trained(model, tmp_path / "step-1.ckpt")
    other = model_config({**model, slot: {**model[slot], **options}})
    with pytest.raises(ConfigError, match=message):
        restore_model(read_checkpoint(tmp_path / "step-1.ckpt"), "x", config=other)


def test_a_part_that_stores_nothing_needs_its_weights_again_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = slots("openclip:siglip", tmp_path)
    path = tmp_path / "step-1.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(OpenClipEncoder, "resolved", lambda self: None)
        original = trained(model, path)
    assert "encoder" not in read_checkpoint(path)["composer"]["resolved"]
    for one, other in zip(outputs(load_model(path)), outputs(original), strict=True):
        assert torch.equal(one, other)
    Path(model["encoder"]["pretrained"]).unlink()
    with pytest.raises(CheckpointError, match=r"cannot build the encoder '.*openclip' from .*tower.safetensors"):
        load_model(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_tokenizer_reads_and_writes_the_same(kind: str) -> None:
    own = fast(kind, "<s>", "</t>", special=("<user>", "<image>"), added=("<assistant>",))
    own.chat_template = CHAT
    other = restore_tokenizer(serialize_tokenizer(own))
    text = "  What is <user> this?\n\n</t> hi  <assistant><image> é \u4e2d."
    for special in (True, False):
        assert own(text, add_special_tokens=special).input_ids == other(text, add_special_tokens=special).input_ids
    assert (own.eos_token_id, own.bos_token_id, len(own)) == (other.eos_token_id, other.bos_token_id, len(other))
    assert own.added_tokens_decoder == other.added_tokens_decoder
    one, two = PretrainedTokenizer(own), PretrainedTokenizer(other)
    parts = [Piece("<s><user>", mark=True), Piece(text), Piece("</t><assistant>", mark=True)]
    assert one.encode_pieces(parts) == two.encode_pieces(parts)
    ids = one.encode(text)
    assert one.decode(ids) == two.decode(ids)


def test_a_tokenizer_written_in_python_is_stored_as_its_files() -> None:
    own = ByT5Tokenizer(extra_ids=3)
    own.chat_template = CHAT
    stored = serialize_tokenizer(own)
    assert all(isinstance(content, Tensor) for content in stored["files"].values())
    other = restore_tokenizer(stored)
    assert own("Hi </s>é").input_ids == other("Hi </s>é").input_ids
    assert (other.chat_template, len(other)) == (CHAT, len(own))


def fitted(model: dict[str, Any], folder: Path, steps: int, resumed: Path | None = None, **training: Any) -> Path:
    """The last checkpoint of a run of so many steps."""
    seed_everything(0)
    module = ComposerModule(model_config(model), TrainingConfig(**training))
    run = trainer(folder, max_steps=steps, limit_val_batches=0)
    run.ckpt_path = None if resumed is None else str(resumed)
    run.fit(module, TinyData(batch_size=2))
    newest_checkpoint = newest(folder)
    assert newest_checkpoint is not None
    return newest_checkpoint


def test_training_starts_from_a_checkpoint_alone(tmp_path: Path) -> None:
    """A run that resumes, and a stage that follows: as if the weights of the first start were still there."""
    model = slots("openclip:siglip", tmp_path) | {"backbone": rwkv_file(tmp_path, "6")}
    first = fitted(model, tmp_path / "first", 2)
    resumed = fitted(model, tmp_path / "with", 3, first)
    following = fitted(model, tmp_path / "with-stage", 1, initial_weights=str(first))
    for file in ("tower.safetensors", "rwkv.pth"):
        (tmp_path / file).unlink()
    for expected, got in (
        (resumed, fitted(model, tmp_path / "without", 3, first)),
        (following, fitted(model, tmp_path / "without-stage", 1, initial_weights=str(first))),
    ):
        one, other = (read_checkpoint(path)["state_dict"] for path in (expected, got))
        assert all(torch.equal(value, other[key]) for key, value in one.items())
        assert any(not torch.equal(value, read_checkpoint(first)["state_dict"][key]) for key, value in other.items())
