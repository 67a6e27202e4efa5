"""Histograms that were counted elsewhere, as a figure."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Histogram = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Edges [B + 1] and shares [B]."""


def draw_histograms(histograms: Mapping[str, Histogram], limits: Mapping[str, int], output: Path) -> None:
    """Draw a panel for each histogram, by its name, with a line at its limit where it has one. Writes a PNG."""
    figure = Figure(figsize=(4 * len(histograms), 3.2), layout="constrained")
    for axes, (name, (edges, shares)) in zip(
        figure.subplots(1, len(histograms), squeeze=False).flat, histograms.items(), strict=True
    ):
        axes.stairs(shares, edges, fill=True)
        axes.set_xlabel(name)
        axes.set_ylabel("share")
        axes.grid(alpha=0.3)
        if name in limits:
            axes.axvline(limits[name], color="tab:red", label=f"limit {limits[name]:,}")
            axes.legend()
    figure.savefig(output, dpi=150, format="png")
