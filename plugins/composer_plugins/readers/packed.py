"""What `composer data pack` wrote: the samples of another reader, with their media in tar files."""

from pathlib import Path

from composer.reader import Reader
from composer.sample import Sample
from composer.shards import Shards


class PackedReader(Reader):
    """The samples of one packed source: those of the reader that it was packed with, in their order."""

    def __init__(self, path: str | Path) -> None:
        self.shards = Shards(Path(path))

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        return self.shards[index]

    def location(self, index: int) -> str:
        """The tar and the member."""
        return self.shards.location(index)
