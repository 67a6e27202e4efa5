"""Examples from records: what is learned, what is asked, and what a condition shows."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.batch import IGNORE_LABEL, MEDIA_ID
from composer.data.badmedia import BadMedia
from composer.data.dataset import Conversations, answered, show
from composer.data.media import load_clip
from composer.errors import DataError, MediaError, TrainingError
from composer.processor import Processor, collate
from composer.sample import Media, Message, Sample
from composer.transform import FrameTransform
from composer_plugins.readers.llava import LlavaReader
from tests.composer.data.files import write_video
from tests.composer.stand_ins import FirstTokens, MeanEncoder, SumBackbone

PROCESSOR = Processor.of(MeanEncoder(), [FirstTokens(2)], SumBackbone(), "media-first")


def record(name: str, video: str | None = "a.mp4", answer: str = "Red.") -> dict[str, Any]:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, "question_type": "colour"} | ({"video": video} if video else {})


@pytest.fixture
def source(tmp_path: Path) -> LlavaReader:
    write_video(tmp_path / "a.mp4", 12)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    records = [record("good"), record("broken", "broken.mp4"), record("gone", "gone.mp4"), record("text", None)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return LlavaReader(path)


def test_learning_and_asking(source: LlavaReader) -> None:
    learned = Conversations([source], PROCESSOR, 4).example(0)
    assert (learned.ids == MEDIA_ID).sum() == 4 * 2
    said = learned.labels[learned.labels != IGNORE_LABEL].tolist()
    assert "".join(map(chr, said)) == " Red.\n\n"
    asked = Conversations([source], PROCESSOR, 4, answer=True).example(0)
    assert asked.answer == "Red."
    assert asked.question_type == "colour"
    assert len(asked.ids) < len(learned.ids)


def test_files_one_after_the_other(source: LlavaReader) -> None:
    data = Conversations([source, source, source], PROCESSOR, 2)
    assert len(data) == 12
    assert [data.sample(i).id for i in range(12)] == ["good", "broken", "gone", "text"] * 3


def test_bad_media_keep_their_text_and_teach_nothing(source: LlavaReader, tmp_path: Path) -> None:
    log = tmp_path / "bad.jsonl"
    data = Conversations([source], PROCESSOR, 4, bad_media=BadMedia(log, 0.5))
    example = data.example(1)
    assert example.sample_id == "broken"
    assert example.clips == ()
    assert (example.labels == IGNORE_LABEL).all()
    assert torch.equal(example.ids, data.example(3).ids)  # the same text without media
    data.example(2)
    reasons = [json.loads(line)["reason"] for line in log.read_text().splitlines()]
    assert "broken.mp4: cannot be read as a video" in reasons[0]
    assert "gone.mp4: no such file" in reasons[1]
    batch = collate([data.example(i) for i in range(4)])
    assert batch.sample_ids == ("good", "broken", "gone", "text")


def test_bad_media_are_bounded(source: LlavaReader, tmp_path: Path) -> None:
    data = Conversations([source], PROCESSOR, 4, bad_media=BadMedia(tmp_path / "bad.jsonl", 0.01))
    with pytest.raises(TrainingError, match=r"data\.max_bad_media"):
        [data.example(1) for _ in range(4)]


def test_bad_media_are_an_error_in_evaluation(source: LlavaReader) -> None:
    with pytest.raises(MediaError, match=r"broken\.mp4: .*\(sample 'broken' of .*a\.jsonl\)"):
        Conversations([source], PROCESSOR, 4, answer=True)[1]


def test_blind_shows_grey_of_the_same_size(tmp_path: Path) -> None:
    clip = load_clip(Media("video", str(write_video(tmp_path / "a.mp4", 8))), FrameTransform(32, 8), 8)
    blind = show(clip, "blind", "x")
    assert blind.pixels.shape == clip.pixels.shape
    assert (blind.pixels == 128).all()
    assert torch.equal(blind.time, clip.time)
    assert show(clip, "normal", "x") is clip


def test_shuffled_moves_frames_and_keeps_times(tmp_path: Path) -> None:
    clip = load_clip(Media("video", str(write_video(tmp_path / "a.mp4", 8))), FrameTransform(32, 8), 8)
    orders = set()
    for key in "abcdefgh":
        shuffled = show(clip, "shuffled", key)
        assert torch.equal(shuffled.time, clip.time)
        assert torch.equal(shuffled.pixels, show(clip, "shuffled", key).pixels)
        order = tuple(int((clip.pixels == frame).flatten(1).all(1).nonzero()[0]) for frame in shuffled.pixels)
        assert sorted(order) == list(range(8))
        orders.add(order)
    assert len(orders) > 6


def test_conditions_reach_the_example(source: LlavaReader) -> None:
    normal, blind = (Conversations([source], PROCESSOR, 4, answer=True, condition=c)[0] for c in ("normal", "blind"))
    assert torch.equal(normal.ids, blind.ids)
    assert not torch.equal(normal.clips[0].pixels, blind.clips[0].pixels)


def test_trailing_questions_teach_nothing() -> None:
    turns = tuple(Message(role, (role,)) for role in ("user", "assistant", "user"))  # type: ignore[arg-type]
    assert answered(Sample("s", "a.jsonl", turns)).messages == turns[:2]
    with pytest.raises(DataError, match=r"a\.jsonl: sample 's' has no gpt turn to learn from"):
        answered(Sample("s", "a.jsonl", turns[:1]))
