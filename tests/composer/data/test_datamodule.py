"""The data module inside a Lightning trainer: order, resume, conditions, errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from composer.batch import IGNORE_LABEL, Batch
from composer.data.mixture import FIRST_ROUND
from composer.data.sampler import permutation
from composer.errors import CheckpointError, ConfigError, DataError, MediaError, TrainingError
from composer.model.multimodal import MultimodalModel
from tests.composer.data.modules import data_module
from tests.composer.stand_ins import FirstTokens, LinearProjector, MeanEncoder, SumBackbone

SIZE, SEED = 11, 5


class KilledError(Exception):
    """Stands for SIGKILL: nothing is written after it."""


class Recorder(LightningModule):
    """Trains a tiny model and writes down which samples it sees."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        self.kill_at = kill_at
        self.seen: list[str] = []
        self.batches: dict[int, list[Batch]] = {}

    def configure_model(self) -> None:
        self.model = MultimodalModel(MeanEncoder(), [FirstTokens(2)], LinearProjector(in_dim=3, out_dim=6),
                                     SumBackbone(), "media-first")  # fmt: skip

    def training_step(self, batch: Batch) -> torch.Tensor:
        if len(self.seen) == self.kill_at:
            raise KilledError
        self.trainer.datamodule.trained(len(batch.sample_ids))
        self.seen += batch.sample_ids
        self.batches.setdefault(0, []).append(batch)
        return self.model(batch).loss

    def validation_step(self, batch: Batch) -> None:
        self.batches.setdefault(-1, []).append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, "num_sanity_val_steps": 0, **options},
    )


def write_records(path: Path, count: int, video: str | None = None) -> str:
    records = []
    for i in range(count):
        turns = [{"from": "human", "value": f"What is {i}?"}, {"from": "gpt", "value": f"It is {i}."}]
        records.append({"id": str(i), "conversations": turns} | ({"video": video} if video else {}))
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return str(path)


def stream(count: int) -> list[str]:
    return [str(permutation(SEED, k // SIZE, SIZE)[k % SIZE]) for k in range(count)]


def saving(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)


@pytest.mark.parametrize(
    ("num_workers", "kill_at", "options"),
    [
        (0, 3, {"max_epochs": 3}),  # inside the first epoch of 3 batches of 3
        (0, 9, {"max_epochs": 3}),  # between two epochs
        (0, 15, {"max_epochs": 3}),
        (2, 9, {"max_epochs": 3}),
        (2, 15, {"max_epochs": 3}),
        (0, 15, {"max_steps": 8, "max_epochs": -1}),
        (0, 18, {"max_epochs": 4, "accumulate_grad_batches": 2}),
        (0, 15, {"max_epochs": 4, "limit_train_batches": 2}),
        (0, 15, {"max_epochs": 3, "val_check_interval": 2}),
    ],
)
def test_a_killed_run_goes_on_at_the_exact_sample(
    tmp_path: Path, num_workers: int, kill_at: int, options: dict[str, Any]
) -> None:
    path = write_records(tmp_path / "a.jsonl", SIZE)

    def fit(kill: int | None, resume: str | None = None, **more: Any) -> Recorder:
        module = Recorder(kill)
        data = data_module(train=path, validation=path, batch_size=3, num_workers=num_workers, seed=SEED)
        trainer(tmp_path, **options, **more).fit(module, data, ckpt_path=resume)
        return module

    whole = fit(None).seen
    assert whole == stream(len(whole))
    killed, folder = Recorder(kill_at), tmp_path / "checkpoints"
    data = data_module(train=path, validation=path, batch_size=3, num_workers=num_workers, seed=SEED)
    with pytest.raises(KilledError):
        trainer(tmp_path, **options, enable_checkpointing=True, callbacks=[saving(folder)]).fit(killed, data)
    assert killed.seen == whole[:kill_at]
    newest = max(folder.glob("*.ckpt"), key=lambda p: torch.load(p, weights_only=True)["global_step"])
    consumed = torch.load(newest, weights_only=True)["MultimodalDataModule"]["consumed"]
    resumed = fit(None, str(newest)).seen
    assert whole[:consumed] + resumed == whole


def test_other_data_cannot_be_resumed(tmp_path: Path) -> None:
    paths = [write_records(tmp_path / f"{n}.jsonl", n) for n in (6, 8)]
    callbacks = [saving(tmp_path)]
    run = trainer(tmp_path, max_steps=1, enable_checkpointing=True, callbacks=callbacks)
    run.fit(Recorder(), data_module(train=paths[0], batch_size=2, num_workers=0))
    again = trainer(tmp_path, max_steps=2)
    with pytest.raises(CheckpointError, match=r"other data .samples 6, now 8.: resume with the same data"):
        again.fit(
            Recorder(),
            data_module(train=paths[1], batch_size=2, num_workers=0),
            ckpt_path=str(tmp_path / "step=1.ckpt"),
        )


def test_files_are_learned_in_turn(tmp_path: Path) -> None:
    paths = [write_records(tmp_path / "a.jsonl", 4), write_records(tmp_path / "b.jsonl", 6)]
    module = Recorder()
    data = data_module(train=paths, order="in-turn", batch_size=2, num_workers=0, seed=SEED)
    trainer(tmp_path, max_steps=8, max_epochs=-1).fit(module, data)
    passes = [(0, 4), (1, 6), (2, 6)]
    assert module.seen == [str(i) for number, size in passes for i in permutation(SEED, number, size)]


def test_validation_learns_and_a_fit_without_it_runs(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.jsonl", 6)
    module = Recorder()
    data = data_module(train=path, validation=path, batch_size=2, eval_batch_size=4, num_workers=0)
    trainer(tmp_path, max_epochs=1).fit(module, data)
    batches = module.batches[-1]
    assert [len(batch.sample_ids) for batch in batches] == [4, 2]
    assert all((batch.labels != IGNORE_LABEL).any(dim=1).all() for batch in batches)
    alone = Recorder()
    trainer(tmp_path, max_epochs=1).fit(alone, data_module(train=path, batch_size=2, num_workers=0))
    assert -1 not in alone.batches


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_keep_their_class_and_their_words(tmp_path: Path, num_workers: int) -> None:
    path = write_records(tmp_path / "a.jsonl", 3, "gone.mp4")
    module = Recorder()
    with pytest.raises(MediaError) as caught:
        trainer(tmp_path).validate(module, data_module(validation=path, num_workers=num_workers), verbose=False)
    assert str(caught.value).startswith(f"{tmp_path / 'gone.mp4'}: no such file")
    assert "Traceback" not in str(caught.value)
    data = data_module(train=path, num_workers=num_workers, max_bad_samples=0.0)
    with pytest.raises(TrainingError, match=rf"{tmp_path / 'bad_samples.jsonl'}"):
        trainer(tmp_path, max_epochs=1).fit(module, data)
    assert "gone.mp4" in (tmp_path / "bad_samples.jsonl").read_text()


def test_bad_samples_are_counted_over_workers(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.jsonl", 8, "gone.mp4")
    data = data_module(train=path, batch_size=1, num_workers=2)
    with pytest.raises(TrainingError, match=r"[45] of [45] samples cannot be used for training"):
        trainer(tmp_path, max_epochs=1).fit(Recorder(), data)


def test_a_stage_without_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation: got no value"):
        trainer(tmp_path).validate(Recorder(), data_module(num_workers=0), verbose=False)


def test_all_wrong_options_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        data_module(frames=0, batch_size=-1, num_workers=-1, max_bad_samples=2, conditions=["normal", "deaf"])
    keys = ["frames", "batch_size", "num_workers", "max_bad_samples", "conditions.1"]
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [f"data.{key}" for key in keys]
    with pytest.raises(ConfigError, match="expected each condition once"):
        data_module(conditions=["blind", "blind"])


def test_a_step_is_shared_by_the_devices(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.jsonl", SIZE)
    seen: list[list[tuple[str, ...]]] = []

    class Steps(Recorder):
        def training_step(self, batch: Any) -> torch.Tensor:
            seen.append([micro.sample_ids for micro in batch])
            self.trainer.datamodule.trained(sum(len(micro.sample_ids) for micro in batch))
            return self.model(batch[0]).loss

    for options, cut in (({}, [2, 2, 1]), ({"max_tokens": 10_000}, [5])):
        seen.clear()
        data = data_module(train=path, batch_size=2, global_batch_size=5, num_workers=0, seed=SEED, **options)
        trainer(tmp_path, max_steps=3, max_epochs=-1).fit(Steps(), data)
        assert [[len(micro) for micro in step] for step in seen] == [cut] * 3
        assert [name for step in seen for micro in step for name in micro] == stream(15)
    assert data._samples_per_step(5) == 1
    with pytest.raises(ConfigError, match=r"global_batch_size: got 5, expected a multiple of the 2 devices"):
        data._samples_per_step(2)


def test_a_pass_is_as_long_as_claimed(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.jsonl", SIZE)
    sources = {"a": {"reader": {"name": "llava", "path": path}, "repeat": 2}}

    def fit(claim: int) -> list[str]:
        data = data_module(train="a", sources=sources, expected_samples=claim, batch_size=2, num_workers=0)
        module = Recorder()
        trainer(tmp_path, max_steps=1).fit(module, data)
        return module.seen

    assert len(fit(2 * SIZE)) == 2
    with pytest.raises(DataError, match=r"got 22 samples per pass, expected 20 .*: a 22"):
        fit(20)


def llava(path: str, **options: Any) -> dict[str, Any]:
    return {"reader": {"name": "llava", "path": path}, **options}


def test_sources_are_repeated(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", 4)
    write_records(tmp_path / "b.jsonl", 6)
    sources = {"a": llava("a.jsonl", repeat=2), "b": llava("b.jsonl")}
    entries: list[str | dict[str, Any]] = ["a", {"source": "b", "repeat": 0.5}]
    options: dict[str, Any] = {"sources": sources, "root": str(tmp_path), "batch_size": 11, "num_workers": 0}
    module, data = Recorder(), data_module(train=entries, validation="b", seed=SEED, **options)
    callbacks = [saving(tmp_path)]
    trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=callbacks).fit(module, data)
    part = permutation(SEED, FIRST_ROUND + 1, 6)[:3].tolist()
    records = [*range(4), *range(4), *part]
    assert module.seen == [str(records[k]) for k in permutation(SEED, 0, 11)]
    assert sum(len(batch.sample_ids) for batch in module.batches[-1]) == 6  # validation repeats nothing
    assert data.state_dict() == {"consumed": 11, "seed": SEED, "samples": 11, "order": "mixed"}
    again = data_module(train=["a", "b"], seed=SEED, **options)
    with pytest.raises(CheckpointError, match="samples 11, now 14"):
        trainer(tmp_path, max_epochs=2).fit(Recorder(), again, ckpt_path=str(tmp_path / "step=1.ckpt"))


def test_repeated_sources_in_turn(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", 4)
    sources = {"a": llava("a.jsonl"), "twice": llava("a.jsonl", repeat=2)}
    data = data_module(
        train=["a", "twice"], sources=sources, root=str(tmp_path), order="in-turn", batch_size=2, num_workers=0, seed=3
    )
    module = Recorder()
    trainer(tmp_path, max_steps=10, max_epochs=-1).fit(module, data)
    passes = [(0, 4), (1, 8), (2, 8)]
    assert module.seen == [str(i % 4) for number, size in passes for i in permutation(3, number, size)]


@pytest.mark.parametrize(("expected", "wrong"), [(300, False), (302, False), (304, True), (200, True)])
def test_a_source_of_another_size(tmp_path: Path, expected: int, wrong: bool) -> None:
    path = write_records(tmp_path / "a.jsonl", 300)
    data = data_module(validation="a", sources={"a": llava(path, samples=expected)})
    said = rf"source 'a': got 300 samples, expected {expected}"
    if wrong:
        with pytest.raises(DataError, match=rf"{said} to within 1% in .*a\.jsonl: .*data\.sources\.a\.samples"):
            data.setup("validate")
    elif expected == 300:
        data.setup("validate")
    else:
        with pytest.warns(UserWarning, match=said):
            data.setup("validate")


MANY_BATCHES = """
import resource

import torch

from composer.batch import Example
from composer.model.processor import collate
from composer.data.datamodule import MultimodalDataModule
from composer.recipe.data import DataConfig

resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
data = [Example(str(n), torch.full((4,), n), torch.full((4,), n), ()) for n in range(96)]
module = MultimodalDataModule(DataConfig(num_workers=1))
loader = module._loader(data, batch_size=1, collate_fn=lambda one: collate(one))
print(*(batch.sample_ids[0] for batch in list(loader)))
"""


def test_more_tensors_in_a_step_than_files_that_may_be_open(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY_BATCHES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.stdout.split() == [str(n) for n in range(96)], done.stderr
