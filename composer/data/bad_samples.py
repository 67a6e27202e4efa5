"""Samples that cannot be trained on: logged, counted, bounded."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

from composer.atomic import writing
from composer.errors import DataError, TrainingError

log = logging.getLogger(__name__)

GRACE = 300
"""The share of bad samples is taken of at least this many, so that a few early ones do not stop a run."""


class BadSamples:
    """The bad samples of a training run, counted over all data workers of one process.

    path: a JSON Lines file, appended to: `id`, `source`, `reason`. limit: the largest share of bad samples.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.limit = path, limit
        self._counts = multiprocessing.Array("q", 2)  # samples seen, samples bad

    def good(self) -> None:
        """Count a sample that can be trained on."""
        self._count(bad=False)

    def bad(self, sample_id: str, source: str, error: DataError) -> None:
        """Count and log a sample that cannot; warn of the first. Raises TrainingError if too many cannot."""
        seen, bad = self._count(bad=True)
        self._log({"id": sample_id, "source": source, "reason": str(error)})
        if bad > self.limit * max(seen, GRACE):
            raise TrainingError(
                f"{bad} of {seen} samples cannot be trained on, data.max_bad_samples allows {self.limit:.1%}. "
                f"The last: {error}. All of them, with reasons: {self.path}"
            )
        if bad == 1:
            log.warning(
                "Sample %r of %s is ignored: %s. It is the first; all ignored samples are listed in %s.",
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
                os.write(descriptor, line)  # one write: lines of several workers do not mix
        finally:
            os.close(descriptor)
