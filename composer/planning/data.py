"""What a recipe's `data:` section says of its samples, without opening a file."""

from dataclasses import dataclass
from typing import Any

from composer.data.mixture import mixed_sizes
from composer.recipe.sources import FILES, SourceConfig, read_sources
from composer.recipe.yamlfile import Located

VIDEO_WORDS = ("video", "clip", "frames")
TOLERANCE = 1e-3
"""Largest share by which the samples may miss `expected_samples`: published counts are rounded to thousands."""


@dataclass(frozen=True)
class SourcePlan:
    """A source of a stage. samples: those learned in an epoch, None where no count is stated. video: by its name."""

    name: str
    repeat: float
    samples: int | None
    video: bool


def sources_of(data: Located) -> list[SourcePlan]:
    """The sources of `data.train`, in order. Raises ConfigError with every problem."""
    return [_planned(source, data) for source in read_sources(data, "train")]


def _planned(source: SourceConfig, data: Located) -> SourcePlan:
    learned = None if source.samples is None else mixed_sizes([source.samples], [source.repeat])[0]
    stated = data.at(["sources", source.name]).plain()
    if source.samples is None and source.name.endswith(FILES):
        # Stills or videos: the larger is assumed.
        return SourcePlan(source.name, source.repeat, None, video=True)
    return SourcePlan(source.name, source.repeat, learned, _is_video(source.name, stated.get("reader")))


def _is_video(name: str, reader: Any) -> bool:
    places = [reader.get(key) or "" for key in ("path", "media_root")] if isinstance(reader, dict) else []
    return any(word in text.lower() for text in (name, *places) for word in VIDEO_WORDS)


def total(sources: list[SourcePlan]) -> int | None:
    """Samples of an epoch, None where a source states none."""
    counts = [source.samples for source in sources if source.samples is not None]
    return sum(counts) if counts and len(counts) == len(sources) else None


def shortfall(samples: int | None, expected: int | None) -> str | None:
    """Says where the sources do not add up to what the stage claims."""
    if samples is None or expected is None or abs(samples - expected) <= TOLERANCE * expected:
        return None
    return (
        f"data.expected_samples: the sources' samples x repeat are {samples:,}, expected {expected:,} to within "
        f"{TOLERANCE:.1%}: change a repeat, or the claim."
    )
