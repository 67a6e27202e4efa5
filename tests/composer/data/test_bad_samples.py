"""Bad samples are logged and bounded."""

import json
from pathlib import Path

import pytest

from composer.data.bad_samples import GRACE, BadSamples
from composer.errors import MediaError, TrainingError

ERROR = MediaError("b.mp4: truncated")


def feed(samples: BadSamples, good: int, bad: int) -> None:
    for _ in range(good):
        samples.good()
    for _ in range(bad):
        samples.bad("s1", "a.jsonl", ERROR)


def test_log(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bad.jsonl"
    feed(BadSamples(path, 0.5), 3, 2)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries == [{"id": "s1", "source": "a.jsonl", "reason": "b.mp4: truncated"}] * 2


def test_the_first_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bad.jsonl"
    feed(BadSamples(path, 0.5), 3, 2)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "'s1' of a.jsonl" in record.getMessage()
    assert f"b.mp4: truncated. This is the first; all ignored samples are listed in {path}." in record.getMessage()


@pytest.mark.parametrize(("good", "allowed"), [(0, 3), (10 * GRACE, 30)])
def test_more_than_the_share_stops_the_run(tmp_path: Path, good: int, allowed: int) -> None:
    bad_samples = BadSamples(tmp_path / "bad.jsonl", 0.01)
    feed(bad_samples, good, allowed)
    with pytest.raises(
        TrainingError, match=r"data\.max_bad_samples allows 1\.0%. The last one: b\.mp4: truncated.*bad\.jsonl"
    ):
        feed(bad_samples, 0, 1)


def test_none_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1 of 1 samples"):
        feed(BadSamples(tmp_path / "bad.jsonl", 0.0), 0, 1)
