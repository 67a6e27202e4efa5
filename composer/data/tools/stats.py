"""How long samples become: tokens of text and of media, and frames of videos, without decoding the media.

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
from composer.data.sampler import permutation
from composer.errors import DataError
from composer.model.processor import Processor
from composer.reader import Reader
from composer.sample import Media

METRICS = ("text tokens", "visual tokens", "positions", "frames of a video")
"""The last are of each video as it is; how many of them a model sees is `data.frames`."""

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
BINS = 40


@dataclass
class Lengths:
    """What samples of one source measure. values: [N], for frames of a video [V]. samples: of a pass of training."""

    name: str
    records: int
    samples: int
    values: dict[str, list[int]] = field(default_factory=lambda: {metric: [] for metric in METRICS})
    unreadable: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return len(self.values["positions"])


def spread_indices(records: int, limit: int, seed: int) -> list[int]:
    """The numbers of at most `limit` records: one of each equal part of the source, chosen by the seed."""
    if records <= limit:
        return list(range(records))
    edges = np.arange(limit + 1) * records // limit
    draws = permutation(seed, 0, limit) / limit  # as stable as the order of training
    return [int(index) for index in edges[:-1] + (draws * np.diff(edges)).astype(np.int64)]


def measure(
    lengths: Lengths,
    reader: Reader,
    indices: Sequence[int],
    processor: Processor,
    frames: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Add what these records become in training. frames: taken of a video.

    Ids are counted by `Processor.encode` itself, around clips that have a shape and no pixels.
    """
    processor = replace(processor, context_length=None)  # what is too long is to be counted, not refused
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
    """The values of several sources, and how much each counts: a source as a whole by its samples in a pass."""
    values = [np.array(source.values[metric], np.int64) for source in sources]
    weights = [
        np.full(len(found), source.samples / max(source.read, 1)) for source, found in zip(sources, values, strict=True)
    ]
    return np.concatenate(values), np.concatenate(weights)


def summarize(sources: Sequence[Lengths], context: int | None) -> dict[str, Mapping[str, float]]:
    """Mean and quantiles of each metric that occurs, and the share of samples that are longer than the context."""
    found: dict[str, Mapping[str, float]] = {}
    for metric in METRICS:
        values, weights = weighted_values(sources, metric)
        if not len(values):
            continue
        order = values.argsort(kind="stable")
        reached = weights[order].cumsum() / weights.sum()
        at = {name: values[order][min(reached.searchsorted(s - 1e-9), len(values) - 1)] for name, s in SHARES.items()}
        found[metric] = {"mean": float(np.average(values, weights=weights))} | {n: int(v) for n, v in at.items()}
        if metric == "positions" and context is not None:
            found[metric] |= {"over context": float(weights[values > context].sum() / weights.sum())}  # type: ignore[operator]
    return found


def histogram(sources: Sequence[Lengths], metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges [BINS + 1] and the share of samples between them [BINS]; a metric that does not occur has no share."""
    values, weights = weighted_values(sources, metric)
    shares, edges = np.histogram(values, BINS, weights=weights)
    return edges, shares / (weights.sum() or 1.0)
