"""Opens the readers of the sources in `data:`, and checks their sizes and ids."""

import warnings
from collections.abc import Iterator, Sequence

from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.data import TOLERANCE, SourceConfig, is_off
from composer.registry import load_registry
from composer.sample import Sample


def open_sources(sources: Sequence[SourceConfig]) -> list[Reader]:
    """Open the reader of each source. Raises DataError if one cannot be opened or its size is not as stated."""
    return [_open_checked(source) for source in sources]


def open_source(source: SourceConfig) -> Reader:
    """Open a source's reader, of any size. Raises DataError if it cannot be opened."""
    return load_registry().build("reader", source.reader)


def _open_checked(source: SourceConfig) -> Reader:
    reader = open_source(source)
    check_size(source, len(reader))
    return reader


def check_size(source: SourceConfig, size: int) -> None:
    """Raise DataError if the number of samples is not as stated; warn if the difference is within the tolerance."""
    if source.samples is None or size == source.samples:
        return
    text = f"source {source.name!r}: got {size:,} samples, expected {source.samples:,}"
    if is_off(size, source.samples):
        raise DataError(
            f"{text} to within {TOLERANCE:.0%} in {getattr(source.reader, 'path', 'it')}: get all of it, or correct "
            f"data.sources.{source.name}.samples"
        )
    warnings.warn(text, stacklevel=2)


def check_total(sizes: Sequence[int], names: Sequence[str], expected: int | None) -> None:
    """Check the number of samples of one pass over all sources, repeats included.

    Args:
        sizes: Number of samples of each source.
        names: Name of each source.
        expected: Expected total, or None.

    Raises:
        DataError: The total is not as expected.
    """
    total = sum(sizes)
    if is_off(total, expected):
        listed = ", ".join(f"{name} {size:,}" for name, size in zip(names, sizes, strict=True))
        raise DataError(
            f"data.train: got {total:,} samples per pass, expected {expected:,} (data.expected_samples) to within "
            f"{TOLERANCE:.0%}: {listed}. Correct a `repeat`, or data.expected_samples"
        )


def unique_samples(sources: Sequence[Reader]) -> Iterator[Sample]:
    """Yield the samples of all sources, in order.

    Raises:
        DataError: A record cannot be read, or two have the same id, so that their answers cannot be distinguished.
    """
    locations: dict[str, str] = {}
    for source in sources:
        for number in range(len(source)):
            sample, location = source[number], source.location(number)
            if sample.id in locations:
                raise DataError(
                    f"{location}: id {sample.id!r} is already that of {locations[sample.id]}; give each record a "
                    "unique id"
                )
            locations[sample.id] = location
            yield sample
