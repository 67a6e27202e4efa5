"""Reader of packed sources, written by `composer data pack`."""

from pathlib import Path

from composer.reader import Reader
from composer.sample import Sample
from composer.shards import Shards


class PackedReader(Reader):
    """The samples of one packed source, identical to those of the original reader and in the same order.

    Args:
        path: Folder of the packed source.
    """

    def __init__(self, path: str | Path) -> None:
        self.shards = Shards(Path(path))

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        return self.shards[index]

    def location(self, index: int) -> str:
        """Return the tar file and the member of a sample's record."""
        return self.shards.location(index)
