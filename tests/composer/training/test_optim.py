"""The learning rate's schedule in closed form, and the optimizer's groups."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from composer.model.multimodal import MultimodalModel
from composer.parameters import ParameterGroup
from composer.recipe.training import TrainingConfig
from composer.training.optim import RecipeAdamW, WarmupCosine, learning_rate_factor, parameter_groups
from tests.composer.stand_ins import LinearProjector, MeanEncoder, SumBackbone


class RecurrentBackbone(SumBackbone):
    """Wants its embedding to learn at twice the rate, without decay."""

    def parameter_groups(self) -> list[ParameterGroup]:
        embedding = {"params": [self.embedding.weight], "lr_scale": 2.0, "weight_decay": 0.0}
        return [embedding, {"params": list(self.output.parameters())}]


def model() -> MultimodalModel:
    return MultimodalModel(MeanEncoder(), [], LinearProjector(in_dim=3, out_dim=6), RecurrentBackbone(), "inline")


def test_schedule_equals_torchs_linear_then_cosine() -> None:
    config = TrainingConfig(learning_rate=0.5, warmup_ratio=0.1, warmup_start_factor=0.01, min_lr_ratio=0.2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    rise = LinearLR(optimizer, start_factor=0.01, total_iters=10)
    fall = CosineAnnealingLR(optimizer, T_max=90, eta_min=0.1)
    reference = SequentialLR(optimizer, [rise, fall], milestones=[10])
    for step in range(100):
        assert 0.5 * learning_rate_factor(step, 100, config) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-5)
        optimizer.step()
        reference.step()
    assert learning_rate_factor(100, 100, config) == learning_rate_factor(1000, 100, config) == 0.2


def test_each_trainable_parameter_is_in_one_group_with_its_parts_rate() -> None:
    parts = model()
    parts.encoder.requires_grad_(False)
    config = TrainingConfig(learning_rate=0.1, learning_rates={"backbone": 0.3}, weight_decay=0.05)
    groups = parameter_groups(parts, config)
    found = {id(p): (g["name"], g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(found)
    named = {name: found[id(p)] for name, p in parts.named_parameters() if id(p) in found}
    assert named == {
        "projector.linear.weight": ("projector", 0.1, 0.05),
        "backbone.embedding.weight": ("backbone", 0.6, 0.0),
        "backbone.output.weight": ("backbone", 0.3, 0.05),
        "backbone.output.bias": ("backbone", 0.3, 0.05),
    }


def test_a_checkpoint_restores_moments_and_step_and_the_recipe_gives_the_rest() -> None:
    weight = torch.nn.Parameter(torch.ones(3))

    def optimizer(rate: float, decay: float) -> tuple[RecipeAdamW, WarmupCosine]:
        groups = [{"name": "projector", "params": [weight], "lr": rate, "weight_decay": decay}]
        made = RecipeAdamW(groups)
        return made, WarmupCosine(made, 10, TrainingConfig(warmup_ratio=0))

    before, schedule = optimizer(0.1, 0.0)
    for _ in range(4):
        weight.grad = torch.ones(3)
        before.step()
        schedule.step()
    after, resumed = optimizer(0.2, 0.5)
    after.load_state_dict(before.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    group = after.param_groups[0]
    assert group["weight_decay"] == 0.5
    assert group["lr"] == pytest.approx(2 * before.param_groups[0]["lr"])
    resumed.step()
    schedule.step()
    assert group["lr"] == pytest.approx(2 * before.param_groups[0]["lr"])
    for key, value in before.state[weight].items():
        assert torch.equal(after.state[weight][key], value)


def test_lightning_steps_the_schedule_once_an_optimizer_step(tmp_path, monkeypatch) -> None:
    from tests.composer.training.tiny import TinyData, module, trainer

    rates: list[float] = []
    runner: Trainer = trainer(tmp_path, max_steps=8, accumulate_grad_batches=2)
    run = module(learning_rate=0.1, warmup_ratio=0.25, warmup_start_factor=0.1)
    run.on_before_zero_grad = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])  # type: ignore[method-assign]
    runner.fit(run, TinyData())
    expected = [0.1 * learning_rate_factor(step, 8, run.training_config) for step in range(8)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_is_fused_on_cuda_alone_and_its_gradients_can_be_clipped(device: str) -> None:
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.ones(3, device=device))
        made = RecipeAdamW([{"name": "projector", "params": [weight], "lr": 0.1, "weight_decay": 0.01}])
    assert bool(made.param_groups[0]["fused"]) == (device == "cuda")
    MixedPrecision("bf16-mixed", device).clip_gradients(made, 1.0)  # refused if the optimizer unscales gradients itself
