"""Random access to the rows of a parquet file. Needs pyarrow.

A row is read with its row group, the smallest unit that can be read; the last group is cached.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from composer.errors import DataError, PluginError

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    raise PluginError(
        "parquet files need pyarrow, which is not installed: pip install 'multimodal-composer[parquet]'"
    ) from None


class ParquetRecords:
    """The rows of a parquet file as mappings from column to value. Only the row groups' ends are kept in memory.

    Args:
        path: The file.

    Raises:
        DataError: If the file or a row cannot be read, or the file is empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._modified = self.path.stat().st_mtime_ns
            metadata = parquet.read_metadata(self.path)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: cannot read the parquet file: {error}") from None
        self._ends = np.cumsum([metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)], dtype=np.int64)
        if not len(self):
            raise DataError(f"{path}: got no rows, expected at least one")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict[str, object]:
        index = range(len(self))[index]
        group = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        try:
            return _row_group(self.path, self._modified, group).slice(index - first, 1).to_pylist()[0]
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.location(index)}: cannot read this row: {error}") from None

    def location(self, index: int) -> str:
        """Return the file and the number (from 1) of a row."""
        return f"{self.path}: row {index + 1}"


@lru_cache(maxsize=1)
def _row_group(path: Path, modified: int, number: int) -> "pyarrow.Table":
    """Row group of a file, read in one thread: data workers are processes. A process caches one group of all files."""
    with parquet.ParquetFile(path, memory_map=True) as file:
        return file.read_row_group(number, use_threads=False)
