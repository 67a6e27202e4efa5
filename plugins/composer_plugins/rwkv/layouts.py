"""Names and shapes of RWKV's weights in the layouts that they are published in, and the way between them.

official  BlinkDL's files: the names of our own model (`blocks.0.att.receptance.weight`).
fla       flash-linear-attention's models (`model.layers.0.attn.r_proj...`); sources: fla/layers/rwkv6.py, rwkv7.py and
          its utils/convert_from_rwkv6.py, convert_from_rwkv7.py.
hf        the RWKV-6 repositories with code of their own (`rwkv.blocks.0.attention...`), which is never run.

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
    """How a tensor of the author's looks in another layout, and back."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


_same = _Shape(lambda x: x, lambda x: x)
_flat = _Shape(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))  # [1, 1, D] and [D]
_turned = _Shape(lambda x: x.t(), lambda x: x.t())
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
        "att.time_decay_w1": ("attn.w_proj.linear.lora.0.weight", _turned),
        "att.time_decay_w2": ("attn.w_proj.linear.lora.2.weight", _turned),
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
    | {f"att.{name}1": (f"attn.{name}_lora.lora.0.weight", _turned) for name in "wavg"}
    | {f"att.{name}2": (f"attn.{name}_lora.lora.2.weight", _turned) for name in "wavg"}
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
"""Of each tensor of a block: its name in the other layout, and its shape there. `hf` renames modules only."""

MIXES = tuple(f"att.time_maa_{name}" for name in "rwkvg")
"""In fla's RWKV-6 the rows of one tensor, attn.x_bias [5, D]."""

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
"""A name that only this layout and version has; newer versions first, since older ones share names with them."""


def detect(names: Mapping[str, object]) -> tuple[Layout, str] | None:
    """Layout and version of weights of these names; None where they are not RWKV's."""
    return next((found for mark, found in MARKS.items() if mark in names), None)


def from_official(weights: Mapping[str, Tensor], layout: Layout, version: str) -> Weights:
    """Weights in the author's layout of RWKV-6 or 7 in another one. Tensors may share memory with those given."""
    if layout == "official":
        return dict(weights)
    found: Weights = {}
    mixes: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            found[OUTSIDE[layout][name]] = value
            continue
        number, leaf = block.groups()
        prefix = f"{BLOCKS[layout]}.{number}"
        if layout == "hf":
            found[f"{prefix}.{_hf(leaf)}"] = value
        elif version == "6" and leaf in MIXES:
            mixes.setdefault(f"{prefix}.attn.x_bias", {})[leaf] = value
        else:
            other, shape = IN_BLOCK[layout, version][leaf]
            found[f"{prefix}.{other}"] = shape.there(value).contiguous()
    return found | {name: torch.stack([parts[leaf].reshape(-1) for leaf in MIXES]) for name, parts in mixes.items()}


def to_official(weights: Mapping[str, Tensor], layout: Layout, version: str) -> Weights:
    """Weights of RWKV-6 or 7 in any layout in the author's. A name that the layout does not have is kept as it is.

    RWKV-7's first block needs no value residual: v0, v1 and v2, which some files carry there, are left out.
    """
    found: Weights = {}
    outside = {other: own for own, other in OUTSIDE.get(layout, {}).items()}
    inside = {other: (own, shape) for own, (other, shape) in IN_BLOCK.get((layout, version), {}).items()}
    for name, value in weights.items():
        block = re.fullmatch(rf"{re.escape(BLOCKS.get(layout, 'blocks'))}\.(\d+)\.(.+)", name)
        if block is None:
            found[outside.get(name, name)] = value
            continue
        number, leaf = block.groups()
        if layout == "official":
            found[name] = value
        elif layout == "hf":
            found[f"blocks.{number}.{_own(leaf)}"] = value
        elif version == "6" and leaf == "attn.x_bias":
            found |= {f"blocks.{number}.{own}": row.view(1, 1, -1) for own, row in zip(MIXES, value, strict=True)}
        elif leaf in inside:
            own, shape = inside[leaf]
            found[f"blocks.{number}.{own}"] = shape.back(value).contiguous()
        else:
            found[name] = value
    unused = {f"blocks.0.att.v{part}" for part in (0, 1, 2)}
    return {name: value for name, value in found.items() if name not in unused}


def _hf(leaf: str) -> str:
    """A name inside a block of the author's layout in the `hf` layout."""
    return re.sub(r"^att\.", "attention.", re.sub(r"^ffn\.", "feed_forward.", re.sub(r"^ln0\.", "pre_ln.", leaf)))


def _own(leaf: str) -> str:
    return re.sub(r"^attention\.", "att.", re.sub(r"^feed_forward\.", "ffn.", re.sub(r"^pre_ln\.", "ln0.", leaf)))
