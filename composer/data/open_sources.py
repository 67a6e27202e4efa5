"""Opens the sources of `data:`: their readers, and the checks that hold for all of them."""

import warnings
from collections.abc import Iterator, Sequence

from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.data import TOLERANCE, SourceConfig, is_off
from composer.registry import load_registry
from composer.sample import Sample


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
    if is_off(size, source.samples):
        raise DataError(
            f"{text} to within {TOLERANCE:.0%} in {getattr(source.reader, 'path', 'it')}: get all of it, or correct "
            f"data.sources.{source.name}.samples"
        )
    warnings.warn(text, stacklevel=2)


def check_total(sizes: Sequence[int], names: Sequence[str], expected: int | None) -> None:
    """Raises DataError if the samples of one pass over all sources, repeats included, are not as many as expected."""
    total = sum(sizes)
    if is_off(total, expected):
        listed = ", ".join(f"{name} {size:,}" for name, size in zip(names, sizes, strict=True))
        raise DataError(
            f"data.train: got {total:,} samples per pass, expected {expected:,} (data.expected_samples) to within "
            f"{TOLERANCE:.0%}: {listed}. Correct a `repeat`, or data.expected_samples"
        )


def unique_samples(sources: Sequence[Reader]) -> Iterator[Sample]:
    """Every sample of all sources, in order.

    Raises DataError for a record that cannot be read, and for two with one id, whose answers could not be told apart.
    """
    locations: dict[str, str] = {}
    for source in sources:
        for number in range(len(source)):
            sample, location = source[number], source.location(number)
            if sample.id in locations:
                raise DataError(
                    f"{location}: id {sample.id!r} is already that of {locations[sample.id]}; give each record an id "
                    "of its own"
                )
            locations[sample.id] = location
            yield sample
