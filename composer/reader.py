"""Interface of readers: the samples of one source, by index. Does not import torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from composer.sample import Sample


class Reader(Sequence[Sample], ABC):
    """The samples of one source in a fixed order. A sample depends only on its index, so training resumes exactly.

    The constructor indexes the source without reading samples. A reader is sent to data workers, so its pickle must be
    small.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        """Read one sample.

        Args:
            index: Index of the sample; negative ones count from the end.

        Raises:
            IndexError: If there is no such sample.
            DataError: If the record cannot be read, with its file and line.
        """

    @abstractmethod
    def location(self, index: int) -> str:
        """Return the location of a sample for messages: "file:line".

        Args:
            index: Index of the sample.
        """
