"""One process's share of the questions. Does not import torch."""

import os
from dataclasses import dataclass
from typing import Self

from composer.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """Share of one process.

    Attributes:
        rank: This process's number; it asks every `world`-th question, starting with this one.
        world: The number of processes.
        batch_size: Questions that are answered together.
        num_workers: Processes that decode media.
    """

    rank: int = 0
    world: int = 1
    batch_size: int = 1
    num_workers: int = 0

    @classmethod
    def of_this_process(cls, batch_size: int, num_workers: int) -> Self:
        """Make the share from `RANK` and `WORLD_SIZE`, as torchrun sets them.

        Raises:
            ConfigError: These variables are not a rank and a larger number of processes.
        """
        texts = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
        if not all(text.isdigit() for text in texts.values()) or not int(texts["RANK"]) < int(texts["WORLD_SIZE"]):
            raise ConfigError(f"$RANK, $WORLD_SIZE: got {texts}, expected a rank from 0 up to the number of processes")
        return cls(int(texts["RANK"]), int(texts["WORLD_SIZE"]), batch_size, num_workers)
