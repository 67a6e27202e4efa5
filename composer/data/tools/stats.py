"""Lengths of samples: text tokens, media tokens and frames of videos, without decoding the media.

Legend: N samples that were read, V videos in them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from composer.batch import MEDIA_ID, Clip
from composer.data.answers import drop_unanswered_turns
from composer.data.media.headers import read_header
from composer.data.mixture import mixed_sizes
from composer.data.open_sources import open_source
from composer.data.sampler import permutation
from composer.errors import DataError
from composer.model.processor import Processor
from composer.reader import Reader
from composer.recipe.data import SourceConfig
from composer.sample import Media

METRICS = ("text tokens", "visual tokens", "positions", "frames of a video")
"""Measured quantities. The last one counts all frames of each video; a model receives `data.frames` of them."""

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
BINS = 40


@dataclass
class Lengths:
    """Lengths of one source's samples.

    Attributes:
        name: Name of the source.
        records: Number of its records.
        samples: Number of its samples per epoch, repeats included.
        values: Values of each metric: [N], and [V] for frames of a video.
        unreadable: Why other records could not be read.
    """

    name: str
    records: int
    samples: int
    values: dict[str, list[int]] = field(default_factory=lambda: {metric: [] for metric in METRICS})
    unreadable: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Number of records that were read."""
        return len(self.values["positions"])


def stats(
    sources: Sequence[SourceConfig],
    processor: Processor,
    *,
    frames: int,
    limit: int = 2000,
    seed: int = 0,
    on_start: Callable[[int], None] = lambda records: None,
    on_progress: Callable[[], None] = lambda: None,
) -> list[Lengths]:
    """Measure the training samples of sources without decoding their media.

    Args:
        sources: Training sources of a recipe.
        processor: Processor of the model.
        frames: Number of frames to sample from a video.
        limit: Maximum number of records to read per source, spread evenly.
        seed: Seed of the choice of records.
        on_start: Called once with the total number of records to read.
        on_progress: Called before each record.

    Returns:
        Lengths of each source; see `summarize` and `histogram`.

    Raises:
        DataError: If a source cannot be opened.
    """
    readers = [open_source(source) for source in sources]
    sizes = mixed_sizes([len(reader) for reader in readers], [source.repeat for source in sources])
    chosen = [spread_indices(len(reader), limit, seed) for reader in readers]
    on_start(sum(map(len, chosen)))
    measured = []
    for source, reader, size, indices in zip(sources, readers, sizes, chosen, strict=True):
        measured.append(Lengths(source.name, len(reader), size))
        measure(measured[-1], reader, indices, processor, frames, on_progress)
    return measured


def spread_indices(records: int, limit: int, seed: int) -> list[int]:
    """Choose records spread evenly over a source: one from each of `limit` equal parts.

    Args:
        records: Number of records of the source.
        limit: Maximum number of records to choose.
        seed: Seed of the choice within each part.

    Returns:
        Indices of the records, in increasing order.
    """
    if records <= limit:
        return list(range(records))
    edges = np.arange(limit + 1) * records // limit
    draws = permutation(seed, 0, limit) / limit  # as reproducible as the training order
    return [int(index) for index in edges[:-1] + (draws * np.diff(edges)).astype(np.int64)]


def measure(
    lengths: Lengths,
    reader: Reader,
    indices: Sequence[int],
    processor: Processor,
    frames: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Measure the training samples of records.

    Token counts come from `Processor.encode`, with clips that have a shape but no pixels.

    Args:
        lengths: Receives the values.
        reader: Reader of the source.
        indices: Indices of the records.
        processor: Processor of the model.
        frames: Number of frames to sample from a video.
        advance: Called before each record.
    """
    processor = replace(processor, context_length=None)  # count samples that are too long instead of refusing them
    for index in indices:
        advance()
        try:
            sample = drop_unanswered_turns(reader[index])
            headers = [read_header(media) for media in sample.media]
            clips = [_clip(m, h.height, h.width, processor, frames) for m, h in zip(sample.media, headers, strict=True)]
            ids = processor.encode(sample, clips).ids
        except DataError as error:
            lengths.unreadable.append(str(error))
            continue
        visual = int((ids == MEDIA_ID).sum())
        for metric, value in zip(METRICS, (len(ids) - visual, visual, len(ids)), strict=False):
            lengths.values[metric].append(value)
        lengths.values[METRICS[-1]] += [
            h.frames for m, h in zip(sample.media, headers, strict=True) if m.kind == "video"
        ]


def _clip(media: Media, height: int, width: int, processor: Processor, frames: int) -> Clip:
    shape = (frames if media.kind == "video" else 1, 3, *processor.transform.size_of(height, width))
    return Clip(torch.empty(shape, dtype=torch.uint8, device="meta"), torch.empty(shape[0], device="meta"))


def weighted_values(sources: Sequence[Lengths], metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join the values of several sources.

    Args:
        sources: Lengths of the sources.
        metric: One of `METRICS`.

    Returns:
        The values, and their weights: those of a source sum to its samples per epoch.
    """
    values = [np.array(source.values[metric], np.int64) for source in sources]
    weights = [
        np.full(len(own), source.samples / max(source.read, 1)) for source, own in zip(sources, values, strict=True)
    ]
    return np.concatenate(values), np.concatenate(weights)


def summarize(sources: Sequence[Lengths], context: int | None) -> dict[str, Mapping[str, float]]:
    """Summarize the lengths of sources as mixed in training.

    Args:
        sources: Lengths of the sources.
        context: Context length of the backbone, or None if it is unlimited.

    Returns:
        Mean and quantiles of each metric that has values, and the share of samples that exceed the context.
    """
    summary: dict[str, Mapping[str, float]] = {}
    for metric in METRICS:
        values, weights = weighted_values(sources, metric)
        if not len(values):
            continue
        order = values.argsort(kind="stable")
        reached = weights[order].cumsum() / weights.sum()
        at = {name: values[order][min(reached.searchsorted(s - 1e-9), len(values) - 1)] for name, s in SHARES.items()}
        summary[metric] = {"mean": float(np.average(values, weights=weights))} | {n: int(v) for n, v in at.items()}
        if metric == "positions" and context is not None:
            summary[metric] |= {"over context": float(weights[values > context].sum() / weights.sum())}  # type: ignore[operator]
    return summary


def histogram(sources: Sequence[Lengths], metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute a histogram of sources as mixed in training.

    Args:
        sources: Lengths of the sources.
        metric: One of `METRICS`.

    Returns:
        Edges [BINS + 1], and the share of samples per bin [BINS]; all 0 if the metric has no values.
    """
    values, weights = weighted_values(sources, metric)
    shares, edges = np.histogram(values, BINS, weights=weights)
    return edges, shares / (weights.sum() or 1.0)
