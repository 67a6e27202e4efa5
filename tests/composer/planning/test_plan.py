"""`composer plan` at AuroraLong's real size, on shapes alone, and on toys whose costs have a closed form."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from composer.cli import main
from composer.planning.build import build_meta, unstated_sizes
from composer.planning.data import shortfall, sources_of, total
from composer.planning.load import steps_of
from composer.planning.measure import Meter
from composer.planning.stage import backward_factor
from composer.recipe.data import DataConfig, data_config
from composer.recipe.resolve import resolve
from composer.recipe.trainer import TrainerConfig
from composer.recipe.yamlfile import Origin, load_recipes, parse_yaml
from tests.composer.installing import install, plugin

ROOT = Path(__file__).parents[3]
AURORALONG = ROOT / "recipes/auroralong"


@pytest.fixture(scope="module")
def auroralong() -> dict[str, Any]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["plan", str(AURORALONG), "--json"]) == 0
    plan: dict[str, Any] = json.loads(out.getvalue())
    return plan


def test_the_parts_have_the_real_sizes(auroralong: dict[str, Any]) -> None:
    """1.91 B in all; the projector is 1024 x 2048 + 2048 x 2048 and two biases."""
    parameters = auroralong["parameters"]
    assert parameters["encoder"] == 303_688_704
    assert parameters["projector"] == 1024 * 2048 + 2048 + 2048 * 2048 + 2048
    assert parameters["backbone"] == 1_599_873_024
    assert parameters["total"] == sum(count for part, count in parameters.items() if part != "total")
    assert auroralong["tokens_per_frame"] == 72


def test_the_stages_are_those_of_table_b1(auroralong: dict[str, Any]) -> None:
    stages = auroralong["stages"]
    keys = ("name", "trains", "epochs", "peak_lr", "batch_size", "keep_ratio", "tokens_per_frame")
    assert [[stage[key] for key in keys] for stage in stages] == [
        ["1-pretrain", ["projector"], 1, 1e-4, 128, 1.0, 576],
        ["2-vision", ["encoder", "projector"], 1, 4e-5, 2048, 1.0, 576],
        ["3-language", ["encoder", "projector", "backbone"], 2, 1e-5, 512, 0.1, 72],
    ]
    assert stages[2]["frames"] == 48
    assert stages[2]["visual_tokens"]["video"] == 48 * 72
    assert stages[2]["learning_rates"]["backbone"] == 8e-6


def test_the_sources_add_up_to_tables_b2_to_b4(auroralong: dict[str, Any]) -> None:
    stages = auroralong["stages"]
    assert [round(stage["samples"] / 1e5) / 10 for stage in stages] == [1.3, 6.6, 15.4]
    assert [stage["misfits"] for stage in stages] == [[], [], []]
    for stage in stages:
        assert stage["steps"] == stage["samples"] // stage["batch_size"] * stage["epochs"]
        assert stage["samples"] == pytest.approx(stage["expected_samples"], rel=1e-3)
    rows = [3 + 1, 3, 7, 5, 11, 3, 5]  # COCO's captions are a fourth source of the first
    counts = [source["samples"] for source in stages[1]["sources"]]
    for size, thousands in zip(rows, (1925, 438, 238, 100, 3518, 145, 193), strict=True):
        assert sum(counts[:size]) / 1000 == pytest.approx(thousands, abs=1)
        counts = counts[size:]
    assert counts == []


def test_optimizer_weights_and_gradients_are_16_bytes_a_parameter(auroralong: dict[str, Any]) -> None:
    memory = auroralong["stages"][2]["memory_gib"]
    held = memory["weights"] + memory["gradients"] + memory["optimizer"]
    assert held == pytest.approx(16 * auroralong["parameters"]["total"] / 2**30)
    assert memory["total"] == pytest.approx(held + memory["casts"] + memory["activations"])
    frozen = auroralong["stages"][0]["memory_gib"]
    assert frozen["gradients"] == pytest.approx(4 * auroralong["parameters"]["projector"] / 2**30)


@pytest.mark.parametrize(("stage", "gflop"), [("1-pretrain", 381), ("3-language", 208)])
def test_operations_of_a_frame_and_of_a_token(stage: str, gflop: float) -> None:
    """The closed forms: 381 GFLOP a frame, 208 where tokens merge; 2.69 a token, of which the head takes 0.27."""
    model = build_meta(resolve(load_recipes([AURORALONG / f"{stage}.yaml"])).model)
    meter = Meter(model, ("projector",))
    frame = meter.frame(384, 384, reached=False)
    assert frame["encoder"].flops / 1e9 == pytest.approx(gflop, rel=0.03)
    if stage == "1-pretrain":
        assert frame["encoder"].saved == 0
        assert frame["projector"].flops == 2 * 576 * (1024 * 2048 + 2048 * 2048)
        head = 2 * 2048 * 65536
        token = (meter.text(1024, 1, reached=True).flops - head) / 1024
        assert token / 1e9 == pytest.approx(2.69, rel=0.05)


def test_backward_costs_twice_where_trained_and_once_where_gradients_pass() -> None:
    parts = ("encoder", "projector", "backbone")
    assert [backward_factor(part, ["projector"]) for part in parts] == [0, 2, 1]
    assert [backward_factor(part, ["encoder", "projector"]) for part in parts] == [2, 2, 1]
    assert [backward_factor(part, ["backbone"]) for part in parts] == [0, 0, 2]


class Mixing(nn.Module):
    """A projector that mixes dtypes where autocast is on, which torch refuses."""

    def forward(self, features: Tensor) -> Tensor:
        product = features @ features.mT
        return torch.lerp(product, product, torch.ones(product.shape))


def test_a_part_that_autocast_refuses_is_not_counted() -> None:
    """It would stop in training; measured in fp32 instead, the plan would hide it."""
    model = build_meta(resolve(load_recipes([ROOT / "recipes/quickstart.yaml"])).model)
    model.projector = Mixing()  # type: ignore[assignment]
    meter = Meter(model, ("projector",))
    meter.frame(64, 64, reached=True)
    assert "dtype" in meter.uncounted["projector"]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", str(ROOT / "recipes/quickstart.yaml"), "--json", *words]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def test_flags_change_every_stage_and_misfits_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model.backbone.context_length=200", "--data.frames=40", "--data.global_batch_size=100", "--devices=3")
    (stage,) = planned(capsys, *flags, "--trainer.max_steps=7")["stages"]
    assert (stage["tokens_per_frame"], stage["visual_tokens"]["video"], stage["steps"]) == (7, 280, 7)
    prompt, batch = stage["misfits"][0], stage["misfits"][-1]
    assert "40 square frames of 7 tokens" in prompt
    assert "context is 200" in prompt
    assert "got 100, expected a multiple of the 3 devices" in batch


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ({"max_epochs": 2}, (500, 2, 2.0)),
        ({"max_epochs": 2, "max_steps": -1}, (500, 2, 2.0)),
        ({"max_steps": 5000}, (5000, 20, 20.0)),
        ({"max_steps": 100, "max_epochs": 2}, (100, 2, 0.4)),
        ({"max_steps": 1100, "max_epochs": -1}, (1100, 5, 4.4)),
        ({}, (250_000, 1000, 1000.0)),
        ({"max_epochs": -1}, (None, -1, None)),
    ],
)
def test_steps_are_lightnings(run: dict[str, int], found: tuple[int | None, int, float | None]) -> None:
    assert steps_of(1000, 4, TrainerConfig(**run)) == found


def test_a_limit_of_steps_limits_tokens_and_operations(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(AURORALONG / "1-pretrain.yaml"), "--json", "--trainer.max_steps=100"]
    assert main(words) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["tokens"] == pytest.approx(100 * 128 * (576 + 128 + 64), rel=0.01)
    assert stage["flops"] == pytest.approx(100 * 128 * stage["flops_per_sample"]["image"], rel=0.01)


def test_activations_are_those_of_a_packed_row_and_of_no_more_than_a_devices_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def activations(*flags: str) -> float:
        return planned(capsys, *flags)["stages"][0]["memory_gib"]["activations"]

    one = activations("--data.batch_size=1")
    assert activations("--data.batch_size=32") == pytest.approx(32 * one)
    assert activations("--data.batch_size=32", "--data.global_batch_size=1") == pytest.approx(one)
    assert activations("--data.batch_size=32", "--data.global_batch_size=6", "--devices=2") == pytest.approx(3 * one)
    packed = activations("--data.batch_size=1", "--data.global_batch_size=4096", "--data.max_tokens=20000")
    assert 20 * one < packed < 20000 * one


def test_what_a_device_has_no_room_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    (stage,) = planned(capsys, "--data.batch_size=65536", "--device=a100")["stages"]
    assert any("a100 has 74.5" in misfit for misfit in stage["misfits"])


def test_one_size_is_not_all_sizes() -> None:
    def said(**options: int) -> list[str]:
        slots = {"name": "rwkv6", "pretrained": "a/b:c.pth", **options}
        model = {"encoder": "openclip", "projector": "mlp", "backbone": slots}
        return unstated_sizes(resolve([parse_yaml(yaml.safe_dump({"model": model}), Origin("here"))]).model)

    assert said()
    assert said(depth=24)
    assert not said(depth=24, width=2048)


def test_an_overlay_and_pretrained_weights_without_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model: {backbone: {name: rwkv7, pretrained: nobody/nothing}}\n")
    (stage,) = planned(capsys, "--overlay", str(overlay))["stages"]
    (said,) = [misfit for misfit in stage["misfits"] if "nobody/nothing" in misfit]
    assert "not known without its weights" in said


def test_a_transformer_is_planned_and_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(ROOT / "recipes/quickstart-transformer.yaml"), "--device", "a800"]) == 0
    out = capsys.readouterr().out
    for said in ("parameters", "tokens per frame", "memory, optimizer", "a800"):
        assert said in out


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--utilization=1.5", "got 1.5, expected a share"),
        ("--devices=0", "got 0, expected at least 1"),
        ("--data.frames=many", "--data.frames: got 'many', expected a valid integer"),
    ],
)
def test_numbers_that_cannot_be_used(flag: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(ROOT / "recipes/quickstart.yaml"), flag]) == 2
    assert said in capsys.readouterr().err


def data(**options: Any) -> DataConfig:
    return data_config(options)


def test_samples_of_sources() -> None:
    sources = {
        "a": {"samples": 100, "repeat": 3, "reader": {"name": "llava", "path": "a.json"}},
        "b": {"samples": 50, "reader": {"name": "llava", "path": "x.json", "media_root": "videos"}},
    }
    found = sources_of(data(sources=sources, train=["a", {"source": "b", "repeat": 0.5}]))
    assert [(source.samples, source.video) for source in found] == [(300, False), (25, True)]
    assert total(found) == 325
    assert shortfall(325, 325) is None
    said = shortfall(325, 400)
    assert said is not None
    assert "325, expected 400" in said
    unknown = sources_of(data(sources=sources, train=["a", "more.jsonl"]))
    assert total(unknown) is None


RECURRENT = """
from torch.nn.utils.rnn import pack_padded_sequence
from composer_heavy import Sum

class Recurrent(Sum):
    def forward(self, embeds, mask=None, state=None, *, cu_seqlens=None):
        print("forward")
        lengths = embeds[..., 0].cumsum(1).argmax(1).cpu()  # of values
        pack_padded_sequence(embeds, lengths, batch_first=True)
        return super().forward(embeds, mask, state, cu_seqlens=cu_seqlens)
"""


def test_a_part_that_cannot_be_counted_is_said_and_the_rest_is_planned(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    component = 'yield Component("backbone", "recurrent", "A GRU.", ComponentConfig, "heavy:Recurrent")'
    install(site, "one", plugin(component))
    (site / "heavy.py").write_text(RECURRENT)
    (site / "composer_heavy.py").write_text(
        "from tests.composer.stand_ins import SumBackbone\n"
        "class Sum(SumBackbone):\n    def __init__(self, tokenizer=None):\n        super().__init__()\n"
    )
    assert main(["plan", str(ROOT / "recipes/quickstart.yaml"), "--model.backbone=recurrent", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    (said,) = [misfit for misfit in stage["misfits"] if misfit.startswith("model.backbone: ")]
    assert "the forward of 'recurrent' fails on tensors without values (DynamicOutputShapeException: " in said
    assert (stage["flops"], stage["flops_per_sample"], stage["hours"]) == (None, {}, None)
    assert set(stage["memory_gib"]) == {"weights", "gradients", "optimizer", "total"}
    assert main(["plan", str(ROOT / "recipes/quickstart.yaml"), "--model.backbone=recurrent"]) == 0
    assert "fails on tensors without values" in capsys.readouterr().out
