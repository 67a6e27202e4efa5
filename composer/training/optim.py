"""AdamW with a learning rate per part, and a schedule that is a pure function of the step."""

import math
from collections.abc import Sequence
from typing import Any, TypedDict

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from composer.model.multimodal import MultimodalModel
from composer.parameters import decay_groups
from composer.parts import Backbone
from composer.recipe.training import TrainingConfig


def learning_rate_factor(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Compute the learning rate of a step as a factor of the peak.

    Linear from `warmup_start_factor` to 1 over the first `warmup_ratio` of the steps, then a cosine to `min_lr_ratio`.

    Args:
        step: Number of the optimizer step, from 0.
        total_steps: Number of steps of the run.
        config: The recipe's `training:` section.
    """
    warmup_steps = round(config.warmup_ratio * total_steps)
    if step < warmup_steps:
        return config.warmup_start_factor + (1 - config.warmup_start_factor) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


class OptimizerGroup(TypedDict):
    """An optimizer group. name: the part of its parameters."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def parameter_groups(model: MultimodalModel, config: TrainingConfig) -> list[OptimizerGroup]:
    """Make one or more groups for each trained part; a backbone's are those of `Backbone.parameter_groups`."""
    groups: list[OptimizerGroup] = []
    rates = {str(part): rate for part, rate in config.learning_rates.items()}
    for name, part in model.parts().items():
        rate = rates.get(name, config.learning_rate)
        for group in part.parameter_groups() if isinstance(part, Backbone) else decay_groups(part):
            parameters = [p for p in group["params"] if p.requires_grad]
            if parameters:
                decay = group.get("weight_decay", config.weight_decay)
                lr = rate * group.get("lr_scale", 1.0)
                groups.append({"name": name, "params": parameters, "lr": lr, "weight_decay": decay})
    return groups


class RecipeAdamW(AdamW):
    """AdamW that restores only its moments from a checkpoint: rates, betas and decay are those of the current recipe.

    On CUDA one kernel updates all parameters.
    """

    def __init__(self, groups: Sequence[OptimizerGroup], betas: tuple[float, float] = (0.9, 0.999)) -> None:
        on_cuda = all(p.is_cuda for group in groups for p in group["params"])
        super().__init__([dict(group) for group in groups], betas=betas, fused=on_cuda or None)
        # A fused step could unscale fp16's gradients itself, but clipping and the guard need them unscaled before it.
        self._step_supports_amp_scaling = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        groups = [
            {**{key: value for key, value in now.items() if key != "params"}, "params": saved["params"]}
            for now, saved in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        super().load_state_dict({**state_dict, "param_groups": groups})


class WarmupCosine(LambdaLR):
    """Learning rate schedule by `learning_rate_factor`. A checkpoint stores only the step."""

    def __init__(self, optimizer: Optimizer, total_steps: int, config: TrainingConfig) -> None:
        super().__init__(optimizer, lambda step: learning_rate_factor(step, total_steps, config))

    def state_dict(self) -> dict[str, int]:
        return {"step": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.last_epoch = state_dict["step"]
        self._last_lr = [
            peak * factor(self.last_epoch) for peak, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
