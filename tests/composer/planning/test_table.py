"""A plan's tables: nothing is cut, however narrow the console, and units fit the sizes."""

import io

import pytest
from rich.console import Console

from composer.planning.data import SourcePlan
from composer.planning.plan import Plan
from composer.planning.stage import Assumptions, StagePlan
from composer.planning.table import _count, _size, _time, show

MEMORY = {"weights": 7.114, "gradients": 0.0234, "activations": 1e-4, "total": 7.137}


def stage(name: str) -> StagePlan:
    return StagePlan(
        name=name,
        trains=["encoder", "projector"],
        trained_parameters=1_909_857_280,
        epochs=2,
        peak_lr=4e-5,
        learning_rates={"encoder": 1e-5, "projector": 4e-5},
        batch_size=2048,
        keep_ratio=0.1,
        kept_share=0.1,
        tokens_per_frame=72,
        frames=48,
        visual_tokens={"image": 72, "video": 3456},
        longest_prompt=3648,
        context=4096,
        samples=15_428_812,
        expected_samples=15_428_000,
        sources=[SourcePlan("a", 1.0, 15_428_812, True)],
        steps=60_268,
        tokens=33_630_000_000,
        flops_per_sample={"image": 3.738e12, "video": 79.314e12},
        flops=684.4e18,
        memory_gib=MEMORY,
        checkpoint_gib=21.3,
        hours=480.5,
        misfits=[],
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_number_is_cut(width: int, terminal: bool) -> None:
    names = [f"{number}-a-stage-with-a-long-name" for number in range(4)]
    parameters = {"encoder": 303_688_704, "projector": 6_295_552, "backbone": 1_599_873_024, "total": 1_909_857_280}
    out = io.StringIO()
    plan = Plan(parameters, 72, Assumptions(), [stage(name) for name in names])
    show(plan, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    lines = out.getvalue().splitlines()
    rows = {
        "  all": "1,909,857,280",
        "  samples per epoch": "15,428,812 of 15,428,000",
        "  memory, gradients": "24.0 MiB",
        "  FLOPs, video": "79.3 T",
    }
    for label, value in rows.items():
        (line,) = [line for line in lines if line.startswith(f"{label} ")]
        assert line.count(value) >= len(names), line
    assert "…" not in out.getvalue()
    assert all(name in lines[0] for name in names)


@pytest.mark.parametrize(
    ("gib", "text"),
    [(0.0, "0 B"), (7.114, "7.11 GiB"), (0.2, "205 MiB"), (1e-4, "105 KiB"), (1e-7, "107 B"), (135.23, "135 GiB")],
)
def test_sizes_have_a_unit_that_fits(gib: float, text: str) -> None:
    assert _size(gib) == text


def test_counts_and_times() -> None:
    assert [_count(n) for n in (None, 7, 33.63e9, 684.4e18)] == ["unknown", "7", "33.6 G", "684 E"]
    assert [_time(hours) for hours in (None, 0.05, 4.2, 1480.54)] == ["unknown", "3.0 min", "4.2 h", "1,480.5 h"]
