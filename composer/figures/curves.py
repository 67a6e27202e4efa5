"""Figure of a run's curves."""

import csv
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from composer.errors import DataError
from composer.recipe.yamlfile import load_yaml

Curve = list[tuple[int, float]]

METRICS = ("loss", "token_accuracy")
COLORS = {"train": "tab:blue", "val": "tab:orange"}
SOURCE = "train/source"
"""Logged if a run trains on one source after another: the place of the source that a step's samples come from."""


def draw_curves(run: Path, output: Path) -> None:
    """Draw the loss and the token accuracy of a run over its steps, from the `metrics.csv` files in its folder.

    Dashed lines mark the steps at which training goes over to the next source (`data.order: in-turn`).

    Args:
        run: Folder of a run of `composer fit`. It has one `metrics.csv` for each start of the run; a later file
            replaces everything from its first step on.
        output: Image file to write.

    Raises:
        DataError: The folder has no such file, or none has a loss.
    """
    curves_figure(run).savefig(output, dpi=150)


def curves_figure(run: Path) -> Figure:
    """The figure that `draw_curves` saves."""
    curves = read_curves(run)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        _draw_metric(axes, curves, metric)
        _mark_sources(axes, curves.get(SOURCE, []))
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.axes[1].set_ylim(-0.02, 1.02)
    figure.suptitle(_title(run), fontsize=10)
    return figure


def _draw_metric(axes: Axes, curves: dict[str, Curve], metric: str) -> None:
    name = metric.replace("_", " ")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    for split, color in COLORS.items():
        if points := curves.get(f"{split}/{metric}"):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=color, label=split, marker="o" if len(points) < 20 else None)
    if not axes.get_lines():
        axes.text(0.5, 0.5, f"the run logged no {name}", ha="center", va="center", transform=axes.transAxes)


def _mark_sources(axes: Axes, places: Curve) -> None:
    changes = [step for (_, before), (step, now) in pairwise(places) if now != before]
    for number, step in enumerate(changes):
        label = "next source" if number == 0 else None
        axes.axvline(step, color="tab:gray", linestyle="--", linewidth=0.8, label=label)


def _title(run: Path) -> str:
    """The run, its parts and its data, as far as the newest `config.yaml` in its folder tells them."""
    paths = sorted(run.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns)
    config: dict[str, Any] = load_yaml(paths[-1]).plain() if paths else {}
    model, train = config.get("model") or {}, (config.get("data") or {}).get("train") or []
    parts = [model.get("encoder"), *(model.get("reducer") or []), model.get("projector"), model.get("backbone")]
    names = " + ".join(part["name"] for part in parts if part)
    sources = [
        item if isinstance(item, str) else item["source"] for item in ([train] if isinstance(train, str) else train)
    ]
    shown = ", ".join(sources[:3]) + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")
    return f"{run.resolve().name}: {names}\ntrained on {shown}" if names and shown else run.resolve().name


def read_curves(run: Path) -> dict[str, Curve]:
    """Each logged metric of a run as (step, value), by step.

    Raises:
        DataError: The folder has no `metrics.csv`, or none has a loss.
    """
    files = sorted(run.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise DataError(
            f"{run} has no metrics.csv: expected the folder of a run of `composer fit` with at least "
            "trainer.log_every_n_steps steps"
        )
    curves: dict[str, dict[int, float]] = {}
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        first = min((int(row["step"]) for row in rows), default=math.inf)
        curves = {name: {s: v for s, v in points.items() if s < first} for name, points in curves.items()}
        for row in rows:
            for name, text in row.items():
                if "/" in name and text:
                    curves.setdefault(name, {})[int(row["step"])] = float(text)
    if not curves.get("train/loss"):
        raise DataError(f"{files[-1]} has no train/loss: the run logged no step (trainer.log_every_n_steps)")
    return {name: sorted(points.items()) for name, points in curves.items()}
