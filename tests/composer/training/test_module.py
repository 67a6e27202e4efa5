"""The LightningModule: what it trains, what it reports, what it writes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.utils.data import DataLoader

from composer.data.steps import StepChunks, StepLoader, micro_batches, packed_rows
from composer.errors import CheckpointError, ConfigError, TrainingError
from composer.model.checkpoint import newest
from composer.model.processor import collate
from composer.recipe.resolve import model_config
from composer.training.module import ComposerModule
from tests.composer.host_reads import host_reads
from tests.composer.training.tiny import MODEL, Colors, EndlessOrder, TinyData, module, trainer


def flat(part: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in part.parameters()])


def test_only_the_chosen_parts_change_and_the_others_are_in_evaluation_mode(tmp_path: Path) -> None:
    modes: list[dict[str, bool]] = []
    run = module(trainable=["projector"])
    run.on_train_batch_start = lambda *_: modes.append({n: p.training for n, p in run.model.parts().items()})  # type: ignore[method-assign]
    run.configure_model()
    before = {name: flat(part) for name, part in run.model.parts().items() if name != "reducer"}
    trainer(tmp_path, max_epochs=2).fit(run, TinyData())
    changed = {name for name, weights in before.items() if not torch.equal(weights, flat(run.model.parts()[name]))}
    assert changed == {"projector"}
    frozen = {"encoder": False, "reducer": False, "projector": True, "backbone": False}
    assert modes == [frozen] * 12  # the second epoch comes after a validation


def test_the_table_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = module(trainable=["projector", "backbone"], learning_rates={"backbone": 3e-4})
    trainer(tmp_path, max_steps=1).fit(run, TinyData())
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().err.splitlines() if line.strip()}
    assert rows["encoder"] == ["tiny-mean", "3", "0", "frozen"]
    assert rows["reducer"] == ["-", "0", "0", "-"]
    assert rows["projector"] == ["tiny-linear", "18", "18", "0.02"]
    assert rows["backbone"] == ["tiny-sum", "1,664", "1,664", "0.0003"]
    assert rows["all"] == ["1,685", "1,682"]


def test_it_learns_and_logs(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    run = module(learning_rate=0.05)
    run.on_train_batch_end = lambda *_: seen.append({k: float(v) for k, v in run.trainer.callback_metrics.items()})  # type: ignore[method-assign]
    trainer(tmp_path, max_steps=60).fit(run, TinyData())
    assert {f"train/{n}" for n in ("loss", "token_accuracy", "learning_rate", "gradient_norm")} <= seen[-1].keys()
    assert {"train/samples_per_second", "val/loss", "val/token_accuracy"} <= seen[-1].keys()
    assert seen[-1]["train/loss"] < seen[0]["train/loss"] / 2


def test_validation_is_the_mean_over_tokens(tmp_path: Path) -> None:
    run, data = module(), TinyData()
    (result,) = trainer(tmp_path).validate(run, data, verbose=False)
    losses = targets = correct = 0.0
    for batch in data.val_dataloader():
        with torch.no_grad():
            out = run.model(batch)
        losses, targets, correct = losses + out.loss * out.targets, targets + out.targets, correct + out.correct
    assert result["val/loss"] == pytest.approx(float(losses / targets), rel=1e-5)
    assert result["val/token_accuracy"] == pytest.approx(float(correct / targets), rel=1e-5)


def test_initial_weights_start_a_stage_and_a_resumed_run_keeps_its_own(tmp_path: Path) -> None:
    first = module()
    trainer(tmp_path / "one", max_steps=4).fit(first, TinyData())
    stage = {"trainable": ["projector"], "initial_weights": str(tmp_path / "one")}
    second = module(**stage)
    trainer(tmp_path / "two", max_steps=3).fit(second, TinyData())
    assert torch.equal(flat(first.model.backbone), flat(second.model.backbone))
    assert not torch.equal(flat(first.model.projector), flat(second.model.projector))
    resumed = module(**stage)
    trainer(tmp_path / "two", max_steps=3).fit(resumed, TinyData(), ckpt_path=newest(tmp_path / "two"))
    assert torch.equal(flat(second.model), flat(resumed.model))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=1).fit(module(), TinyData())
    wider = ComposerModule(
        model_config({**MODEL, "backbone": {"name": "tiny-sum", "dim": 8}}), module().training_config
    )
    with pytest.raises(CheckpointError, match=r"(?s)projector: .*\(6, 3\) in the checkpoint, \(8, 3\) in the model"):
        trainer(tmp_path).validate(wider, TinyData(), ckpt_path=newest(tmp_path))


def test_a_run_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"trainer\.max_steps"):
        trainer(tmp_path, max_epochs=-1).fit(module(), TinyData())


class Sharded(DDPStrategy):
    """As Lightning's DeepSpeedStrategy, one of DDP by its class alone."""


@pytest.mark.parametrize("strategy", [Sharded(), ModelParallelStrategy()])
def test_a_strategy_that_cuts_the_model_is_refused(tmp_path: Path, strategy: Strategy) -> None:
    run = module()
    run.trainer = trainer(tmp_path, max_steps=1, devices=1, strategy=strategy)  # a fit would start a process group here
    with pytest.raises(ConfigError, match=rf"trainer\.strategy: got {type(strategy).__name__}, expected auto, ddp"):
        run.setup("fit")


def ddp(folder: Path, world: int) -> None:
    options = {"strategy": "ddp_fork", "devices": world, "use_distributed_sampler": False} if world > 1 else {}
    data = TinyData(batch_size=4 // world)
    trainer(folder, max_steps=6, limit_val_batches=0, **options).fit(module(), data)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Answers differ in length, so the mean of the ranks' means would be another loss."""
    from composer.model.checkpoint import read_checkpoint

    for world in (1, 2):
        ddp(tmp_path / str(world), world)
    one, two = (read_checkpoint(tmp_path / str(world))["state_dict"] for world in (1, 2))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=2e-4, atol=2e-5)


class StepData(TinyData):
    """Every batch of the loader is one optimizer step, cut into micro-batches."""

    def __init__(self, rows: int, max_tokens: int | None) -> None:
        super().__init__(batch_size=8)
        self.rows, self.max_tokens = rows, max_tokens

    def train_dataloader(self) -> Any:
        data = Colors(self.processor, self.size)
        chunks = StepChunks(EndlessOrder(self.size, self), self.batch_size, self.rows)
        per_step = chunks.chunks_per_step
        if self.max_tokens is None:
            return StepLoader(DataLoader(data, batch_sampler=chunks, collate_fn=collate), per_step, micro_batches)
        join = partial(packed_rows, max_tokens=self.max_tokens)
        return StepLoader(DataLoader(data, batch_sampler=chunks, collate_fn=list), per_step, join)


@pytest.mark.parametrize("max_tokens", [None, 90])
def test_a_step_reads_the_device_once_in_the_guard(tmp_path: Path, max_tokens: int | None) -> None:
    data = StepData(3, max_tokens)
    run = module()
    once = trainer(tmp_path, max_steps=5, limit_val_batches=0, gradient_clip_val=1.0, enable_progress_bar=True)
    with host_reads() as reads:
        once.fit(run, data)
    places = (" in training/", " in data/prefetch", " in model/multimodal", " in model/splice")
    in_steps = {place: n for place, n in reads.items() if any(p in place for p in places)}
    assert in_steps.pop("_local_scalar_dense.default in training/saving.py:_save") == 2  # of each checkpoint, not step
    assert in_steps == {"tolist in training/guard.py:on_before_optimizer_step": 5}


@pytest.mark.parametrize(("rows", "max_tokens"), [(3, None), (1, None), (8, 40), (8, 90)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_micro_batches_add_up_to_one_step(tmp_path: Path, rows: int, max_tokens: int | None, accumulate: int) -> None:
    def weights(data: StepData) -> tuple[torch.Tensor, float]:
        run = module()
        once = trainer(tmp_path, max_steps=5, accumulate_grad_batches=accumulate, gradient_clip_val=1.0)
        once.fit(run, data)
        assert data.trained_samples == 5 * 8 * accumulate
        return flat(run.model), float(once.callback_metrics["train/loss"])

    expected, loss = weights(StepData(8, None))
    found, got = weights(StepData(rows, max_tokens))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert got == pytest.approx(loss, rel=1e-5)
