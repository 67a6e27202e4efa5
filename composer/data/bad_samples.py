"""Logging and counting of samples that cannot be used for training, up to a limit."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

from composer.atomic import writing
from composer.errors import DataError, TrainingError

log = logging.getLogger(__name__)

GRACE = 300
"""Minimum number of samples for the share of bad ones, so that a few early ones do not stop a run."""


class BadSamples:
    """Counter and log of a training run's bad samples, shared by all data workers of a process.

    Args:
        path: JSON Lines file to append to; each line has `id`, `source` and `reason`.
        limit: Largest allowed share of bad samples, from 0 to 1.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.limit = path, limit
        self._counts = multiprocessing.Array("q", 2)  # samples seen, samples bad

    def good(self) -> None:
        """Count a sample that can be used."""
        self._count(bad=False)

    def bad(self, sample_id: str, source: str, error: DataError) -> None:
        """Count and log a sample that cannot be used. Warns about the first one.

        Args:
            sample_id: The sample's ID.
            source: The sample's source, as named in the recipe.
            error: Why it cannot be used.

        Raises:
            TrainingError: If the share of bad samples exceeds the limit.
        """
        seen, bad = self._count(bad=True)
        self._log({"id": sample_id, "source": source, "reason": str(error)})
        if bad > self.limit * max(seen, GRACE):
            raise TrainingError(
                f"{bad} of {seen} samples cannot be used for training, but data.max_bad_samples allows "
                f"{self.limit:.1%}. The last one: {error}. All of them, with reasons, are in {self.path}"
            )
        if bad == 1:
            log.warning(
                "Sample %r of %s is ignored: %s. This is the first; all ignored samples are listed in %s.",
                *(sample_id, source, error, self.path),
            )

    def _count(self, *, bad: bool) -> tuple[int, int]:
        with self._counts.get_lock():
            self._counts[0] += 1
            self._counts[1] += bad
            return self._counts[0], self._counts[1]

    def _log(self, entry: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with writing(self.path):
                os.write(descriptor, line)  # one write, so that lines of several workers do not mix
        finally:
            os.close(descriptor)
