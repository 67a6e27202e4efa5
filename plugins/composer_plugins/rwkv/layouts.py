"""Published layouts of RWKV weights (names and shapes), and conversion between them.

official  BlinkDL's files, with the names of our model (`blocks.0.att.receptance.weight`).
fla       flash-linear-attention's models (`model.layers.0.attn.r_proj...`); sources: fla/layers/rwkv6.py, rwkv7.py and
          its utils/convert_from_rwkv6.py, convert_from_rwkv7.py.
hf        the RWKV-6 repositories with remote code (`rwkv.blocks.0.attention...`), which is never run.

Legend: D width, R rank.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Layout = Literal["official", "fla", "hf"]
Weights = dict[str, Tensor]

OUTSIDE = {
    "fla": {
        "emb.weight": "model.embeddings.weight",
        "ln_out.weight": "model.norm.weight",
        "ln_out.bias": "model.norm.bias",
        "head.weight": "lm_head.weight",
    },
    "hf": {
        "emb.weight": "rwkv.embeddings.weight",
        "ln_out.weight": "rwkv.ln_out.weight",
        "ln_out.bias": "rwkv.ln_out.bias",
        "head.weight": "head.weight",
    },
}
BLOCKS = {"fla": "model.layers", "hf": "rwkv.blocks"}


class _Shape(NamedTuple):
    """Conversion of a tensor from the author's layout to another one, and back."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


_same = _Shape(lambda x: x, lambda x: x)
_flat = _Shape(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))  # [1, 1, D] and [D]
_transposed = _Shape(lambda x: x.t(), lambda x: x.t())
# The author's order is w, k, v, r, g; fla's is r, w, k, v, g.
_FLA_ORDER, _OWN_ORDER = [3, 0, 1, 2, 4], [1, 2, 3, 0, 4]
_mix_in = _Shape(  # [D, 5 R] and [5 R, D]
    lambda x: x.unflatten(1, (5, -1))[:, _FLA_ORDER].flatten(1).t(),
    lambda x: x.t().unflatten(1, (5, -1))[:, _OWN_ORDER].flatten(1),
)
_mix_out = _Shape(  # [5, R, D] and [D, 5 R]
    lambda x: x[_FLA_ORDER].flatten(0, 1).t(),
    lambda x: x.t().unflatten(0, (5, -1))[_OWN_ORDER],
)

_NORMS = {f"{own}.{leaf}": (f"{fla}.{leaf}", _same) for own, fla in
          {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm", "att.ln_x": "attn.g_norm"}.items()
          for leaf in ("weight", "bias")}  # fmt: skip

IN_BLOCK: dict[tuple[str, str], dict[str, tuple[str, _Shape]]] = {
    ("fla", "6"): _NORMS
    | {
        "att.time_maa_x": ("attn.x_proj.0.mu", _flat),
        "att.time_maa_w1": ("attn.x_proj.0.linear.weight", _mix_in),
        "att.time_maa_w2": ("attn.x_proj.2.weight", _mix_out),
        "att.time_decay": ("attn.w_proj.linear.lora.2.bias", _flat),
        "att.time_decay_w1": ("attn.w_proj.linear.lora.0.weight", _transposed),
        "att.time_decay_w2": ("attn.w_proj.linear.lora.2.weight", _transposed),
        "att.time_faaaa": ("attn.bonus", _same),
        "att.receptance.weight": ("attn.r_proj.linear.weight", _same),
        "att.key.weight": ("attn.k_proj.linear.weight", _same),
        "att.value.weight": ("attn.v_proj.linear.weight", _same),
        "att.gate.weight": ("attn.g_proj.linear.weight", _same),
        "att.output.weight": ("attn.o_proj.weight", _same),
        "ffn.time_maa_k": ("ffn.key.mu", _flat),
        "ffn.time_maa_r": ("ffn.receptance.mu", _flat),
        "ffn.key.weight": ("ffn.key.linear.weight", _same),
        "ffn.receptance.weight": ("ffn.receptance.linear.weight", _same),
        "ffn.value.weight": ("ffn.value.weight", _same),
    },
    ("fla", "7"): _NORMS
    | {f"att.x_{name}": (f"attn.x_{name}", _same) for name in "rwkvag"}
    | {f"att.{name}0": (f"attn.{name}_lora.lora.2.bias", _flat) for name in "wav"}
    | {f"att.{name}1": (f"attn.{name}_lora.lora.0.weight", _transposed) for name in "wavg"}
    | {f"att.{name}2": (f"attn.{name}_lora.lora.2.weight", _transposed) for name in "wavg"}
    | {
        "att.k_k": ("attn.k_k", _flat),
        "att.k_a": ("attn.k_a", _flat),
        "att.r_k": ("attn.r_k", _same),
        "att.receptance.weight": ("attn.r_proj.weight", _same),
        "att.key.weight": ("attn.k_proj.weight", _same),
        "att.value.weight": ("attn.v_proj.weight", _same),
        "att.output.weight": ("attn.o_proj.weight", _same),
        "ffn.x_k": ("ffn.x_k", _flat),
        "ffn.key.weight": ("ffn.key.weight", _same),
        "ffn.value.weight": ("ffn.value.weight", _same),
    },
}
"""Name and shape in the other layout of each tensor of a block. `hf` only renames modules."""

MIXES = tuple(f"att.time_maa_{name}" for name in "rwkvg")
"""Tensors that are the rows of attn.x_bias [5, D] in fla's RWKV-6."""

MARKS: dict[str, tuple[Layout, str]] = {
    "blocks.0.att.time_maa_w1": ("official", "6"),
    "blocks.0.att.r_k": ("official", "7"),
    "model.layers.0.attn.x_bias": ("fla", "6"),
    "model.layers.0.attn.r_k": ("fla", "7"),
    "rwkv.blocks.0.attention.time_maa_w1": ("hf", "6"),
    "blocks.0.att.ln_x.weight": ("official", "5"),
    "rwkv.blocks.0.attention.ln_x.weight": ("hf", "5"),
    "blocks.0.att.time_decay": ("official", "4"),
    "rwkv.blocks.0.attention.time_decay": ("hf", "4"),
}
"""Names that identify layout and version. Newer versions come first, as they have names of older ones too."""


def detect(names: Mapping[str, object]) -> tuple[Layout, str] | None:
    """Detect layout and version from the names of weights; None if they are not RWKV's."""
    return next((layout for mark, layout in MARKS.items() if mark in names), None)


def from_official(weights: Mapping[str, Tensor], layout: Layout, version: str) -> Weights:
    """Convert weights from the author's layout.

    Args:
        weights: Weights of RWKV-6 or RWKV-7 in the author's layout.
        layout: Layout to convert to.
        version: "6" or "7".

    Returns:
        The converted weights; they may share memory with `weights`.
    """
    if layout == "official":
        return dict(weights)
    converted: Weights = {}
    mixes: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            converted[OUTSIDE[layout][name]] = value
            continue
        number, leaf = block.groups()
        prefix = f"{BLOCKS[layout]}.{number}"
        if layout == "hf":
            converted[f"{prefix}.{_hf(leaf)}"] = value
        elif version == "6" and leaf in MIXES:
            mixes.setdefault(f"{prefix}.attn.x_bias", {})[leaf] = value
        else:
            other, shape = IN_BLOCK[layout, version][leaf]
            converted[f"{prefix}.{other}"] = shape.there(value).contiguous()
    return converted | {name: torch.stack([parts[leaf].reshape(-1) for leaf in MIXES]) for name, parts in mixes.items()}


def to_official(weights: Mapping[str, Tensor], layout: Layout, version: str) -> Weights:
    """Convert weights to the author's layout. Names that the layout does not have are kept.

    The first block of RWKV-7 has no value residual; v0, v1 and v2, which some files have there, are dropped.

    Args:
        weights: Weights of RWKV-6 or RWKV-7.
        layout: Layout of `weights`.
        version: "6" or "7".

    Returns:
        The converted weights; they may share memory with `weights`.
    """
    converted: Weights = {}
    outside = {other: own for own, other in OUTSIDE.get(layout, {}).items()}
    inside = {other: (own, shape) for own, (other, shape) in IN_BLOCK.get((layout, version), {}).items()}
    for name, value in weights.items():
        block = re.fullmatch(rf"{re.escape(BLOCKS.get(layout, 'blocks'))}\.(\d+)\.(.+)", name)
        if block is None:
            converted[outside.get(name, name)] = value
            continue
        number, leaf = block.groups()
        if layout == "official":
            converted[name] = value
        elif layout == "hf":
            converted[f"blocks.{number}.{_own(leaf)}"] = value
        elif version == "6" and leaf == "attn.x_bias":
            converted |= {f"blocks.{number}.{own}": row.view(1, 1, -1) for own, row in zip(MIXES, value, strict=True)}
        elif leaf in inside:
            own, shape = inside[leaf]
            converted[f"blocks.{number}.{own}"] = shape.back(value).contiguous()
        else:
            converted[name] = value
    unused = {f"blocks.0.att.v{part}" for part in (0, 1, 2)}
    return {name: value for name, value in converted.items() if name not in unused}


def _hf(leaf: str) -> str:
    """Convert a name inside a block to the layout `hf`."""
    return re.sub(r"^att\.", "attention.", re.sub(r"^ffn\.", "feed_forward.", re.sub(r"^ln0\.", "pre_ln.", leaf)))


def _own(leaf: str) -> str:
    """Convert a name inside a block from the layout `hf`."""
    return re.sub(r"^attention\.", "att.", re.sub(r"^feed_forward\.", "ffn.", re.sub(r"^pre_ln\.", "ln0.", leaf)))
