"""From resolved stages to a plan."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from composer.planning.build import build_meta
from composer.planning.stage import Assumptions, StagePlan, plan_stage
from composer.recipe.resolve import Recipe


@dataclass(frozen=True)
class Plan:
    """A recipe. parameters, tokens_per_frame: of the last stage's model, which is the finished one."""

    parameters: dict[str, int]
    tokens_per_frame: int
    assumptions: Assumptions
    stages: list[StagePlan] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def plan(
    stages: Sequence[tuple[str, Recipe]],
    *,
    device: str = "h200",
    devices: int = 1,
    utilization: float = 0.4,
    text_tokens: int = 128,
) -> Plan:
    """Estimate what stages cost, from shapes alone: nothing is downloaded, decoded or trained.

    Args:
        stages: each with its name.
        device: whose peak rate and memory are used, a key of `composer.planning.stage.PEAK`.
        devices: number of them; each holds all of the model.
        utilization: share of the peak rate that is reached, from 0 to 1.
        text_tokens: of a sample's question and answer.

    Returns:
        The plan, with all that does not fit in each stage's `misfits`.

    Raises:
        ComposerError: the model cannot be built, such as ComposeError if its parts do not fit together.
    """
    assumed = Assumptions(device, utilization, devices, text_tokens)
    planned, parameters = [], {}
    with _no_garbage_collection():
        for name, recipe in stages:
            model = build_meta(recipe.model)
            parameters = {part: sum(p.numel() for p in module.parameters()) for part, module in model.parts().items()}
            planned.append(plan_stage(name, recipe, model, assumed))
    return Plan(parameters | {"total": sum(parameters.values())}, planned[-1].tokens_per_frame, assumed, planned)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Turn the collector of cycles off: tracing makes millions of small objects, which it visits again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
