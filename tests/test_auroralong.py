"""The whole of recipes/auroralong at the size of tiny.yaml: real layouts, three stages, two benchmarks, and kills."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from composer.cli import main
from composer.data.open_sources import open_sources
from composer.model.checkpoint import model_weights, newest, read_checkpoint
from composer.recipe.data import data_config
from composer.recipe.stages import stages_of
from composer.recipe.yamlfile import Located, Origin, load_recipes, located, merged

ROOT = Path(__file__).parent.parent
RECIPE = "recipes/auroralong"
OVERLAY = f"{RECIPE}/tiny.yaml"
TRAINED = {
    "1-pretrain": {"projector"},
    "2-vision": {"encoder", "projector"},
    "3-language": {"encoder", "projector", "backbone"},
}
OFTEN = "--training.save_every_steps=2"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the recipes and the tiny data."""
    folder = tmp_path_factory.mktemp("auroralong")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    subprocess.run([sys.executable, f"{RECIPE}/tiny_data.py", "--questions=1"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def whole(work: Path) -> Path:
    """A run that nothing interrupted."""
    assert start(work, "-o", "runs/whole").wait() == 0
    return work / "runs/whole"


def start(work: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    words = ["run", RECIPE, "--overlay", OVERLAY, OFTEN, "--trainer.enable_progress_bar=false", *arguments]
    return subprocess.Popen([sys.executable, "-m", "composer", *words], cwd=work, stdout=subprocess.DEVNULL)


def weights(path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    return model_weights(read_checkpoint(path))


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts of which a bit is another one."""
    assert before.keys() == after.keys()
    return {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}


def sections(stage: str, key: str) -> Located:
    found = located({}, Origin("test"))
    for file in load_recipes([ROOT / RECIPE / f"{stage}.yaml", ROOT / OVERLAY]):
        found = merged(found, file.value[key]) if key in file.value else found
    return found


@pytest.mark.parametrize("stage", TRAINED)
def test_every_source_of_a_stage_is_read_in_its_own_layout(
    stage: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    sources = data_config(sections(stage, "data")).sources_of("train")
    for source, reader in zip(sources, open_sources(sources), strict=True):
        assert len(reader) == source.samples
        samples = [reader[index] for index in range(len(reader))]
        assert all(sample.messages[-1].role == "assistant" for sample in samples)
        kinds = {media.kind for sample in samples for media in sample.media}
        video = any(word in source.name for word in ("video", "hound", "miradata"))
        assert kinds == (set() if source.name == "evol-instruct" else {"video"} if video else {"image"}), source.name


def test_the_overlay_shrinks_widths_depths_and_data_and_nothing_else() -> None:
    text = yaml.safe_load((ROOT / OVERLAY).read_text())
    catalog = yaml.safe_load((ROOT / RECIPE / "data.yaml").read_text())["data"]["sources"]
    assert set(text) == {"model", "data", "trainer", "evaluation"}
    assert text["trainer"] == {"accelerator": "cpu"}
    assert set(text["model"]) == {"encoder", "backbone", "prompt"}
    assert text["model"]["backbone"]["name"] == "rwkv6"
    assert "context_length" not in text["model"]["backbone"]
    assert set(text["data"]) == {
        *("root", "frames", "global_batch_size", "batch_size", "num_workers", "expected_samples", "sources")
    }
    assert text["data"]["sources"].keys() == catalog.keys()
    for name, source in text["data"]["sources"].items():
        assert source == {"samples": max(round(catalog[name]["samples"] / 10000), 1)}, name


def test_the_stages_are_trained_in_bf16_here_as_on_a_gpu() -> None:
    """So the run of the next test trains all three in it."""
    assert {sections(stage, "trainer").value["precision"].value for stage in TRAINED} == {"bf16-mixed"}


def test_three_stages_and_two_benchmarks(work: Path, whole: Path) -> None:
    assert [stage.name for stage in stages_of(ROOT / RECIPE)] == list(TRAINED)
    log = [json.loads(line) for line in (whole / "run.jsonl").read_text().splitlines()]
    finished = [line["stage"] for line in log if line["status"] == "finished"]
    assert finished == [*TRAINED, "evaluation/mvbench", "evaluation/mlvu"]
    previous = None
    for stage, trained in TRAINED.items():
        last = newest(whole / stage)
        after = weights(last)
        if previous is not None:
            assert changed(previous, after) == trained, stage
        # The newest but one, of the same stage: what is frozen is so within a stage too.
        earlier = [path for path in sorted((whole / stage / "checkpoints").glob("*.ckpt")) if path != last]
        assert changed(weights(earlier[0]), after) <= trained
        previous = after
    pretrained = torch.load(work / "data/auroralong-tiny/rwkv6.pth", weights_only=True)
    frozen = weights(newest(whole / "2-vision"))
    for name, value in pretrained.items():
        assert torch.equal(frozen[f"backbone.model.{name}"], value), name
    for benchmark, tasks in (("mvbench", 20), ("mlvu", 7)):
        results = json.loads((whole / "evaluation" / benchmark / "results.json").read_text())
        assert len(results["tasks"]) == tasks


def test_killed_and_started_again_it_ends_with_the_same_bits(work: Path, whole: Path) -> None:
    """SIGKILL once in each stage and once among the answers, each time a moment after something was written."""
    run, rng = work / "runs/killed", random.Random(0)
    for written in (
        *(wait_for(lambda stage=stage: newest(run / stage)) for stage in TRAINED),  # type: ignore[misc]
        wait_for(lambda: [p for p in run.rglob("answers.jsonl") if len(p.read_bytes().splitlines()) > 3]),
    ):
        process = start(work, "-o", "runs/killed")
        for _ in written:
            assert process.poll() is None, "ended before it was killed"
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
    assert start(work, "-o", "runs/killed").wait() == 0
    for stage in TRAINED:
        assert changed(weights(newest(whole / stage)), weights(newest(run / stage))) == set()
    for path in (whole / "evaluation").rglob("results.json"):
        same = json.loads((run / path.relative_to(whole)).read_text())
        assert same["tasks"] == json.loads(path.read_text())["tasks"]


def wait_for(written: Callable[[], object]) -> Iterator[None]:
    """Ends as soon as `written()` is true."""
    end = time.monotonic() + 300
    while not written():
        assert time.monotonic() < end, "nothing was written in five minutes"
        yield
        time.sleep(0.02)


def test_a_transformer_goes_through_the_same_stages(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the overlay from which the tiny model learns, but a few videos and steps."""
    learn = f"{RECIPE}/tiny-learn.yaml"
    few = {name: {"samples": 4} for name in yaml.safe_load((ROOT / learn).read_text())["data"]["sources"]}
    (work / "few.yaml").write_text(yaml.safe_dump({"include": [learn], "data": {"sources": few}}))
    subprocess.run([sys.executable, f"{RECIPE}/tiny_data.py", "few.yaml", "--questions=1"], cwd=work, check=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr("composer.runs.run.start_process", lambda words: main(list(words)))
    flags = ["--model.backbone=transformer", "--trainer.max_steps=3", "--trainer.enable_progress_bar=false"]
    flags += ["--data.num_workers=0", OFTEN, "-o", "runs/transformer"]
    assert main(["run", RECIPE, "--overlay", "few.yaml", *flags]) == 0
    previous = None
    for stage, trained in TRAINED.items():
        checkpoint = newest(work / "runs/transformer" / stage)
        assert checkpoint is not None
        assert read_checkpoint(checkpoint)["hyper_parameters"]["model"]["backbone"]["name"].endswith("/transformer")
        after = weights(checkpoint)
        if previous is not None:
            assert changed(previous, after) == trained
        previous = after
    for condition in ("mlvu", "mlvu-blind", "mlvu-shuffled"):
        results = json.loads((work / "runs/transformer/evaluation" / condition / "results.json").read_text())
        assert results["questions"] == 7
