"""The layouts against fla's own models, against fla's formula, and there and back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composer_plugins.rwkv.convert import _fla_config, _hf_config
from composer_plugins.rwkv.layouts import detect, from_official, to_official
from composer_plugins.rwkv.sizes import RWKV6Sizes, RWKV7Sizes
from tests.plugins.rwkv.author import random_model

ROOT = Path(__file__).parents[3]
OF_FLA = """
import json, sys
from fla.models.{v}.configuration_{v} import {V}Config
from fla.models.{v}.modeling_{v} import {V}ForCausalLM
import torch
with torch.device("meta"):
    model = {V}ForCausalLM({V}Config(**json.loads(sys.argv[1])))
eps = model.model.layers[1].attn.g_norm.eps
print(json.dumps([eps, {{name: list(value.shape) for name, value in model.state_dict().items()}}]))
"""


def official(version: str) -> dict[str, Tensor]:
    return random_model(version, width=64, depth=2, head_size=32, ffn_width=96).model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["6", "7"])
def test_flas_layout_has_the_names_and_shapes_of_flas_own_model(version: str) -> None:
    weights = official(version)
    sizes = {"6": RWKV6Sizes, "7": RWKV7Sizes}[version].of_weights(weights)
    config = {name: value for name, value in _fla_config(sizes).items() if name not in ("model_type", "architectures")}
    code = OF_FLA.format(v=f"rwkv{version}", V=f"RWKV{version}")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(config)],
        env=os.environ | {"TRITON_INTERPRET": "1", "FLA_USE_COMPILE": "0"},  # without a GPU, fla imports only so
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    eps, expected = json.loads(done.stdout.splitlines()[-1])
    made = {name: list(value.shape) for name, value in from_official(weights, "fla", version).items()}
    assert made == expected
    assert eps == pytest.approx({"6": 1e-5, "7": 32e-5}[version])  # what fla computes with; we take 64e-5 for both


@pytest.mark.parametrize(("version", "layout"), [("6", "fla"), ("7", "fla"), ("6", "hf"), ("6", "official")])
def test_there_and_back_is_bit_equal(version: str, layout: str) -> None:
    weights = official(version)
    other = from_official(weights, layout, version)
    assert detect(other) == (layout, version)
    assert (set(other) == set(weights)) == (layout == "official")
    back = to_official(other, layout, version)
    assert list(back) == list(weights) or set(back) == set(weights)
    assert all(torch.equal(back[name], value) for name, value in weights.items())


def test_the_token_shift_of_flas_rwkv6_is_the_authors() -> None:
    """fla's order is r, w, k, v, g in the projections and in the bias; the author's is w, k, v, r, g."""
    weights, D = official("6"), 64
    other = {name: v for name, v in from_official(weights, "fla", "6").items() if "layers.1.attn.x_" in name}
    prefix = "model.layers.1.attn.x_"
    x, delta = torch.randn(2, 5, D)
    # fla/layers/rwkv6.py, forward
    low = torch.tanh((x + delta * other[f"{prefix}proj.0.mu"]) @ other[f"{prefix}proj.0.linear.weight"].T)
    low = low.view(5, 5, -1)
    theirs = torch.einsum("tnr,hnr->tnh", low, other[f"{prefix}proj.2.weight"].view(D, 5, -1)) + other[f"{prefix}bias"]
    r, w, k, v, g = theirs.unbind(1)
    # the author's x060
    att = {
        name.removeprefix("blocks.1.att.time_maa_"): value
        for name, value in weights.items()
        if "1.att.time_maa" in name
    }
    low = torch.tanh((x + delta * att["x"][0]) @ att["w1"]).view(5, 5, -1).transpose(0, 1)
    mixes = torch.bmm(low, att["w2"])
    for name, mix, got in zip("wkvrg", mixes, (w, k, v, r, g), strict=True):
        torch.testing.assert_close(got, mix + att[name][0])


def test_unused_value_residuals_of_the_first_block_are_left_out() -> None:
    weights = official("7")
    extra = {f"blocks.0.att.v{part}": weights[f"blocks.1.att.v{part}"] for part in (0, 1, 2)}
    assert set(to_official(weights | extra, "official", "7")) == set(weights)


def test_hf_names_are_those_of_the_published_repositories() -> None:
    names = set(from_official(official("6"), "hf", "6"))
    assert {
        "rwkv.embeddings.weight",
        "rwkv.blocks.0.pre_ln.weight",
        "rwkv.blocks.1.ln2.bias",
        "rwkv.blocks.1.attention.time_maa_w2",
        "rwkv.blocks.1.attention.time_faaaa",
        "rwkv.blocks.1.attention.ln_x.weight",
        "rwkv.blocks.1.feed_forward.receptance.weight",
        "rwkv.ln_out.bias",
        "head.weight",
    } <= names
    assert _hf_config(RWKV6Sizes.of_weights(official("6")))["head_size"] == 32


def test_other_models_are_not_taken_for_rwkv() -> None:
    assert detect({"model.layers.0.self_attn.q_proj.weight": 1}) is None
    assert detect({"blocks.0.att.time_decay": 1, "blocks.0.att.ln_x.weight": 1}) == ("official", "5")
    assert detect({"blocks.0.att.time_decay": 1}) == ("official", "4")
