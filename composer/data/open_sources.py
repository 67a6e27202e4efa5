"""Sources of `data:` opened: their readers, and what is asked of all of them."""

import warnings
from collections.abc import Sequence

from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.sources import SourceConfig
from composer.registry import load_registry

ROUNDED = 0.01
"""How far a source's size may be from the one expected: data sets are published with rounded counts."""


def open_sources(sources: Sequence[SourceConfig]) -> list[Reader]:
    """The reader of each source. Raises DataError for one that cannot be opened or is of another size."""
    return [_opened(source) for source in sources]


def open_source(source: SourceConfig) -> Reader:
    """Its reader, of whatever size. Raises DataError where it cannot be opened."""
    return load_registry().build("reader", source.reader)


def _opened(source: SourceConfig) -> Reader:
    reader = open_source(source)
    check_size(source, len(reader))
    return reader


def check_size(source: SourceConfig, size: int) -> None:
    """Raises DataError for more or fewer samples than stated, and warns of a difference that is rounding."""
    if source.samples is None or size == source.samples:
        return
    text = f"source {source.name!r}: got {size:,} samples, expected {source.samples:,}"
    if abs(size - source.samples) > ROUNDED * source.samples:
        raise DataError(
            f"{text} to within 1 % in {getattr(source.reader, 'path', 'it')}: get the whole of it, or correct "
            f"data.sources.{source.name}.samples"
        )
    warnings.warn(text, stacklevel=2)


def check_total(sizes: Sequence[int], names: Sequence[str], expected: int | None) -> None:
    """Raises DataError where the samples of a pass over all sources, repeats included, are not what was claimed."""
    total = sum(sizes)
    if expected is not None and abs(total - expected) > ROUNDED * expected:
        listed = ", ".join(f"{name} {size:,}" for name, size in zip(names, sizes, strict=True))
        raise DataError(
            f"data.train: got {total:,} samples a pass, expected {expected:,} (data.expected_samples) to within 1 %: "
            f"{listed}. Correct a `repeat`, or the claim."
        )


def check_ids(sources: Sequence[Reader]) -> None:
    """Raises DataError for two records of one id, whose answers could not be told apart. Reads every record."""
    seen: dict[str, tuple[Reader, int]] = {}
    for source in sources:
        for index in range(len(source)):
            sample = source[index]
            if sample.id in seen:
                first, at = seen[sample.id]
                raise DataError(
                    f"{source.location(index)}: id {sample.id!r} is already that of {first.location(at)}; "
                    "give each record an id of its own"
                )
            seen[sample.id] = source, index
