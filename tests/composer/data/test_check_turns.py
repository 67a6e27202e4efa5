"""A recipe over every record that a reader or a prompt refuses: each is found by file and line, and training agrees."""

import json
from pathlib import Path
from typing import Any

import pytest

from composer.batch import IGNORE_LABEL
from composer.cli import main
from composer.data.bad_samples import BadSamples
from composer.data.dataset import Conversations
from composer.model.processor import Processor
from composer_plugins.readers.llava import LlavaReader
from composer_plugins.readers.messages import MessagesReader
from tests.composer.data.recipes import talk, write_data, write_lines, write_recipe
from tests.composer.stand_ins import FirstTokens, MeanEncoder, SumBackbone


def turns(*values: str, **more: Any) -> dict[str, Any]:
    """A record whose turns begin with who speaks: "human: Why?"."""
    said = [dict(zip(("from", "value"), value.split(": ", 1), strict=True)) for value in values]
    return {"conversations": said, **more}


def chat(*values: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in values], **more}


ASKED = {"from": "human", "value": "So?"}
LLAVA: list[tuple[dict[str, Any], str | None]] = [
    (talk("good", image="0.png"), None),
    (turns("human: What?", "gpt: <image> red", image="0.png"), "media in a turn of the assistant"),
    (turns("system: <image>", "human: What?", "gpt: red", image="0.png"), "media in a turn of the system"),
    (turns("human: What?", "gpt: a", "human: <image>", image="0.png"), None),
    (turns("gpt: <image>", "human: What?", "gpt: a", image="0.png"), None),
    (talk("images", images=["0.png", "1.png"]), None),
    (talk("path", image_path="0.png"), '"image_path": got media'),
    (talk("Image", Image="0.png"), '"Image": got media'),
    (talk("img", img="0.png"), '"img": got media'),
    (talk("url", image="https://example.com/a.jpg"), "download it first"),
    (talk("audio", image="0.png", audio="a.wav"), "sound is not supported"),
    (talk("question", answer=" "), "no answer to train on"),
    (turns("human: What?"), "no answer to train on"),
    ({"conversations": [{"from": "human", "value": "So?"}, {"from": "gpt", "value": "7", "loss": 0}]}, "no answer"),
    (
        {"conversations": [{"from": "human", "value": "So?"}, {"from": "gpt", "value": "7", "weight": 2}]},
        '"weight": got 2',
    ),
    (turns("human: So?", "robot: 7"), "\"from\": got 'robot'"),
    (turns("human: So?", "bot: 7"), None),
    (talk("gone", image="gone.png"), "no such file"),
]
MESSAGES: list[tuple[dict[str, Any], str | None]] = [
    (chat(("user", "<image>So?"), ("assistant", "7"), images=["0.png"]), None),
    (chat(("user", "So?"), ("assistant", [{"type": "image", "image": "0.png"}])), "no answer to train on"),
    (chat(("user", "So?"), ("assistant", ["7", {"type": "image", "image": "0.png"}])), "in a turn of the assistant"),
    (chat(("user", "So?"), ("assistant", "7"), audios=["a.wav"]), "sound is not supported"),
    (chat(("user", "So?"), ("tool", "7")), "a tool call or a tool result"),
    (chat(("user", [{"type": "image", "path": "gone.png"}]), ("assistant", "7")), "no such file"),
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = write_data(tmp_path / "set")
    for name, records in (("llava", LLAVA), ("messages", MESSAGES)):
        write_lines(tmp_path / f"set/images/{name}.jsonl", [record for record, _ in records])
        data["sources"][name] = {"reader": {"name": name, "path": f"images/{name}.jsonl"}}
    pretty = {"data": [talk("a"), talk("b")]}
    (tmp_path / "set/pretty.json").write_text(json.dumps(pretty, indent=1))
    data["sources"]["pretty"] = {"reader": {"name": "llava", "path": "pretty.json"}}
    header, row = "index,dense_caption", "000000008783_AJp-000114,A hall."
    (tmp_path / "set/clips.csv").write_text(f"{header}\n{row}\n,\n")
    data["sources"]["clips"] = {"reader": {"name": "miradata", "path": "clips.csv", "file": "a.mp4"}}
    return write_recipe(tmp_path / "recipe.yaml", data | {"train": ["llava", "messages", "pretty", "clips"]})


def test_each_is_found_by_file_and_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, report = recipe.parent / "set", recipe.parent / "report.jsonl"
    arguments = ["data", "check", str(recipe), "--num-workers=0", "--decode", "--report", str(report)]
    assert main(arguments) == 1
    found = [json.loads(line) for line in report.read_text().splitlines()]
    expected = [("pretty", "data.sources.pretty", "a JSON object over several lines")]
    for name, records in (("llava", LLAVA), ("messages", MESSAGES)):
        places = [(f"{root}/images/{name}.jsonl:{line}", words) for line, (_, words) in enumerate(records, 1)]
        expected += [(name, place, words) for place, words in places if words is not None]
    expected.append(("clips", f"{root}/clips.csv:3", "expected a caption"))
    assert [(one["source"], one["place"]) for one in found] == [one[:2] for one in expected]
    for one, (_, _, words) in zip(found, expected, strict=True):
        assert words in one["reason"]


def test_training_ignores_what_check_finds_and_learns_from_the_rest(recipe: Path) -> None:
    processor = Processor.of(MeanEncoder(), [FirstTokens(2)], SumBackbone(), "media-first")
    root = recipe.parent / "set/images"
    for reader, records in ((LlavaReader, LLAVA), (MessagesReader, MESSAGES)):
        source = reader(root / f"{'llava' if reader is LlavaReader else 'messages'}.jsonl")
        data = Conversations([source], processor, 2, bad_samples=BadSamples(recipe.parent / "bad.jsonl", 1.0))
        for index, (_, words) in enumerate(records):
            assert bool((data.example(index).labels != IGNORE_LABEL).any()) == (words is None), index


def test_questions_are_rendered_too(tmp_path: Path) -> None:
    """What `test` and `predict` would refuse."""
    asked = [turns("human: So?"), turns("system: <image>", "human: So?", image="0.png")]
    data = write_data(tmp_path / "set")
    write_lines(tmp_path / "set/images/asked.jsonl", asked)
    data["sources"]["asked"] = {"reader": {"name": "llava", "path": "images/asked.jsonl"}}
    recipe = write_recipe(tmp_path / "recipe.yaml", data | {"train": None, "predict": "asked"})
    report = tmp_path / "report.jsonl"
    assert main(["data", "check", str(recipe), "--num-workers=0", "--report", str(report)]) == 1
    (found,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert found["place"] == f"{tmp_path}/set/images/asked.jsonl:2"
    assert "media in a turn of the system" in found["reason"]
