"""The samples that a recipe's `data:` section describes, without opening a file."""

from dataclasses import dataclass

from composer.data.mixture import mixed_sizes
from composer.recipe.data import FILES, TOLERANCE, DataConfig, SourceConfig, is_off

VIDEO_WORDS = ("video", "clip", "frames")


@dataclass(frozen=True)
class SourcePlan:
    """A source of a stage. samples: trained on per epoch, None if no count is stated. video: by its name."""

    name: str
    repeat: float
    samples: int | None
    video: bool


def sources_of(data: DataConfig) -> list[SourcePlan]:
    """The sources of `data.train`, in order."""
    return [_planned(source, data) for source in data.sources_of("train")]


def _planned(source: SourceConfig, data: DataConfig) -> SourcePlan:
    if source.name not in data.sources and source.name.endswith(FILES):
        # Stills or videos: the larger is assumed.
        return SourcePlan(source.name, source.repeat, None, video=True)
    samples = None if source.samples is None else mixed_sizes([source.samples], [source.repeat])[0]
    reader = data.sources[source.name].reader  # whose paths do not start with the root, which may be called anything
    texts = [source.name, *(getattr(reader, key, None) or "" for key in ("path", "media_root"))]
    video = any(word in text.lower() for text in texts for word in VIDEO_WORDS)
    return SourcePlan(source.name, source.repeat, samples, video)


def total(sources: list[SourcePlan]) -> int | None:
    """Samples of an epoch, None if a source states none."""
    counts = [source.samples for source in sources if source.samples is not None]
    return sum(counts) if counts and len(counts) == len(sources) else None


def shortfall(samples: int | None, expected: int | None) -> str | None:
    """Message if the sources do not add up to the expected samples, else None."""
    if samples is None or not is_off(samples, expected):
        return None
    return (
        f"data.expected_samples: the sources' samples x repeat are {samples:,}, expected {expected:,} to within "
        f"{TOLERANCE:.0%}: change a repeat, or the expected number"
    )
