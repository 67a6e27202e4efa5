"""Figure of scores against the share of tokens kept."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from composer.evaluation.sweep import THRESHOLDS, Point

_MARKERS = "osD^v"


def draw_sweep(points: Sequence[Point], output: Path) -> None:
    """Draw a benchmark's points as `sweep_figure` does into an image file."""
    sweep_figure(points).savefig(output, dpi=150)


def sweep_figure(points: Sequence[Point]) -> Figure:
    """One panel per average and task of a benchmark: share of the best score over kept ratio, both in percent.

    Each order is a line, and the thresholds are dashed, after figures D2 to D4 of AuroraLong's supplement. These show
    "the proportion between the highest and lowest values on the entire performance curve"; here it is the proportion
    of each value to the highest one of its panel, over all orders, so that orders can be compared.
    """
    tasks = list(dict.fromkeys(point.task for point in points))
    columns = min(4, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.8, 2.8 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for task, axes in zip(tasks, panels, strict=False):
        _draw_task([point for point in points if point.task == task], axes)
    for axes in list(figure.axes)[len(tasks) :]:
        axes.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), title=points[0].benchmark)
    figure.supxlabel("visual tokens kept (%)")
    figure.supylabel("share of the best score (%)")
    return figure


def _draw_task(points: Sequence[Point], axes: Axes) -> None:
    for number, order in enumerate(dict.fromkeys(point.order for point in points)):
        known = sorted(
            (p.keep_ratio, p.share_of_best) for p in points if p.order == order and p.share_of_best is not None
        )
        kept, shares = [100 * ratio for ratio, _ in known], [100 * share for _, share in known]
        axes.plot(kept, shares, marker=_MARKERS[number % len(_MARKERS)], markersize=4, label=order)
    for threshold in THRESHOLDS:
        axes.axhline(100 * threshold, color="tab:gray", linestyle="--", linewidth=0.8)
        axes.annotate(
            f"{100 * threshold:.0f}%",
            (1.01, 100 * threshold),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            va="center",
        )
    axes.set_title(points[0].task, fontsize=9)
    if all(point.share_of_best is None for point in points):
        axes.text(0.5, 0.5, "no answer is right", ha="center", va="center", transform=axes.transAxes)
    axes.grid(alpha=0.3)
    axes.tick_params(labelbottom=True)
