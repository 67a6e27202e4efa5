"""Examples from records: what is learned, what is asked, and what a condition shows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.batch import IGNORE_LABEL, MEDIA_ID
from composer.data.answers import drop_unanswered_turns
from composer.data.bad_samples import BadSamples
from composer.data.dataset import Conversations, show
from composer.data.media.clip import load_clip
from composer.errors import ContextLengthError, DataError, MediaError, TrainingError
from composer.model.processor import Processor, collate
from composer.sample import Media, Message, Sample
from composer.transform import FrameTransform
from composer_plugins.readers.llava import LlavaReader
from tests.composer.data.files import write_video
from tests.composer.stand_ins import FirstTokens, MeanEncoder, SumBackbone

PROCESSOR = Processor.of(MeanEncoder(), [FirstTokens(2)], SumBackbone(), "media-first")


def record(name: str, video: str | None = "a.mp4", answer: str = "Red.") -> dict[str, Any]:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, "question_type": "color"} | ({"video": video} if video else {})


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
    assert asked.question_type == "color"
    assert len(asked.ids) < len(learned.ids)


def test_files_one_after_the_other(source: LlavaReader) -> None:
    data = Conversations([source, source, source], PROCESSOR, 2)
    assert len(data) == 12
    assert [data.sample(i).id for i in range(12)] == ["good", "broken", "gone", "text"] * 3


def test_bad_media_teach_nothing(source: LlavaReader, tmp_path: Path) -> None:
    log = tmp_path / "bad.jsonl"
    data = Conversations([source], PROCESSOR, 4, bad_samples=BadSamples(log, 0.5))
    example = data.example(1)
    assert example.sample_id == "broken"
    assert example.clips == ()
    assert (example.labels == IGNORE_LABEL).all()
    assert example.ids.tolist() == [0]
    data.example(2)
    reasons = [json.loads(line)["reason"] for line in log.read_text().splitlines()]
    assert "broken.mp4: cannot be read as a video" in reasons[0]
    assert "gone.mp4: no such file" in reasons[1]
    batch = collate([data.example(i) for i in range(4)])
    assert batch.sample_ids == ("good", "broken", "gone", "text")


def test_bad_samples_are_bounded(source: LlavaReader, tmp_path: Path) -> None:
    data = Conversations([source], PROCESSOR, 4, bad_samples=BadSamples(tmp_path / "bad.jsonl", 0.01))
    with pytest.raises(TrainingError, match=r"data\.max_bad_samples"):
        [data.example(1) for _ in range(4)]


def test_bad_samples_are_an_error_in_evaluation(source: LlavaReader) -> None:
    with pytest.raises(MediaError, match=r"broken\.mp4: .*\(sample 'broken' of .*a\.jsonl\)"):
        Conversations([source], PROCESSOR, 4, answer=True)[1]


def test_blind_shows_gray_of_the_same_size(tmp_path: Path) -> None:
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
    assert drop_unanswered_turns(Sample("s", "a.jsonl", turns)).messages == turns[:2]
    with pytest.raises(DataError, match=r"a\.jsonl: sample 's' has no assistant turn to train on"):
        drop_unanswered_turns(Sample("s", "a.jsonl", turns[:1]))


def test_an_answer_without_loss_teaches_nothing() -> None:
    turns = (Message("user", ("Q?",)), Message("assistant", ("A.",), loss=False), Message("assistant", (" ",)))
    with pytest.raises(DataError, match="sample 's' has no assistant turn to train on"):
        drop_unanswered_turns(Sample("s", "a.jsonl", turns))
    taught = (*turns, Message("assistant", ("B.",)))
    assert drop_unanswered_turns(Sample("s", "a.jsonl", taught)).messages == taught


def reasons(log: Path) -> list[tuple[str, str, str]]:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [(entry["id"], entry["source"], entry["reason"]) for entry in entries]


def test_bad_records_are_named_by_their_place(tmp_path: Path) -> None:
    path, log = tmp_path / "a.jsonl", tmp_path / "bad.jsonl"
    asked = record("asked", None)
    del asked["conversations"][1]
    path.write_text("\n".join([json.dumps(record("good", None)), "{oops", "", json.dumps(asked)]))
    data = Conversations([LlavaReader(path)], PROCESSOR, 4, bad_samples=BadSamples(log, 0.5))
    made = [data.example(index) for index in range(3)]
    assert [example.sample_id for example in made] == ["good", f"{path}:2", f"{path}:4"]
    assert [bool((example.labels != IGNORE_LABEL).any()) for example in made] == [True, False, False]
    first, second = reasons(log)
    assert first[:2] == (f"{path}:2", str(path))
    assert "not JSON" in first[2]
    assert "no assistant turn to train on" in second[2]
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        Conversations([LlavaReader(path)], PROCESSOR, 4).example(1)


def limited(context: int) -> Processor:
    return replace(PROCESSOR, context_length=context)


def test_what_is_longer_than_the_context(source: LlavaReader, tmp_path: Path) -> None:
    length = len(Conversations([source], PROCESSOR, 4).example(0).ids)
    log = tmp_path / "bad.jsonl"
    short = limited(length - 4)
    skipped = Conversations([source], short, 4, bad_samples=BadSamples(log, 0.5), too_long="skip").example(0)
    assert (skipped.ids.tolist(), skipped.clips) == ([0], ())
    assert reasons(log)[0][0] == "good"
    assert f"is {length} tokens long" in reasons(log)[0][2]
    with pytest.raises(ContextLengthError):
        Conversations([source], short, 4, bad_samples=BadSamples(log, 0.5), too_long="error").example(0)
    with pytest.raises(ContextLengthError):  # an evaluation has no samples to spare
        Conversations([source], limited(5), 4, answer=True).example(0)


@pytest.mark.parametrize("context", [20, 26, 27, 30, 33, 40, 55, 56, 58, 61])
def test_truncation_keeps_media_and_questions(tmp_path: Path, context: int) -> None:
    write_video(tmp_path / "a.mp4", 12)
    turns = [("human", "<video>"), ("gpt", "One."), ("human", "And?"), ("gpt", "Two.")]
    talk = {"id": "t", "video": "a.mp4", "conversations": [{"from": who, "value": text} for who, text in turns]}
    path, log = tmp_path / "a.jsonl", tmp_path / "bad.jsonl"
    path.write_text(json.dumps(talk) + "\n")
    source = LlavaReader(path)
    complete = Conversations([source], PROCESSOR, 4).example(0)
    text = "User: " + "\0" * 8 + "\n\nAssistant: One.\n\nUser: And?\n\nAssistant: Two.\n\n"
    assert "".join(chr(max(i, 0)) for i in complete.ids.tolist()) == text
    learned = [place for start, end in ((26, 33), (55, 62)) for place in range(start, end)]
    assert (complete.labels != IGNORE_LABEL).nonzero().flatten().tolist() == learned
    data = Conversations([source], limited(context), 4, bad_samples=BadSamples(log, 0.5), too_long="truncate-text")
    example = data.example(0)
    end = max((place + 1 for place in learned if place < context), default=0)
    if not end:
        assert example.ids.tolist() == [0]
        assert "tokens long" in reasons(log)[0][2]
        return
    assert torch.equal(example.ids, complete.ids[:end])
    assert torch.equal(example.labels, complete.labels[:end])
    assert len(example.clips) == 1
    assert not log.exists()


def test_a_conversation_whose_media_do_not_fit_is_not_truncated(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 12)
    turns = [("human", "Q?"), ("gpt", "One."), ("human", "<video>"), ("gpt", "Two.")]
    talk = {"id": "t", "video": "a.mp4", "conversations": [{"from": who, "value": text} for who, text in turns]}
    (tmp_path / "a.jsonl").write_text(json.dumps(talk))
    samples = BadSamples(tmp_path / "bad.jsonl", 0.5)
    source = LlavaReader(tmp_path / "a.jsonl")
    data = Conversations([source], limited(35), 4, bad_samples=samples, too_long="truncate-text")
    assert data.example(0).ids.tolist() == [0]
