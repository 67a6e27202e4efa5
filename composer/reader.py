"""What a reader gives: the samples of one source, by number. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from composer.sample import Sample


class Reader(Sequence[Sample], ABC):
    """The samples of one source, in a fixed order: a pure function of the number, so that training resumes exactly.

    Opening one indexes the source and reads no sample. It goes to data workers, so it pickles small.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        """Raises DataError, with file and line, for a record that cannot be read."""

    @abstractmethod
    def location(self, index: int) -> str:
        """Where a sample stands, for messages: "file:line"."""
