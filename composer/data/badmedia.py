"""What becomes of media that cannot be decoded while training: logged, counted, bounded."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

from composer.atomic import writing
from composer.errors import MediaError, TrainingError
from composer.sample import Sample

log = logging.getLogger(__name__)

GRACE = 300
"""The share of bad samples is taken of at least so many, so that an early accident does not stop a run."""


class BadMedia:
    """The bad media of a training run, counted over all data workers of one process.

    path: a JSON Lines file, appended to: `id`, `source`, `reason`. limit: the largest share of bad samples.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.limit = path, limit
        self._counts = multiprocessing.Array("q", 2)  # samples seen, samples bad

    def count(self, sample: Sample, error: MediaError | None) -> None:
        """One more sample, decoded or not. Warns of the first bad one, raises TrainingError when too many are."""
        with self._counts.get_lock():
            self._counts[0] += 1
            self._counts[1] += error is not None
            seen, bad = self._counts[0], self._counts[1]
        if error is None:
            return
        self._log({"id": sample.id, "source": sample.source, "reason": str(error)})
        if bad > self.limit * max(seen, GRACE):
            raise TrainingError(
                f"{bad} of {seen} samples have media that cannot be decoded, data.max_bad_media allows "
                f"{self.limit:.1%}. The last: {error}. All of them, with reasons: {self.path}"
            )
        if bad == 1:
            log.warning(
                "Sample %r of %s teaches nothing, its medium cannot be decoded: %s. It is the first; all of them are "
                "listed in %s.",
                *(sample.id, sample.source, error, self.path),
            )

    def _log(self, entry: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with writing(self.path):
                os.write(descriptor, line)  # one write: lines of several workers do not mix
        finally:
            os.close(descriptor)
