"""`composer sweep` on a tiny model of first-party parts and files in MLVU's layout."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import composer.inference.answering
from composer.cli import main
from composer.model.checkpoint import header, write_checkpoint
from composer.model.compose import compose
from composer.recipe.resolve import model_config
from tests.composer.cli.light import run as run_light
from tests.plugins.benchmarks.layouts import write_mlvu_dev

MODEL = {
    "encoder": {"name": "openclip", "image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
    "reducer": {"name": "tome", "keep_ratio": 0.5},
    "projector": "mlp",
    "backbone": {"name": "transformer", "width": 16, "depth": 1, "heads": 2, "context_length": 100},
    "prompt": {"tokenizer": "bytes"},
}
MLVU = {
    "benchmark": "mlvu",
    "root": "mlvu",
    "tasks": ["ego", "count"],
    "compat": "official",
    "frames": 2,
    "num_workers": 0,
    "device": "cpu",
    # The prompts do not fit into what the recipe says.
    "model": {"backbone": {"context_length": 2000}},
}
FLAGS = [
    *("--root=mlvu", "--frames=2", '--tasks=["ego", "count"]', "--compat=official", "--num-workers=0", "--device=cpu"),
    "--model.backbone.context_length=2000",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a checkpoint of random weights, so large that pictures change what the model says."""
    config = model_config(MODEL)
    torch.manual_seed(1)
    model = compose(config)
    for parameter in model.parameters():
        parameter.data *= 10
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    about = {
        "composer": header(config, 2, model),
        "hyper_parameters": {"model": config.model_dump(mode="json")},
    }
    folder = tmp_path_factory.mktemp("run")
    write_checkpoint({**about, "state_dict": weights}, folder / "checkpoints/last.ckpt")
    return folder


@pytest.fixture(scope="module")
def mlvu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mlvu_dev(tmp_path_factory.mktemp("mlvu"))


@pytest.fixture
def work(tmp_path: Path, trained: Path, mlvu: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the recipe `tiny.yaml`, which asks two tasks of MLVU, and its trained stage."""
    monkeypatch.chdir(tmp_path)
    Path("mlvu").symlink_to(mlvu)
    Path("runs/tiny").mkdir(parents=True)
    Path("runs/tiny/tiny").symlink_to(trained)
    Path("tiny.yaml").write_text(yaml.safe_dump({"model": MODEL, "evaluation": [MLVU]}, sort_keys=False))
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that `composer sweep` starts; each gives a score that its number and its ratio decide."""
    commands: list[list[str]] = []

    def pretend(words: Sequence[str]) -> int:
        commands.append(list(words))
        write_result(Path(words[-1]), 0.1 * len(commands))
        return 0

    monkeypatch.setattr("composer.runs.sweep.start_process", pretend)
    return commands


def write_result(folder: Path, score: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {"ego": {"n": 2, "accuracy": score}, "count": {"n": 2}}
    result = {"metric": "accuracy", "averages": {"all tasks": score / 2}, "tasks": tasks}
    (folder / "results.json").write_text(json.dumps(result))


def sweep(*arguments: str) -> int:
    return main(["sweep", "tiny.yaml", *arguments])


def rows(folder: str = "runs/tiny/sweep") -> list[dict[str, str]]:
    with Path(folder, "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class TestCells:
    """What is started, with commands that only pretend."""

    def test_a_result_without_a_record_is_not_believed(self, work: Path, started: list[list[str]]) -> None:
        """It may be of another checkpoint; with a record that says nothing of its result it is done again too."""
        folder = Path("runs/tiny/sweep/mlvu/keep-ratio-1.0")
        write_result(folder, 0.9)
        assert sweep("--keep-ratio", "1.0") == 0
        assert len(started) == 1
        assert float(rows()[0]["score"]) == pytest.approx(0.05)
        assert sweep("--keep-ratio", "1.0") == 0
        assert len(started) == 1
        (folder / "results.json").unlink()
        assert sweep("--keep-ratio", "1.0") == 0
        assert len(started) == 2

    def test_commands_are_shown_as_typed(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep("--keep-ratio", "0.1", "1.0", "--order", "none", "descending") == 0
        shown = capsys.readouterr().out.splitlines()
        assert [shlex.split(line)[1:] for line in shown if line.startswith("composer ")] == started
        head = ["evaluate", "runs/tiny/tiny", "mlvu", *FLAGS]
        output = "runs/tiny/sweep/mlvu/keep-ratio-"
        assert started == [
            [*head, "--model.reducer.keep_ratio=0.1", "--model.reducer.order=none", "--output", f"{output}0.1-none"],
            [
                *head,
                "--model.reducer.keep_ratio=0.1",
                "--model.reducer.order=descending",
                "--output",
                f"{output}0.1-descending",
            ],
            [*head, "--model.reducer.keep_ratio=1.0", "--output", f"{output}1.0"],
        ]
        assert f"{output}0.1-descending (cell 2 of 3):" in shown
        assert shown[-2:] == ["runs/tiny/sweep/sweep.csv", "runs/tiny/sweep/mlvu.png"]

    def test_the_defaults_are_tenths_and_the_papers_orders(self, work: Path, started: list[list[str]]) -> None:
        assert sweep() == 0
        assert len(started) == 9 * 3 + 1
        assert [row["order"] for row in rows() if row["keep_ratio"] == "1.0" and row["task"] == "ego"] == [
            *("none", "ascending", "descending")
        ]

    def test_numbers_and_table(self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        assert sweep("--keep-ratio", "0.5", "0.7", "0.9", "1", "--order", "none", "raster") == 0
        read = [row for row in rows() if row["task"] == "ego"]
        assert [(row["benchmark"], row["order"], row["keep_ratio"]) for row in read] == [
            ("mlvu", order, ratio) for ratio in ("0.5", "0.7", "0.9", "1.0") for order in ("none", "raster")
        ]
        assert [float(row["score"]) for row in read] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7])
        assert float(read[0]["share_of_best"]) == pytest.approx(1 / 7)
        assert {row["task"] for row in rows()} == {"all tasks", "ego"}
        table = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
        cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
        assert cells["kept"] == ["none", "raster"]
        assert cells["50%"] == ["5.0 (14.3)", "10.0 (28.6)"]
        assert cells["90% of the best"] == ["kept 100%", "kept 100%"]
        assert cells["80% of the best"] == ["kept 100%", "kept 90%"]

    def test_several_benchmarks_of_an_overlay(self, work: Path, started: list[list[str]]) -> None:
        again = {"evaluation": [MLVU, {**MLVU, "tasks": ["order"]}]}
        Path("twice.yaml").write_text(yaml.safe_dump(again, sort_keys=False))
        asked = ["--overlay", "twice.yaml", "--keep-ratio", "0.5", "--order", "none", "--checkpoint", "runs/tiny/tiny"]
        assert sweep(*asked, "-o", "out") == 0
        assert [words[-1] for words in started] == [
            f"out/sweep/{name}/keep-ratio-0.5-none" for name in ("mlvu", "mlvu-2")
        ]
        assert {row["benchmark"] for row in rows("out/sweep")} == {"mlvu", "mlvu-2"}
        assert Path("out/sweep/mlvu-2.png").is_file()

    def test_what_is_finished_is_not_repeated_and_more_can_be_asked(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep("--keep-ratio", "0.5", "1.0", "--order", "none") == 0
        assert sweep("--keep-ratio", "0.5", "1.0", "--order", "none", "ascending") == 0
        assert [Path(words[-1]).name for words in started] == [
            "keep-ratio-0.5-none",
            "keep-ratio-1.0",
            "keep-ratio-0.5-ascending",
        ]
        assert "runs/tiny/sweep/mlvu/keep-ratio-1.0 (cell 3 of 3) is finished" in capsys.readouterr().out

    def test_cells_of_another_checkpoint_are_refused(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("a.ckpt").write_text("one")
        asked = ["--checkpoint", "a.ckpt", "--keep-ratio", "0.5", "--order", "none"]
        assert sweep(*asked) == 0
        assert started[0][1] == "a.ckpt"
        Path("a.ckpt").write_text("other")
        assert sweep(*asked) == 2
        assert "its recipe has changed:\n  recipe.checkpoint is" in (said := capsys.readouterr().err)
        assert "after moving runs/tiny/sweep away" in said
        assert len(started) == 1

    def test_a_chain_of_reducers_and_a_folder_of_stages(self, work: Path, started: list[list[str]]) -> None:
        model = {**MODEL, "reducer": [MODEL["reducer"], {"name": "pooling", "output": 2}]}
        Path("stages").mkdir()
        for name in ("1-first", "2-second"):
            Path(f"stages/{name}.yaml").write_text(yaml.safe_dump({"model": model}))
            Path(f"runs/stages/{name}").mkdir(parents=True)
            Path(f"runs/stages/{name}/x.ckpt").write_text(name)
        Path("stages/evaluation.yaml").write_text("evaluation: [{benchmark: mlvu, root: x}]\n")
        assert main(["sweep", "stages", "--keep-ratio", "0.5", "--order", "none"]) == 0
        assert started[0][:6] == [
            *("evaluate", "runs/stages/2-second", "mlvu", "--root=x", "--model.reducer.0.keep_ratio=0.5"),
            "--model.reducer.0.order=none",
        ]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--keep-ratio", "0"], "got '0', expected a share above 0 and up to 1"),
            (["--keep-ratio", "0.5", "1.5"], "got '1.5', expected a share above 0"),
            (["--keep-ratio", "nan"], "got 'nan', expected a share above 0"),
            (["--keep-ratio", "half"], "got 'half', expected a share above 0"),
            (["--order", "none", "upward"], "--order: model.reducer.order: got 'upward', expected 'ascending'"),
            (
                ["--overlay", "pooled.yaml"],
                "model.reducer: got pooling, expected one with the options keep_ratio and order",
            ),
            (["--overlay", "fixed.yaml"], "expected one of keep_ratio, r and target_tokens"),
            (["--overlay", "none.yaml"], "tiny.yaml: no benchmark is named, expected evaluation: [{benchmark: NAME}]"),
            (["--output", "absent"], "There is no checkpoint in absent/tiny: train it with `composer run tiny.yaml`"),
            (["--checkpoint", "absent.ckpt"], "There is no checkpoint in absent.ckpt"),
        ],
    )
    def test_what_is_wrong_is_said_before_anything_starts(
        self,
        work: Path,
        started: list[list[str]],
        arguments: list[str],
        said: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path("pooled.yaml").write_text("model: {reducer: pooling}\n")
        Path("fixed.yaml").write_text("model: {reducer: {name: tome, keep_ratio: null, target_tokens: 4}}\n")
        Path("none.yaml").write_text("evaluation: []\n")
        with suppress(SystemExit):
            assert sweep(*arguments) in (1, 2)
        assert said in capsys.readouterr().err
        assert started == []

    def test_a_failing_cell_ends_the_sweep_with_its_status(
        self, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("composer.runs.sweep.start_process", lambda words: 7)
        assert sweep("--keep-ratio", "0.5") == 7
        assert "(cell 1 of 3) ended with status 7: run the same command again to resume" in capsys.readouterr().err
        assert not Path("runs/tiny/sweep/sweep.csv").exists()

    def test_errors_need_no_torch(self, work: Path) -> None:
        ran = run_light("sweep", "tiny.yaml", "--order", "upward", folder=work)
        assert (ran.status, ran.torch) == (2, False)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process, and an untrained model's sixteen bytes of nonsense choose a letter."""
    generate = composer.inference.answering.generate

    def chosen(*args: Any, max_new_tokens: int) -> list[str]:
        return ["ABC"[zlib.crc32(text.encode()) % 3] + ")" for text in generate(*args, max_new_tokens=16)]

    monkeypatch.setattr(composer.inference.answering, "generate", chosen)
    monkeypatch.setattr("composer.runs.sweep.start_process", lambda words: main(list(words)))


def answers(folder: str) -> list[str]:
    """Without the header."""
    return Path(folder, "answers.jsonl").read_text().splitlines()[1:]


def test_numbers_are_those_of_evaluate(work: Path, letters: None) -> None:
    assert sweep("--keep-ratio", "0.2", "1", "--order", "ascending", "descending") == 0
    told = {(row["task"], row["order"], row["keep_ratio"]): float(row["score"]) for row in rows()}
    assert len(told) == 3 * 4
    for ratio in ("0.2", "1.0"):
        for order in ("ascending", "descending"):
            flags = [
                f"--model.reducer.keep_ratio={ratio}",
                f"--model.reducer.order={order}",
                "--output",
                f"{ratio}{order}",
            ]
            assert main(["evaluate", "runs/tiny/tiny", "mlvu", *FLAGS, *flags]) == 0
            alone = json.loads(Path(f"{ratio}{order}/results.json").read_text())
            scores = {task: values["accuracy"] for task, values in alone["tasks"].items()} | alone["averages"]
            assert {task: told[task, order, ratio] for task in scores} == scores
    assert told["ego", "ascending", "0.2"] != told["ego", "descending", "0.2"]
    # With all tokens kept no order changes anything.
    assert answers("1.0ascending") == answers("1.0descending") == answers("runs/tiny/sweep/mlvu/keep-ratio-1.0")
    assert Image.open("runs/tiny/sweep/mlvu.png").size[0] > 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a cell with its sweep")
def test_killed_it_goes_on_and_repeats_nothing(work: Path) -> None:
    command = [sys.executable, "-m", "composer", "sweep", "tiny.yaml", "--keep-ratio", "0.2", "1.0", "--order", "none"]
    folder = Path("runs/tiny/sweep")
    process = subprocess.Popen(command)
    end = time.monotonic() + 300
    # Killed while it asks the second cell.
    while not (folder / "mlvu/keep-ratio-1.0/answers.jsonl").exists() and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in (folder / "mlvu/keep-ratio-0.2-none").iterdir()}
    assert subprocess.run(command, env=os.environ | {"COLUMNS": "200"}).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "mlvu/keep-ratio-0.2-none").iterdir()} == first
    log = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [Path(line["stage"].split()[0]).name for line in log if line["status"] == "finished"] == [
        "keep-ratio-0.2-none",
        "keep-ratio-1.0",
    ]
    # Nothing that an untrained model says is right, and there is no share of a best score of 0.
    assert {(row["score"], row["share_of_best"]) for row in rows()} == {("0.0", "")}


def test_the_commands_of_the_page_are_the_commands_own(work: Path, started: list[list[str]]) -> None:
    """With the tiny recipe and its checkpoint in the place of the page's, and one benchmark."""
    text = (Path(__file__).parents[3] / "docs/evaluation.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines() if "composer sweep" in line]
    assert len(commands) >= 3
    Path("page.yaml").write_text(yaml.safe_dump({"evaluation": [MLVU]}))
    for number, (_, _, _, *words) in enumerate(commands):
        known = ["page.yaml" if word.endswith(".yaml") else word for word in words]
        known = ["runs/tiny" if word.startswith("runs/") else word for word in known]
        assert sweep(*known, "--output", f"out{number}", "--checkpoint", "runs/tiny/tiny") == 0, words
    assert started
