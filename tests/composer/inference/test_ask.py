"""One question: the sample that is asked, and that its pieces join to the answer that `generate` gives."""

from pathlib import Path

import pytest
import torch

import composer.inference.ask
from composer.batch import Batch
from composer.errors import DataError, MediaError
from composer.inference.ask import ask
from composer.inference.generate import generate
from composer.model.multimodal import MultimodalModel
from composer.sample import Media
from tests.composer.data.files import numbered, write_video
from tests.composer.stand_ins import LinearProjector, MeanEncoder, SumBackbone


def model(context_length: int = 512) -> MultimodalModel:
    torch.manual_seed(0)
    backbone = SumBackbone(context_length=context_length)
    return MultimodalModel(MeanEncoder(), [], LinearProjector(in_dim=3, out_dim=6), backbone, "media-first").eval()


def test_media_come_first_in_their_order_then_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Batch] = []
    monkeypatch.setattr(composer.inference.ask, "stream", lambda _, batch, **__: iter(batches.append(batch) or ["yes"]))
    wide = write_video(tmp_path / "wide.mp4", [numbered(i, 32, 64) for i in range(6)])
    tall = write_video(tmp_path / "tall.mp4", [numbered(i, 64, 32) for i in range(6)])
    parts = model()
    assert list(ask(parts, "So?", [Media("video", str(wide)), Media("video", str(tall))], frames=3)) == ["yes"]
    (batch,) = batches
    assert [tuple(group.pixels.shape) for group in batch.frames] == [(3, 3, 8, 16), (3, 3, 16, 8)]
    text = "".join(chr(i) if i >= 0 else "#" for i in batch.ids[0].tolist())
    assert text == "User: " + "#" * (2 * 3 * 8) + "\nSo?\n\nAssistant:"


def test_pieces_join_to_the_whole_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = model()
    expected: list[str] = []
    stream = composer.inference.ask.stream

    def remembering(model: MultimodalModel, batch: Batch, **options: object):  # type: ignore[no-untyped-def]
        expected.extend(generate(model, batch, **options))
        return stream(model, batch, **options)

    monkeypatch.setattr(composer.inference.ask, "stream", remembering)
    pieces = list(ask(parts, "So?", [], frames=3, max_new_tokens=12))
    assert len(pieces) > 1
    assert ["".join(pieces).rstrip()] == expected


def test_a_missing_file_and_a_full_context_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="absent"):
        list(ask(model(), "So?", [Media("video", str(tmp_path / "absent.mp4"))], frames=3))
    with pytest.raises(DataError, match="context is 10"):
        list(ask(model(10), "So?", [], frames=3))
