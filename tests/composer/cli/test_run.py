"""`composer run`: three stages in turn, each once, whatever happens in between."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from composer.cli import main
from composer.model.checkpoint import model_weights, newest, read_checkpoint
from composer.runs.process import start_process
from tests.composer.cli.light import run as run_light

COMMON = {
    "model": {
        "encoder": {"name": "openclip", "image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
        "reducer": {"name": "tome", "keep_ratio": 0.5},
        "projector": "mlp",
        # RWKV starts with mixers that give nothing, so a frozen random one teaches the projector nothing.
        "backbone": {"name": "transformer", "width": 16, "depth": 1, "heads": 2},
        "prompt": {"tokenizer": "bytes"},
    },
    "training": {"learning_rate": 0.01, "save_every_steps": 1},
    "data": {"train": "data/shapes/stills.jsonl", "batch_size": 2, "num_workers": 0},
    "trainer": {"accelerator": "cpu", "max_steps": 6, "enable_progress_bar": False, "logger": False},
}
TRAINED = {
    "1-align": {"projector"},
    "2-see": {"encoder", "projector"},
    "3-all": {"encoder", "projector", "backbone"},
}
STAGES = list(TRAINED)
Start = Callable[[Sequence[str]], int]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert main(["data", "synthesize", str(folder / "shapes"), "--train=1", "--stills=16", "--heldout=1"]) == 0
    return folder


def make_recipe(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "common.yaml").write_text(yaml.safe_dump(COMMON))
    for name, parts in TRAINED.items():
        stage = {"include": "common.yaml", "training": {"trainable": sorted(parts)}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(stage))


@pytest.fixture
def work(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the recipe `recipes/tiny` and its data."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(data)
    make_recipe(Path("recipes/tiny"))
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that `composer run` starts, none of which does anything but pretend to end well."""
    commands: list[list[str]] = []

    def pretend(words: Sequence[str]) -> int:
        commands.append(list(words))
        if words[0] == "evaluate":
            folder = Path(words[-1])
            folder.mkdir(parents=True)
            (folder / "results.json").write_text("{}")
        return 0

    monkeypatch.setattr("composer.runs.run.start_process", pretend)
    return commands


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("composer.runs.run.start_process", lambda words: main(list(words)))


def run(*arguments: str) -> int:
    return main(["run", "recipes/tiny", *arguments])


def log(output: str = "runs/tiny") -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in Path(output, "run.jsonl").read_text().splitlines()]
    assert all(set(line) >= {"time", "stage", "command", "status"} for line in lines)
    return [(line["stage"], line["status"]) for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = newest(folder)
    assert checkpoint is not None
    return model_weights(read_checkpoint(checkpoint))


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}


def assert_same(one: Path, other: Path) -> None:
    for stage in STAGES:
        assert changed(weights(one / stage), weights(other / stage)) == set()


class TestPlan:
    """What is started, with commands that only pretend."""

    def test_commands_are_shown_as_typed_and_logged(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("o v.yaml").write_text("trainer: {max_steps: 3}\n")
        flags = ["--data.frames", "2", "--model.reducer.keep_ratio=0.25", "--seed_everything=5"]
        assert run(*flags, "--overlay", "o v.yaml", "--output", "out") == 0
        shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("composer ")]
        assert [shlex.split(line)[1:] for line in shown] == started
        assert shown[1] == (
            "composer fit --config recipes/tiny/2-see.yaml --config 'o v.yaml' --training.initial_weights=out/1-align "
            "--ckpt_path last --trainer.default_root_dir=out/2-see --model.reducer.keep_ratio=0.25 --data.frames=2 "
            "--seed_everything=5"
        )
        assert "initial_weights" not in shown[0]
        assert log("out") == [(stage, status) for stage in STAGES for status in ("started", "finished")]

    def test_one_file_is_one_stage(self, work: Path, started: list[list[str]]) -> None:
        assert main(["run", "recipes/tiny/1-align.yaml"]) == 0
        assert [words[-1] for words in started] == ["--trainer.default_root_dir=runs/1-align/1-align"]

    def test_one_stage_needs_the_one_before(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("--stage", "2-see") == 2
        assert "2-see starts from 1-align, which is not finished" in capsys.readouterr().err
        assert run("--stage", "1-align") == run("--stage", "2-see") == 0
        assert [words[2] for words in started] == ["recipes/tiny/1-align.yaml", "recipes/tiny/2-see.yaml"]

    def test_from_sets_aside_and_starts_again(self, work: Path, started: list[list[str]]) -> None:
        assert run() == 0
        started.clear()
        assert run("--from", "2-see") == 0
        assert [words[2] for words in started] == ["recipes/tiny/2-see.yaml", "recipes/tiny/3-all.yaml"]
        assert sorted(path.name for path in Path("runs/tiny").iterdir()) == [
            *("1-align", "2-see", "2-see.replaced-1", "3-all", "3-all.replaced-1", "run.jsonl")
        ]

    def test_a_changed_recipe_is_refused_until_from(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run() == 0
        common = Path("recipes/tiny/common.yaml")
        common.write_text("# a comment changes nothing\n" + common.read_text())
        assert run() == 0
        common.write_text(common.read_text().replace("max_steps: 6", "max_steps: 7"))
        started.clear()
        assert run() == 2
        said = capsys.readouterr().err
        assert "1-align is finished (runs/tiny/1-align/finished.json), but its recipe has changed" in said
        assert "recipe.trainer.max_steps is 7 and not 6" in said
        assert "--from 1-align" in said
        assert run("--from", "1-align") == 0
        assert len(started) == 3

    def test_a_changed_command_is_refused(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run() == 0
        assert run("--data.frames=3") == 2
        assert "its command has changed" in capsys.readouterr().err
        assert len(started) == 3

    def test_a_stage_of_another_run_of_the_one_before_is_refused(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run() == 0
        Path("runs/tiny/1-align").rename("gone")
        started.clear()
        assert run() == 2
        assert "2-see is finished" in (said := capsys.readouterr().err)
        assert "started from a different run of 1-align" in said
        assert started == []

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                ["--stage", "2-sea"],
                "--stage: got '2-sea', expected one of 1-align, 2-see, 3-all; did you mean '2-see'?",
            ),
            (["--from", "4"], "--from: got '4', expected one of"),
            (["--trainer.default_root_dir=x"], "--trainer.default_root_dir: every stage has a folder of its own"),
            (["--training.initial_weights=x"], "--training.initial_weights: a stage starts from the one before"),
            (["--training.learning_rate=-1"], "--training.learning_rate: got -1"),
            (["--model.backbone=rwkv8"], "unknown backbone 'rwkv8'"),
            (["--overlay", "wrong.yaml"], "wrong.yaml:1: evaluation: got 3, expected a list"),
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
        Path("wrong.yaml").write_text("evaluation: 3\n")
        assert run(*arguments) == 2
        assert said in capsys.readouterr().err
        assert started == []

    def test_benchmarks_follow_the_last_stage_once(self, work: Path, started: list[list[str]]) -> None:
        asked = [
            {"benchmark": "mlvu", "root": "a b", "limit": 3},
            {"benchmark": "mlvu", "root": "b", "tasks": ["ego"]},
            {"benchmark": "mlvu", "root": "b", "condition": "blind"},
        ]
        Path("recipes/tiny/evaluation.yaml").write_text(yaml.safe_dump({"evaluation": asked}, sort_keys=False))
        assert run() == 0
        assert [shlex.join(words) for words in started[3:]] == [
            "evaluate runs/tiny/3-all mlvu '--root=a b' --limit=3 --output runs/tiny/evaluation/mlvu",
            """evaluate runs/tiny/3-all mlvu --root=b '--tasks=["ego"]' --output runs/tiny/evaluation/mlvu-2""",
            "evaluate runs/tiny/3-all mlvu --root=b --condition=blind --output runs/tiny/evaluation/mlvu-blind",
        ]
        started.clear()
        assert run() == 0
        assert started == []
        assert run("--from", "evaluation") == 0
        assert len(started) == 3

    def test_an_overlay_replaces_the_benchmarks(
        self, work: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("recipes/tiny/evaluation.yaml").write_text("evaluation: [{benchmark: mlvu, root: x}]\n")
        Path("short.yaml").write_text("evaluation: [{benchmark: mvbench, root: x}]\n")
        assert run("--overlay", "short.yaml") == 0
        assert [words[2] for words in started[3:]] == ["mvbench"]
        Path("recipes/tiny/evaluation.yaml").write_text("evaluation: [{name: mlvu}]\n")
        assert run() == 2
        assert (
            "evaluation.yaml:1: evaluation.0: got {'name': 'mlvu'}, expected a mapping {benchmark"
            in capsys.readouterr().err
        )

    def test_an_overlay_of_benchmarks_alone_is_no_stages_business(self, work: Path, started: list[list[str]]) -> None:
        assert run() == 0
        started.clear()
        Path("asked.yaml").write_text("evaluation: [{benchmark: mvbench, root: x}]\n")
        Path("bench.yaml").write_text("include: asked.yaml\n")
        assert run("--overlay", "bench.yaml", "--from", "evaluation") == 0
        assert [words[:3] for words in started] == [["evaluate", "runs/tiny/3-all", "mvbench"]]
        Path("asked.yaml").write_text("evaluation: []\ntrainer: {max_steps: 7}\n")
        assert run("--overlay", "bench.yaml") == 2

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"benchmark": "mlvuu"}, "unknown benchmark 'mlvuu': did you mean 'mlvu'?"),
            ({"framez": 3}, "evaluation.1.framez: unknown option; did you mean 'frames'?"),
            ({"frames": 0}, "evaluation.1.frames: got 0"),
            ({"tasks": ["ego2"]}, "mlvu (dev).tasks: got ego2"),
            ({"limit": 0}, "evaluation.1.limit: got 0, expected at least 1"),
            ({"condition": "blinded"}, "evaluation.1.condition: got 'blinded', expected 'normal', 'blind'"),
            ({"limt": 1}, "evaluation.1.limt: unknown option; did you mean 'limit'?"),
            (
                {"model": {"reducer": {"keep_ratoi": 0.5}}},
                "keep_ratoi: unknown option; did you mean 'keep_ratio'",
            ),
            ({"num_workers": -1}, "evaluation.1.num_workers: got -1"),
            ({"benchmark": "vdc", "judge": "local", "judge_model": "a/b"}, "judge_revision: a/b is not a local folder"),
        ],
    )
    def test_a_benchmark_that_cannot_be_asked_is_told_before_training(
        self,
        work: Path,
        started: list[list[str]],
        options: dict[str, object],
        said: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        good = {"benchmark": "mlvu", "root": "x"}
        text = "\n".join(["evaluation:", *(f"  - {json.dumps(asked)}" for asked in (good, good | options))])
        Path("recipes/tiny/evaluation.yaml").write_text(text)
        assert run() == 2
        error = capsys.readouterr().err
        assert "evaluation.yaml:3: " in error
        assert said in error
        assert "evaluation.yaml:2" not in error
        assert started == []

    def test_checking_benchmarks_needs_no_torch(self, work: Path) -> None:
        local = {"benchmark": "vdc", "root": "x", "judge": "local", "judge_model": "a/b", "judge_revision": "c"}
        Path("recipes/tiny/evaluation.yaml").write_text(json.dumps({"evaluation": [local]}))
        ran = run_light("run", "recipes/tiny", "--stage", "absent", folder=work)
        assert "--stage: got 'absent'" in ran.err
        assert (ran.status, ran.torch) == (2, False)

    def test_a_failing_stage_stops_the_run_with_its_status(
        self, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("composer.runs.run.start_process", lambda words: 7 * ("recipes/tiny/2-see.yaml" in words))
        assert run() == 7
        assert "composer: 2-see ended with status 7: run the same command" in capsys.readouterr().err
        assert log()[-1] == ("2-see", "failed")
        assert not Path("runs/tiny/2-see/finished.json").exists()


def test_each_stage_trains_its_parts_and_none_is_repeated(
    work: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("none.yaml").write_text("evaluation: []\n")  # `fit` passes over it
    again = ["--overlay", "none.yaml"]
    assert run(*again) == 0
    runs = Path("runs/tiny")
    states = [weights(runs / stage) for stage in STAGES]
    assert changed(states[0], states[1]) == TRAINED["2-see"]
    assert changed(states[1], states[2]) == TRAINED["3-all"]
    files = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    capsys.readouterr()
    assert run(*again) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "finished" in line] == [
        f"{stage} is finished" for stage in STAGES
    ]
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == files

    # Killed between a stage's end and its record, the stage is trained no further.
    (runs / "3-all/finished.json").unlink()
    assert run(*again) == 0
    assert changed(states[2], weights(runs / "3-all")) == set()

    # The first stage starts from the weights that a model of the same seed has.
    first = ["--config", "recipes/tiny/1-align.yaml", "--training.trainable=[backbone]", "--trainer.max_steps=1"]
    assert main(["fit", *first, "--trainer.default_root_dir=first"]) == 0
    assert "encoder" not in changed(weights(Path("first")), states[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a stage with its run")
def test_killed_at_a_random_moment_it_ends_as_if_nothing_had_been(work: Path, in_process: None) -> None:
    assert run("--output=whole") == 0
    moment = random.Random()
    process = subprocess.Popen([sys.executable, "-m", "composer", "run", "recipes/tiny", "--output=killed"])
    checkpoints = Path("killed") / moment.choice(STAGES[:2]) / "checkpoints"
    end = time.monotonic() + 300
    while not list(checkpoints.glob("*.ckpt")) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.002)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    time.sleep(moment.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(_is_gone(int(child)) for child in children)
    done = Path("killed/run.jsonl").read_text().count('"finished"')
    assert done < 3
    assert run("--output=killed") == 0
    assert_same(Path("whole"), Path("killed"))
    assert [stage for stage, status in log("killed") if status == "finished"] == STAGES


def _is_gone(pid: int) -> bool:
    """Whether a process has ended within 10 seconds."""
    for _ in range(1000):
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


class TestProcess:
    def test_the_status_is_the_commands(self) -> None:
        assert start_process(["plugins", "nothing-such"]) == 2

    @pytest.mark.parametrize("thread", ["main", "another"])
    def test_sigterm_is_passed_on(self, thread: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The command is a stand-in that says it is ready, and ends with 9 on SIGTERM, whichever thread got ours."""
        code = (
            "import signal, sys, time, pathlib\n"
            "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
            "pathlib.Path(sys.argv[-1]).touch()\n"
            "time.sleep(60)\n"
        )
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        ready = tmp_path / "ready"
        helper = subprocess.Popen(
            ["sh", "-c", f"while [ ! -e {ready} ]; do sleep 0.05; done; kill -TERM {os.getpid()}"]
        )
        done = threading.Event()
        threading.Thread(target=done.wait, daemon=True).start()
        if thread == "another":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            assert start_process([str(ready)]) == 9
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            done.set()
        helper.wait()
