"""Device of a model."""

import os

import torch

from composer.errors import ConfigError


def device_of(name: str, option: str = "--device") -> torch.device:
    """Parse the name of a device.

    Args:
        name: `cpu`, `cuda`, `cuda:1` ...; `auto` is this process's GPU, or the CPU if there is none.
        option: The option's name in errors.

    Raises:
        ConfigError: The device cannot be used.
    """
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails for a GPU that does not exist
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{option}: got {name!r}, which cannot be used ({reason}): expected auto, cpu, cuda or cuda:N, with N "
            f"below the number of GPUs that torch sees here, {torch.cuda.device_count()}"
        ) from error
    return device
