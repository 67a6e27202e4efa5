"""Figure of a run's curves."""

import csv
import math
from pathlib import Path

from matplotlib.figure import Figure

from composer.errors import DataError

Curve = list[tuple[int, float]]

_COLOURS = {"train": "tab:blue", "val": "tab:orange"}


def draw_curves(run: Path, output: Path) -> None:
    """Draw the loss and the token accuracy of a run against its steps, from the `metrics.csv` in its folder.

    A folder has a file for each time that the run was started; a later one replaces all from its first step on.
    Raises DataError where the folder has no such file, or none tells a loss.
    """
    curves = read_curves(run)
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, metric in zip(panels, ("loss", "token_accuracy"), strict=True):
        for split, colour in _COLOURS.items():
            points = curves.get(f"{split}/{metric}")
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=colour, label=split, marker="o" if len(points) < 20 else None)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(metric.replace("_", " "))
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend()
    panels[1].set_ylim(-0.02, 1.02)
    figure.savefig(output, dpi=150)


def read_curves(run: Path) -> dict[str, Curve]:
    """Each logged metric of a run as (step, value), by step. Raises as `draw_curves` does."""
    files = sorted(run.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise DataError(
            f"There is no metrics.csv in {run}: it is no folder of a run of `composer fit`, or the run took fewer "
            "steps than trainer.log_every_n_steps."
        )
    found: dict[str, dict[int, float]] = {}
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        first = min((int(row["step"]) for row in rows), default=math.inf)
        found = {name: {s: v for s, v in points.items() if s < first} for name, points in found.items()}
        for row in rows:
            for name, text in row.items():
                if "/" in name and text:
                    found.setdefault(name, {})[int(row["step"])] = float(text)
    if not found.get("train/loss"):
        raise DataError(f"{files[-1]} has no train/loss: the run logged no step (trainer.log_every_n_steps).")
    return {name: sorted(points.items()) for name, points in found.items()}
