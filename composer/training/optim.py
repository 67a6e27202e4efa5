"""AdamW with a learning rate for each part, and a learning rate that is a pure function of the step."""

import math
from typing import Any

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from composer.model.multimodal import MultimodalModel
from composer.parts import Backbone, decay_groups
from composer.recipe.training import TrainingConfig


def learning_rate_factor(step: int, total_steps: int, config: TrainingConfig) -> float:
    """The learning rate of optimizer step `step` (from 0) as a factor of the peak.

    Linear from `warmup_start_factor` to 1 over the first `warmup_ratio` of the steps, then a cosine to `min_lr_ratio`.
    """
    warmup_steps = round(config.warmup_ratio * total_steps)
    if step < warmup_steps:
        return config.warmup_start_factor + (1 - config.warmup_start_factor) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(model: MultimodalModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """One or more groups for each trained part: `params`, `lr`, `weight_decay` and the part's `name`.

    A backbone says itself which of its parameters decay or learn at another rate (`lr_scale`).
    """
    groups = []
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
    """AdamW that takes only its moments from a checkpoint: rates, betas and decay are those of the current recipe.

    On CUDA one kernel updates all parameters.
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        on_cuda = all(p.is_cuda for group in groups for p in group["params"])
        super().__init__(groups, fused=on_cuda or None, **options)
        # A fused step could undo the scale of fp16's gradients itself; clipping and the guard need them before that.
        self._step_supports_amp_scaling = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        groups = [
            {**{key: value for key, value in now.items() if key != "params"}, "params": saved["params"]}
            for now, saved in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        super().load_state_dict({**state_dict, "param_groups": groups})


class WarmupCosine(LambdaLR):
    """`learning_rate_factor` at every step. A checkpoint holds the step alone."""

    def __init__(self, optimizer: Optimizer, total_steps: int, config: TrainingConfig) -> None:
        super().__init__(optimizer, lambda step: learning_rate_factor(step, total_steps, config))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch = state_dict["step"]
        self._last_lr = [
            peak * factor(self.last_epoch) for peak, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
