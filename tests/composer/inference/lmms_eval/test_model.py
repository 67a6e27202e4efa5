"""lmms-eval's own command on a composed checkpoint. `make lmms` runs it, in an environment that has lmms-eval."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from composer.errors import ComposerError, ConfigError, DataError
from composer.inference.ask import ask
from composer.model.checkpoint import locate, model_weights, read_checkpoint, write_checkpoint
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.recipe.overrides import from_flags
from composer.recipe.resolve import resolve
from composer.sample import Media
from tests.composer.data.files import numbered, write_video
from tests.composer.training.real import train

pytestmark = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval has an environment of its own")

# The tiny model was trained with a context of 100, which the prompts do not fit into.
OVERRIDES = ["model.backbone.context_length=2000", "model.reducer.keep_ratio=0.5"]
LENGTH = 12

TASK = """
task: composer_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function pictures.{kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_new_tokens: {length}}}
process_results: !function pictures.right
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""
PICTURES = """
from PIL import Image

def image(doc):
    return [Image.open(doc["file"])]

def video(doc):
    return [doc["file"]]

def segment(doc):
    return [{"type": "video", "path": doc["file"], "video_start": 0.5, "video_end": 0.9}]

def right(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with noise on its weights, so that answers depend on images after two steps of training."""
    path = locate(train(tmp_path_factory.mktemp("run")))
    checkpoint = read_checkpoint(path)
    generator = torch.Generator().manual_seed(0)
    for name, weights in checkpoint["state_dict"].items():
        if name in ("model.encoder.mean", "model.encoder.std"):
            continue
        weights += 0.3 * torch.randn(weights.shape, generator=generator)
    write_checkpoint(checkpoint, path)
    return path.parent


@pytest.fixture(scope="module")
def model(trained: Path) -> MultimodalModel:
    """The checkpoint's model with the overrides, as composer itself loads it."""
    checkpoint = read_checkpoint(trained)
    flags, _ = from_flags([f"--{override}" for override in OVERRIDES], "model")
    made = compose(resolve([], flags=flags, checkpoint=checkpoint["hyper_parameters"]).model)
    made.load_state_dict(model_weights(checkpoint))
    return made.eval()


@pytest.fixture(scope="module")
def expected(model: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Documents of each kind with composer's own answers to them."""
    folder = tmp_path_factory.mktemp("media")
    documents: dict[str, list[dict[str, Any]]] = {"image": [], "video": [], "segment": []}
    for number in range(5):
        picture, video = folder / f"{number}.png", folder / f"{number}.mp4"
        Image.fromarray(numbered(number * 51)).save(picture)
        write_video(video, [numbered(number * 51 + place) for place in range(12)])
        media = {
            "image": Media("image", str(picture)),
            "video": Media("video", str(video)),
            "segment": Media("video", str(video), 0.5, 0.9),
        }
        for kind, medium in media.items():
            answer = "".join(ask(model, "Which?", [medium], frames=3, max_new_tokens=LENGTH)).rstrip()
            documents[kind].append({"file": medium.path, "question": "Which?", "answer": answer})
    assert all(len({document["answer"] for document in found}) > 2 for found in documents.values())
    return documents


def test_the_pages_command_gives_composers_own_answers(
    trained: Path, expected: dict[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tiny checkpoint and local tasks in the place of real ones."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/pictures.py").write_text(PICTURES)
    for kind, documents in expected.items():
        data = tmp_path / f"{kind}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        (tmp_path / f"tasks/{kind}.yaml").write_text(TASK.format(kind=kind, data=data, length=LENGTH))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(trained)
    page = (Path(__file__).parents[4] / "docs/evaluation.md").read_text()
    command, *_ = re.findall(r"^lmms-eval (--model composer .* --log_samples)$", page, re.MULTILINE)
    for written, ours in {
        "frames=16": ",".join(["frames=3", *OVERRIDES]),
        "--tasks mvbench": "--include_path tasks --tasks composer_image,composer_video,composer_segment",
        "--batch_size 4": "--batch_size 2 --device cpu --verbosity DEBUG",
    }.items():
        assert written in command
        command = command.replace(written, ours)
    monkeypatch.chdir(tmp_path)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *command.split()],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for kind, documents in expected.items():
        (file,) = Path("runs/mine/lmms").rglob(f"*samples_composer_{kind}.jsonl")
        samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        assert [sample["filtered_resps"] for sample in samples] == [document["answer"] for document in documents]
    (results,) = Path("runs/mine/lmms").rglob("*results.json")
    found = json.loads(results.read_text())["results"]
    assert {kind: found[f"composer_{kind}"]["right,none"] for kind in expected} == dict.fromkeys(expected, 1.0)
    assert "composer_segment" in done.stdout


def loaded(checkpoint: Path, **options: Any) -> Any:
    """The model as lmms-eval loads it: by its name, with arguments as text."""
    from lmms_eval.models import get_model

    arguments = [f"checkpoint={checkpoint}", "num_workers=0", "frames=3", *OVERRIDES]
    arguments += [f"{name}={value}" for name, value in options.pop("arguments", {}).items()]
    return get_model("composer").create_from_arg_string(",".join(arguments), {"device": "cpu", **options})


def requests(documents: Sequence[dict[str, Any]], kind: str, **generation: Any) -> list[Any]:
    from lmms_eval.api.instance import Instance

    def messages(document: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [{"type": kind, "url": document["file"]}, {"type": "text", "text": document["question"]}]
        return [{"role": "user", "content": parts}]

    def request(number: int) -> Instance:
        about = {"task": "task", "doc_id": number, "repeats": 1}
        given = {"max_new_tokens": LENGTH, "until": ["\n\n"], **generation}
        return Instance("generate_until", ("", messages, given, number, "task", "test"), 0, about)

    return [request(number) for number in range(len(documents))]


def answers(model: Any, documents: Sequence[dict[str, Any]], kind: str, **generation: Any) -> list[str]:
    model.task_dict["task"] = {"test": documents}
    given: list[str] = model.generate_until(requests(documents, kind, **generation))
    return given


def test_an_answer_ends_at_the_first_stop(trained: Path, expected: dict[str, list[dict[str, Any]]]) -> None:
    whole = [document["answer"] for document in expected["image"]]
    stop = next(answer for answer in whole if len(answer) > 4)[2:4]
    cut = answers(loaded(trained), expected["image"], "image", until=["", stop, "never said"])
    assert cut == [answer.partition(stop)[0].rstrip() for answer in whole]
    assert cut != whole
    assert answers(loaded(trained), expected["image"], "image", until=stop) == cut
    assert answers(loaded(trained), expected["image"], "image", until=None) == whole


def test_sampling_and_beams_are_refused_in_words(
    trained: Path, expected: dict[str, list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    whole = [document["answer"] for document in expected["image"]]
    with caplog.at_level(logging.WARNING, "composer"):
        greedy = {"temperature": 0.0, "do_sample": False, "num_beams": 1, "top_p": None}
        assert answers(loaded(trained), expected["image"], "image", **greedy) == whole
        assert not caplog.records
        assert answers(loaded(trained), expected["image"], "image", temperature=0.7, num_beams=3) == whole
    assert [record.getMessage() for record in caplog.records] == [
        "A task asks for {'temperature': 0.7, 'num_beams': 3}; composer decodes greedily."
    ]


def test_without_frames_as_many_as_in_training(trained: Path) -> None:
    from lmms_eval.models import get_model

    assert get_model("composer")(str(trained), device="cpu").frames == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"batch_size": "auto"}, ConfigError, "--batch_size: got 'auto', expected an integer of at least 1"),
        ({"arguments": {"frames": "few"}}, ConfigError, "frames: got 'few', expected an integer"),
        ({"arguments": {"framez": 3}}, ConfigError, "got framez=3, expected checkpoint, frames, num_workers, or an"),
        (
            {"arguments": {"model.reducer.keep_ratio": 7}},
            ConfigError,
            "--model.reducer.keep_ratio: got 7, expected at most 1",
        ),
        ({"arguments": {"checkpoint": "absent"}}, ComposerError, "There is no checkpoint absent"),
    ],
)
def test_options_that_do_not_fit(trained: Path, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("(", r"\(")):
        loaded(trained, **options)


def test_bad_documents_are_named(trained: Path, expected: dict[str, list[dict[str, Any]]]) -> None:
    absent = {**expected["video"][0], "file": "absent.mp4"}
    documents = [expected["video"][0], absent, expected["video"][1], absent]
    for workers in 0, 1:
        model = loaded(trained, arguments={"num_workers": workers})
        named = r".*absent\.mp4: no such file.*\(task \(test\): document {}\)\n"
        match = r"^2 of 4 questions cannot be asked:\n" + named.format(1) + named.format(3)
        with pytest.raises(DataError, match=match):
            answers(model, documents, "video")
    with pytest.raises(DataError, match=r"1 of 1 .*\n  task \(test\): document 0: got audio"):
        answers(loaded(trained), expected["video"][:1], "audio")


def test_other_kinds_of_requests_are_refused(trained: Path, expected: dict[str, list[dict[str, Any]]]) -> None:
    model = loaded(trained)
    asked = requests(expected["image"], "image")
    for kind, said in (("loglikelihood", "likelihoods"), ("generate_until_multi_round", "several rounds")):
        with pytest.raises(NotImplementedError, match=f"Task task asks .*{said}; composer answers generate_until"):
            getattr(model, kind)(asked)
