"""A recipe's held-out data: what is kept when the process is killed, and what is asked again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import composer.inference.answering
from composer.batch import Batch
from composer.errors import ConfigError, DataError
from composer.evaluation.answers import AnswerFile
from composer.evaluation.heldout import HeldOut, LoadedModel, cast_operations, measure_accuracy, predict_answers
from composer.evaluation.heldout import load_for_answers as load
from composer.evaluation.share import Share
from composer.model.multimodal import MultimodalModel
from composer.reader import Reader
from composer.recipe.resolve import model_config
from composer.sample import Media, Message, Sample
from tests.composer.data.files import write_video
from tests.composer.training.tiny import COLORS, MODEL, only_tiny_components  # noqa: F401

COUNT = 9


class Colors(Reader):
    """Pictures of one color, and the question which. first: the id of the first."""

    def __init__(self, folder: Path, first: int = 0, media: str = "{}.png") -> None:
        self.folder, self.first, self.media = folder, first, media

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        index = range(COUNT)[index]
        name = list(COLORS)[index % 3]
        kind = "video" if self.media.endswith("mp4") else "image"
        question = Message("user", (Media(kind, str(self.folder / self.media.format(index))), "Color?"))  # type: ignore[arg-type]
        turns = (question, Message("assistant", (name,)))
        return Sample(f"s{self.first + index}", "colors", turns, {"question_type": "color"})

    def location(self, index: int) -> str:
        return f"colors:{self.first + index}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(COUNT):
        Image.new("RGB", (8, 8), list(COLORS.values())[index % 3]).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.fixture(scope="module")
def loaded(only_tiny_components: None) -> LoadedModel:  # noqa: F811
    return load(model_config(MODEL), None, torch.device("cpu"), seed=0)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that are answered: right if the colors can be seen, and always "Red " for gray frames."""
    seen: list[Batch] = []

    def oracle(model: MultimodalModel, batch: Batch, **options: Any) -> list[str]:
        assert options == {"max_new_tokens": 32}
        seen.append(batch)
        names = {(255, 0, 0): "red", (0, 255, 0): " GREEN", (0, 0, 255): "blue\n"}
        return [names.get(tuple(pixels[:, 0, 0].tolist()), "Red ") for pixels in batch.frames[0].pixels]

    monkeypatch.setattr(composer.inference.answering, "generate", oracle)
    return seen


def data(folder: Path, **options: Any) -> HeldOut:
    return HeldOut(**{"sources": [Colors(folder)], "frames": 2, "max_new_tokens": 32} | options)


def ids(batches: Sequence[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.sample_ids]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


BOTH = ("normal", "blind")


def test_every_answer_and_the_accuracy(folder: Path, loaded: LoadedModel, batches: list[Batch]) -> None:
    accuracy = measure_accuracy(loaded, data(folder, conditions=BOTH), folder / "run", Share(batch_size=4))
    assert accuracy is not None
    assert [len(batch.sample_ids) for batch in batches] == [4, 4, 1] * 2
    results = json.loads((folder / "run/results.json").read_text())
    expected = {"n": 9, "chance": pytest.approx(1 / 3), "normal": 1.0, "blind": pytest.approx(1 / 3)}
    assert results == {"checkpoint": None, "overall": expected, "question_types": {"color": expected}}
    header, *answers = lines(folder / "run/answers.jsonl")
    assert (header["frames"], header["initial_seed"], header["checkpoint"]) == (2, 0, None)
    assert answers[10] == {
        "id": "s1", "answer": "Red ", "task": "color", "references": ["green"], "condition": "blind"
    }  # fmt: skip


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die in this batch."""
    generate = composer.inference.answering.generate
    calls = 0

    def mortal(*args: Any, **options: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return generate(*args, **options)

    monkeypatch.setattr(composer.inference.answering, "generate", mortal)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_a_killed_run_keeps_its_answers_and_asks_only_the_others(
    folder: Path, loaded: LoadedModel, batches: list[Batch], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    share, asks = Share(batch_size=3), data(folder, conditions=BOTH)
    whole = measure_accuracy(loaded, asks, folder / "whole", share)
    batches.clear()
    with monkeypatch.context() as patch:
        kill_at(batch, patch)
        with pytest.raises(KeyboardInterrupt):
            measure_accuracy(loaded, asks, folder / "run", share)
    assert len(lines(folder / "run/answers.jsonl")) == 1 + 3 * (batch - 1)
    with (folder / "run/answers.jsonl").open("a") as file:
        file.write('{"id": "s1", "ans')
    assert measure_accuracy(loaded, asks, folder / "run", share) == whole
    assert sorted(ids(batches)) == sorted(ids(batches[:6]))
    assert len(batches) == 6
    for name in ("answers.jsonl", "results.json"):
        assert (folder / "run" / name).read_text() == (folder / "whole" / name).read_text()
    assert measure_accuracy(loaded, asks, folder / "run", share) == whole
    assert len(batches) == 6


def test_predictions_resume_too(
    folder: Path, loaded: LoadedModel, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            predict_answers(loaded, data(folder), folder, Share(batch_size=2))
    path = predict_answers(loaded, data(folder), folder, Share(batch_size=2))
    assert path == folder / "predictions.jsonl"
    assert ids(batches) == [f"s{index}" for index in range(COUNT)]
    assert [record["id"] for record in lines(path)[1:]] == ids(batches)
    assert lines(path)[2]["answer"] == " GREEN"


def test_a_condition_can_be_added(folder: Path, loaded: LoadedModel, batches: list[Batch]) -> None:
    measure_accuracy(loaded, data(folder), folder, Share())
    assert measure_accuracy(loaded, data(folder, conditions=BOTH), folder, Share()) is not None
    assert len(batches) == 2 * COUNT
    assert (batches[-1].frames[0].pixels == 128).all()


@pytest.mark.parametrize("changed", ["frames", "max_new_tokens", "data", "model", "weights"])
def test_answers_of_another_run_are_renamed_and_not_mixed_in(
    folder: Path,
    loaded: LoadedModel,
    batches: list[Batch],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: str,
) -> None:
    if changed == "max_new_tokens":
        monkeypatch.setattr(composer.inference.answering, "generate", lambda _, batch, **__: ["red"] * len(batch.ids))
    measure_accuracy(loaded, data(folder), folder, Share())
    before = (folder / "answers.jsonl").read_text()
    other, asks = loaded, data(folder)
    if changed == "data":
        asks = data(folder, sources=[Colors(folder, first=1)])
    elif changed == "model":
        other = load(
            model_config({**MODEL, "backbone": {"name": "tiny-sum", "dim": 8}}), None, torch.device("cpu"), seed=0
        )
    elif changed == "weights":
        other = load(model_config(MODEL), None, torch.device("cpu"), seed=1)
    else:
        asks = data(folder, **{changed: 3})
    measure_accuracy(other, asks, folder, Share())
    assert changed == "max_new_tokens" or len(batches) == 2 * COUNT
    assert len(lines(folder / "answers.jsonl")) == 1 + COUNT
    assert (folder / "answers.replaced-1.jsonl").read_text() == before
    assert "answers.jsonl belongs to a different run (" in capsys.readouterr().err
    measure_accuracy(loaded, data(folder), folder, Share())
    assert (folder / "answers.replaced-2.jsonl").exists()


def test_answers_that_another_run_is_writing_are_left_alone(
    folder: Path, loaded: LoadedModel, batches: list[Batch]
) -> None:
    other = AnswerFile(folder, {"of": "another run"})
    with (
        other,
        other.asking(),
        pytest.raises(DataError, match=r"answers\.jsonl is being written by another run \("),
    ):
        measure_accuracy(loaded, data(folder), folder, Share())
    assert lines(folder / "answers.jsonl") == [{"of": "another run"}]


def test_several_processes_share_the_questions(folder: Path, loaded: LoadedModel, batches: list[Batch]) -> None:
    asks = data(folder, conditions=BOTH)
    alone = measure_accuracy(loaded, asks, folder / "alone", Share())
    batches.clear()
    shares = [Share(rank, 3) for rank in range(3)]
    outcomes = [measure_accuracy(loaded, asks, folder / "run", share) for share in shares]
    assert outcomes == [None, None, alone]
    assert len(batches) == 2 * COUNT
    assert [path.name for path in (folder / "run").glob("answers*")] == ["answers.jsonl"]
    assert (folder / "run/answers.jsonl").read_text() == (folder / "alone/answers.jsonl").read_text()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_picture_that_cannot_be_decoded_stops_no_other_question(
    folder: Path, loaded: LoadedModel, batches: list[Batch], num_workers: int
) -> None:
    whole = (folder / "4.png").read_bytes()
    (folder / "4.png").write_bytes(b"not an image")
    share = Share(batch_size=2, num_workers=num_workers)
    with pytest.raises(DataError) as caught:
        measure_accuracy(loaded, data(folder), folder, share)
    assert str(caught.value).startswith("1 of 9 questions cannot be asked:\n")
    assert "4.png" in str(caught.value)
    assert "(sample 's4' of colors)" in str(caught.value)
    assert str(caught.value).endswith("Fix the media files and rerun: only these questions are asked again")
    assert len(ids(batches)) == COUNT - 1
    assert not (folder / "results.json").exists()
    (folder / "4.png").write_bytes(whole)
    accuracy = measure_accuracy(loaded, data(folder), folder, share)
    assert accuracy is not None
    assert accuracy.overall.accuracy == {"normal": 1.0}
    assert ids(batches)[COUNT - 1 :] == ["s4"]


def test_two_records_of_one_id_are_found_before_the_first_answer(
    folder: Path, loaded: LoadedModel, batches: list[Batch]
) -> None:
    twins = data(folder, sources=[Colors(folder), Colors(folder, first=8)])
    with pytest.raises(DataError, match=r"colors:8: id 's8' is already that of colors:8"):
        measure_accuracy(loaded, twins, folder, Share())
    assert batches == []


def test_conditions_show_the_same_questions(
    folder: Path, loaded: LoadedModel, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(COUNT):
        write_video(folder / f"{index}.mp4", 8)
    conditions = ("normal", "blind", "shuffled")
    videos = data(folder, sources=[Colors(folder, media="{}.mp4")], frames=8, conditions=conditions)
    measure_accuracy(loaded, videos, folder, Share(batch_size=COUNT))
    normal, blind, shuffled = batches
    for batch in batches:
        assert batch.sample_ids == tuple(f"s{index}" for index in range(COUNT))
        assert batch.answers[:3] == ("red", "green", "blue")
    assert (blind.frames[0].pixels == 128).all()
    assert not torch.equal(normal.frames[0].pixels, shuffled.frames[0].pixels)
    assert torch.equal(normal.frames[0].time, shuffled.frames[0].time)


def test_operations_are_cast_as_the_trainer_would() -> None:
    weight = torch.ones(2, 2)
    for precision, expected in ((None, torch.float32), ("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with cast_operations(precision, torch.device("cpu")):
            assert (weight @ weight).dtype == expected
    with pytest.raises(ConfigError, match=r"trainer\.precision: got bf16-true, expected 32-true, bf16-mixed or"):
        cast_operations("bf16-true", torch.device("cpu"))
