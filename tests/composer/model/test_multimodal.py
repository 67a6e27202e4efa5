"""The composed model against its own steps written out sample by sample."""

import pytest
import torch
from torch import Tensor

from composer.batch import IGNORE_LABEL, MEDIA_ID, Clip
from composer.errors import ComposeError
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.sample import Media, Message, Sample
from tests.composer.stand_ins import FirstTokens, LinearProjector, MeanEncoder, SumBackbone


def model() -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel(
        MeanEncoder(), [FirstTokens(2, channels=2)], LinearProjector(in_dim=2, out_dim=6), SumBackbone(), "inline"
    )


def clip(frames: int, height: int, width: int, seed: int) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 255, (frames, 3, height, width), dtype=torch.uint8, generator=generator)
    return Clip(pixels, torch.arange(frames).float())


def sample(name: str, media: int) -> Sample:
    clips = tuple(Media("video", f"{name}{i}.mp4") for i in range(media))
    question = tuple(part for c in clips for part in ("see ", c))
    return Sample(name, "train.jsonl", (Message("user", (*question, " so?")), Message("assistant", (name * 2,))))


# Grids alternate between and inside samples, so that bucketing must scatter results back.
SAMPLES = [
    (sample("a", 1), [clip(2, 8, 8, 0)]),
    (sample("b", 3), [clip(1, 8, 12, 1), clip(2, 8, 8, 2), clip(2, 8, 12, 3)]),
    (sample("c", 0), []),
    (sample("d", 2), [clip(1, 8, 8, 4), clip(1, 12, 8, 5)]),
]


def reference(parts: MultimodalModel, ids: Tensor, clips: list[Clip]) -> Tensor:
    """Embeddings of one sample, token by token."""
    tokens = []
    for pixels in (frame for c in clips for frame in c.pixels):
        pooled = torch.nn.functional.avg_pool2d(pixels[None].float(), 4).flatten(2).transpose(1, 2)
        tokens += list(parts.projector((pooled[0] * parts.encoder.scale)[:2, :2]))
    rows = [tokens.pop(0) if i == MEDIA_ID else parts.backbone.embedding.weight[i] for i in ids.tolist()]
    assert not tokens
    return torch.stack(rows)


def test_forward_equals_each_sample_alone_written_out() -> None:
    parts = model()
    examples = [parts.processor.encode(s, clips) for s, clips in SAMPLES]
    out = parts(collate(examples))

    losses, correct = [], 0
    for example, (_, clips) in zip(examples, SAMPLES, strict=True):
        logits = parts.backbone.output(reference(parts, example.ids, clips).cumsum(dim=0))
        for position, label in enumerate(example.labels.tolist()):
            if label != IGNORE_LABEL:
                losses.append(torch.log_softmax(logits[position - 1], dim=0)[label].neg())
                correct += int(logits[position - 1].argmax() == label)
    assert out.targets == len(losses)
    assert out.correct == correct
    torch.testing.assert_close(out.loss, torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


def test_prefill_ends_at_each_rows_last_real_position() -> None:
    parts = model()
    examples = [parts.processor.encode(s, clips, answer=True) for s, clips in SAMPLES]
    hidden, state = parts.prefill(collate(examples))
    for row, (example, (_, clips)) in enumerate(zip(examples, SAMPLES, strict=True)):
        alone = reference(parts, example.ids, clips).sum(dim=0)
        torch.testing.assert_close(hidden[row], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state.total[row], alone, rtol=1e-5, atol=1e-5)


def test_a_batch_without_any_label_has_a_loss_of_zero_and_zero_gradients() -> None:
    parts = model()
    example = parts.processor.encode(*SAMPLES[0])
    blank = example._replace(labels=torch.full_like(example.labels, IGNORE_LABEL))
    out = parts(collate([blank]))
    out.loss.backward()
    assert out.loss == 0
    assert out.targets == 0
    assert all(p.grad is None or not p.grad.any() for p in parts.parameters())


def test_channels_that_shape_does_not_announce_are_refused() -> None:
    parts = model()
    parts.reducers[0].channels = 3
    said = r"\(MeanEncoder, FirstTokens\) gave tokens of 3 channels, expected 2\. A part's `shape` does not match"
    with pytest.raises(ComposeError, match=said):
        parts(collate([parts.processor.encode(s, clips) for s, clips in SAMPLES]))


def test_gradient_reaches_every_part() -> None:
    parts = model()
    parts(collate([parts.processor.encode(s, clips) for s, clips in SAMPLES])).loss.backward()
    for name, part in parts.parts().items():
        assert all(p.grad is not None and p.grad.any() for p in part.parameters()), name
