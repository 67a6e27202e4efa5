"""Transformers on the same frames: composer's model with Qwen2-1.5B's shape, and two models of transformers.

The latter have their published shapes, random weights and their own number of tokens per frame (LLaVA-OneVision 196,
Qwen2-VL 98), so they differ from composer's model in size and token budget too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.context import Context
from benchmarks.gpu.parts.ceilings import MATMUL
from benchmarks.gpu.parts.inference import frame_counts, measure_prefill
from benchmarks.gpu.prefill import operations_per_frame
from benchmarks.gpu.recipes import RECIPES, Stage, build, stage
from benchmarks.gpu.timing import clock, free, peak_gib, reset_peak

MOST = 4_096
"""Maximum number of frames, and 1,024 for the other models: time grows with the square."""


class Peer(NamedTuple):
    """A model of transformers. make: creates the model, and a function from a number of frames to its inputs."""

    name: str
    make: Callable[[bool], tuple[Any, Callable[[int], dict[str, Tensor]]]]


def run(context: Context) -> None:
    name = "Qwen2-1.5B shape"
    with torch.no_grad():
        if context.wants(f"{name}, {frame_counts(context.tiny)[0]} frames", 15):
            part = _same_budget(context.tiny)
            model = build(part.model, context.device, torch.bfloat16)
            floor = operations_per_frame(part) / (context.ceiling(MATMUL) * 1e12)
            measure_prefill(context, model, floor, name, MOST)
            del model
            free(context.device)
        for peer in (Peer("Qwen2-VL-2B shape", _qwen2_vl), Peer("LLaVA-OneVision-7B shape", _llava_onevision)):
            context.attempt(peer.name, lambda peer=peer: _peer(context, peer))
            free(context.device)


def _same_budget(tiny: bool) -> Stage:
    """Stage 3 with a different backbone, which is one line of YAML."""
    if not tiny:
        return stage("3-language", tiny=False, overlays=(RECIPES / "auroralong" / "baseline-sizes.yaml",))
    sizes = {"architecture": "qwen2", "width": 64, "depth": 2, "heads": 2, "kv_heads": 1, "ffn_width": 224}
    return stage("3-language", tiny=True, backbone={"name": "transformer", **sizes})


def _peer(context: Context, peer: Peer) -> None:
    device, ready = context.device, None
    for frames in frame_counts(context.tiny):
        name = f"{peer.name}, {frames:,} frames"
        if frames > MOST // 4 or not context.wants(name, 15):
            continue
        if ready is None:
            with device:
                model, inputs_of = peer.make(context.tiny)
            ready = model.to(torch.bfloat16).eval(), inputs_of
            free(device)
            size = sum(p.numel() for p in ready[0].parameters())
            context.add(f"{peer.name}: parameters", size / 1e9, "billion")
        model, inputs_of = ready
        inputs = {key: value.to(device) for key, value in inputs_of(frames).items()}

        def read(model: Any = model, inputs: dict[str, Tensor] = inputs) -> None:
            model(**inputs, use_cache=True, logits_to_keep=1)

        read()
        reset_peak(device)
        taken = clock(read, device)
        tokens = inputs["input_ids"].numel()
        context.add(name, taken, "s", note=f"{tokens:,} tokens, in one forward")
        context.add(f"{name}: rate", frames / taken, "frames/s")
        memory = peak_gib(device)
        if memory is None:
            context.missing(f"{name}: peak memory", "memory is counted on CUDA only")
        else:
            context.add(f"{name}: peak memory", memory, "GiB", note="pixels in bf16 included")


def _llava_onevision(tiny: bool) -> tuple[Any, Callable[[int], dict[str, Tensor]]]:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    side, patch, vision = (32, 8, _vision(64, 224, 2, 2)) if tiny else (384, 14, _vision(1152, 4304, 26, 16))
    text = _qwen2(64, 224, 2, 2, 1, 512) if tiny else _qwen2(3584, 18944, 28, 28, 4, 152_128)
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text},
        vision_config={"model_type": "siglip_vision_model", "image_size": side, "patch_size": patch, **vision},
        video_token_index=1,
        image_token_index=2,
    )
    per_frame = ((side // patch + 1) // 2) ** 2

    def inputs(frames: int) -> dict[str, Tensor]:
        pixels = torch.rand(1, frames, 3, side, side, dtype=torch.bfloat16)
        return {"input_ids": _ids(frames * per_frame + 1), "pixel_values_videos": pixels}

    return LlavaOnevisionForConditionalGeneration(config), inputs


def _qwen2_vl(tiny: bool) -> tuple[Any, Callable[[int], dict[str, Tensor]]]:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    side = 56 if tiny else 392  # the multiple of 28 that is nearest to 384
    text = _qwen2(64, 224, 2, 2, 1, 512) if tiny else _qwen2(1536, 8960, 28, 12, 2, 151_936)
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [4, 6, 6] if tiny else [16, 24, 24],
    }
    sizes = {"depth": 2, "embed_dim": 64, "num_heads": 2} if tiny else {"depth": 32, "embed_dim": 1280, "num_heads": 16}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={**sizes, "hidden_size": text["hidden_size"]},
        video_token_id=1,
        image_token_id=2,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    grid = side // 14

    def inputs(frames: int) -> dict[str, Tensor]:
        pairs = frames // 2
        ids = _ids(pairs * (grid // 2) ** 2)
        return {
            "input_ids": ids,
            "mm_token_type_ids": 2 * (ids == 1).int(),
            "pixel_values_videos": torch.rand(pairs * grid**2, 3 * 2 * 14 * 14, dtype=torch.bfloat16),
            "video_grid_thw": torch.tensor([[pairs, grid, grid]]),
        }

    return Qwen2VLForConditionalGeneration(config), inputs


def _ids(visual: int) -> Tensor:
    """Create ids [1, T]: a few words, placeholders of visual tokens (id 1), and words again."""
    words = torch.full((1, 16), 5)
    return torch.cat([words, torch.ones(1, visual, dtype=torch.int64), words], dim=1)


def _vision(width: int, ffn: int, depth: int, heads: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": ffn, "num_hidden_layers": depth, "num_attention_heads": heads}
    return {**sizes, "vision_use_head": False}


def _qwen2(width: int, ffn: int, depth: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2**18,
        "bos_token_id": None,
        "eos_token_id": None,
    }
