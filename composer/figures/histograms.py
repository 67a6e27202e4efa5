"""Figure of histograms."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Histogram = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Edges [B + 1] and shares [B]."""


def draw_histograms(
    histograms: Mapping[str, Histogram], limits: Mapping[str, int], output: Path, *, title: str
) -> None:
    """Draw one panel per histogram, with a line at its limit if it has one.

    Args:
        histograms: By what they count.
        limits: By the same names.
        output: PNG file to write.
        title: What was counted: the stage and its data.
    """
    figure = Figure(figsize=(4 * len(histograms), 3.2), layout="constrained")
    for axes, (name, (edges, shares)) in zip(
        figure.subplots(1, len(histograms), squeeze=False).flat, histograms.items(), strict=True
    ):
        axes.stairs(shares, edges, fill=True)
        axes.set_xlabel(name)
        axes.set_ylabel("share of samples")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if name in limits:
            axes.axvline(limits[name], color="tab:red", label=f"limit {limits[name]:,}")
            axes.legend()
    figure.suptitle(title, fontsize=10)
    figure.savefig(output, dpi=150, format="png")
