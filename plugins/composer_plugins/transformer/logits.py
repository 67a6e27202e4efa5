"""Scaling and capping of logits after the head, by architecture of transformers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def logits_rule(config: Any) -> Callable[[Tensor], Tensor]:
    """Create the function from the head's output to logits.

    Architectures divide by `logits_scaling` (Granite) or multiply by it (HyperCLOVA X).

    Args:
        config: Config of a causal language model.

    Returns:
        Function that scales and caps logits of any shape.
    """
    scale = getattr(config, "logit_scale", None) or 1.0
    scaling = getattr(config, "logits_scaling", None) or 1.0
    scale *= scaling if config.model_type == "hyperclovax" else 1 / scaling
    cap = getattr(config, "final_logit_softcapping", None)

    def rule(logits: Tensor) -> Tensor:
        if scale != 1.0:
            logits = logits * scale
        return logits if cap is None else (logits / cap).tanh() * cap

    return rule
