"""Samples to batches, checked by hand counts."""

import pickle

import pytest
import torch

from composer.batch import IGNORE_LABEL, MEDIA_ID, Clip
from composer.errors import ContextLengthError, DataError
from composer.model.processor import Processor, collate
from composer.sample import Media, Message, Sample
from tests.composer.stand_ins import FirstTokens, MeanEncoder, SumBackbone

CLIP = Media("video", "a.mp4")


def processor(context_length: int | None = 512) -> Processor:
    return Processor.of(MeanEncoder(), [FirstTokens(2)], SumBackbone(context_length=context_length), "media-first")


def clip(frames: int, height: int = 8, width: int = 8) -> Clip:
    pixels = torch.randint(0, 255, (frames, 3, height, width), dtype=torch.uint8)
    return Clip(pixels, torch.arange(frames) / 2)


def conversation(sample_id: str = "s1") -> Sample:
    return Sample(
        sample_id,
        "train.jsonl",
        (Message("user", (CLIP, "\nWhich?")), Message("assistant", ("red",))),
        {"question_type": "color"},
    )


def test_media_become_runs_of_the_length_that_the_parts_announce() -> None:
    example = processor().encode(conversation(), [clip(3)])
    text = example.ids.tolist()
    opening = list(b"User: ")
    assert text[:6] == opening
    assert text[6:12] == [MEDIA_ID] * 6  # 3 frames of 2 tokens
    assert example.visual == (6,)
    assert bytes(text[12:]).decode() == "\nWhich?\n\nAssistant: red\n\n"
    said = example.labels != IGNORE_LABEL
    assert bytes(example.labels[said].tolist()).decode() == " red\n\n"
    assert torch.equal(example.labels[said], example.ids[said])
    assert example.question_type == "color"


def test_an_answer_is_kept_apart_from_the_prompt() -> None:
    example = processor().encode(conversation(), [clip(1)], answer=True)
    assert example.answer == "red"
    assert bytes(example.ids[8:].tolist()).decode() == "\nWhich?\n\nAssistant:"
    assert (example.labels == IGNORE_LABEL).all()


def test_errors_name_the_sample_and_the_numbers() -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: sample 's1': got 2 clips, expected 1"):
        processor().encode(conversation(), [clip(1), clip(1)])
    with pytest.raises(ContextLengthError, match=r"sample 's1' is 231 tokens long \(200 visual\).*context is 100"):
        processor(context_length=100).encode(conversation(), [clip(100)])


def test_collate_buckets_frames_by_size_and_pads_right() -> None:
    narrow, wide = clip(2), clip(1, 8, 12)
    examples = [processor().encode(conversation(f"s{i}"), [c]) for i, c in enumerate([narrow, wide, narrow])]
    batch = collate(examples)
    lengths = [len(example.ids) for example in examples]
    assert batch.mask.sum(dim=1).tolist() == lengths
    assert batch.ids.shape == (3, max(lengths))
    assert [tuple(group.pixels.shape) for group in batch.frames] == [(4, 3, 8, 8), (1, 3, 8, 12)]
    assert [group.clip.tolist() for group in batch.frames] == [[0, 0, 2, 2], [1]]
    width = max(lengths)
    places = [[row * width + 6 + token for row in rows for token in range(n)] for rows, n in (((0, 2), 4), ((1,), 2))]
    assert [positions.tolist() for positions in batch.visual] == places  # after "User: "
    said = [(r, t) for r, e in enumerate(examples) for t in range(1, len(e.labels)) if e.labels[t] != IGNORE_LABEL]
    assert batch.predicting.tolist() == [row * width + position - 1 for row, position in said]
    assert batch.ids[1, lengths[1] :].eq(0).all()
    assert batch.labels[1, lengths[1] :].eq(IGNORE_LABEL).all()


def test_text_only_batches_have_no_frames() -> None:
    text = Sample("t", "train.jsonl", (Message("user", ("Hi",)), Message("assistant", ("Hello",))))
    batch = collate([processor().encode(text, [])])
    assert batch.frames == ()
    assert batch.visual == ()


def test_a_processor_travels_to_workers_without_weights() -> None:
    encoder = MeanEncoder()
    encoder.scale = torch.nn.Parameter(torch.ones(1_000_000))
    made = Processor.of(encoder, [FirstTokens(2)], SumBackbone(), "inline")
    assert next(made.encoder.parameters()).is_meta
    assert not encoder.scale.is_meta
    packed = pickle.dumps(made)
    assert len(packed) < 20_000
    assert pickle.loads(packed).shape(8, 12) == made.shape(8, 12)


def test_an_opening_ends_the_prompt() -> None:
    plain, opened = (processor().encode(conversation(), [clip(1)], answer=True, opening=text) for text in ("", "A:("))
    # The stand-in's tokenizer reads bytes and its template is RWKV World's: a space belongs to the answer.
    assert bytes(opened.ids[len(plain.ids) :].tolist()) == b" A:("
    assert opened.answer == "red"


def test_the_expected_answer_is_written_as_it_is_trained_on() -> None:
    turns = Message("user", ("Which?",)), Message("assistant", ("red square.\n\ngreen ring.\n",))
    example = processor().encode(Sample("s", "f", turns), [], answer=True)
    assert example.answer == "red square.\ngreen ring."
    trained = processor().encode(Sample("s", "f", turns), [])
    said = bytes(trained.ids[trained.labels != IGNORE_LABEL].tolist()).decode()
    assert said == f" {example.answer}\n\n"


def test_an_example_may_fill_the_context_exactly() -> None:
    length = len(processor().encode(conversation(), [clip(3)]).ids)
    assert len(processor(context_length=length).encode(conversation(), [clip(3)]).ids) == length
    with pytest.raises(ContextLengthError, match=f"is {length} tokens long"):
        processor(context_length=length - 1).encode(conversation(), [clip(3)])
