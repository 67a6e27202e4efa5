"""A backbone's state as a value that can be copied, split, joined, moved and saved to a file.

Legend: B rows.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from composer.atomic import replacing
from composer.errors import CheckpointError

FORMAT = "composer-state-1"
_SAMPLES = 64  # values of each parameter that a fingerprint reads


class State(ABC):
    """A backbone's state of B sequences: a recurrent state of constant size, or a KV cache.

    Immutable, except for a state that `Backbone.reserve` makes for `Backbone.step`.
    """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name, each [B, ...]. They are shared, not copied."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Make a state of the tensors that `tensors` returned."""

    @property
    def rows(self) -> int:
        """Number of sequences, B."""
        return len(next(iter(self.tensors().values())))

    def clone(self) -> Self:
        """Copy the state; the copy shares no memory with it."""
        return self.from_tensors({name: value.clone() for name, value in self.tensors().items()})

    def select(self, rows: Tensor) -> Self:
        """Select rows by index ([b] int64), in this order; an index may occur more than once."""
        return self.from_tensors({name: value[rows] for name, value in self.tensors().items()})

    def to(self, device: torch.device | str) -> Self:
        """Copy the state to a device."""
        return self.from_tensors({name: value.to(device) for name, value in self.tensors().items()})

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """Concatenate the rows of several states of one model."""
        tensors = [state.tensors() for state in states]
        return cls.from_tensors({name: torch.cat([each[name] for each in tensors]) for name in tensors[0]})

    def save(self, path: Path | str, fingerprint: str) -> None:
        """Write the state to a safetensors file, atomically.

        Args:
            path: The file.
            fingerprint: Fingerprint of the model that made the state.
        """
        metadata = {"format": FORMAT, "state": type(self).__name__, "fingerprint": fingerprint}
        # Copies, because the tensors of a state may share memory, which the format does not allow.
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in self.tensors().items()}
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path | str, fingerprint: str) -> Self:
        """Read a state that `save` wrote, to the CPU.

        Args:
            path: The file.
            fingerprint: Fingerprint of the model that will use the state.

        Raises:
            CheckpointError: If the file is missing or damaged, is not a state, or belongs to a different model.
        """
        if not Path(path).is_file():
            raise CheckpointError(f"{path}: no such file, expected a state written by `State.save`")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"State {path} cannot be read: it is truncated, or not a state ({error})") from error
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is not a state that this version can read: got format {metadata.get('format')!r}, expected "
                f"{FORMAT!r}"
            )
        if metadata["state"] != cls.__name__:
            raise CheckpointError(
                f"State {path} belongs to a different kind of backbone: got {metadata['state']}, expected "
                f"{cls.__name__}. Read the text again with this backbone"
            )
        if metadata["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"State {path} belongs to a different model: got fingerprint {metadata['fingerprint']}, expected "
                f"{fingerprint}. Load it with the weights it was made with, or read the text again"
            )
        return cls.from_tensors(tensors)


class Unkept(State):
    """Placeholder for a state that training does not use and that would be expensive. Raises RuntimeError if used."""

    def tensors(self) -> dict[str, Tensor]:
        raise RuntimeError("The state after packed sequences is kept only under torch.no_grad(): run them there")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        raise RuntimeError("An `Unkept` state has no tensors")


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Hash of a model's parameters and buffers: names, shapes and some values of each, as 16 hexadecimal digits.

    Values are read in bf16, so that a model has the same fingerprint in fp32 as in the bf16 that it was stored in.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        flat = value.flatten()
        indices = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _SAMPLES), device=flat.device).long()
        samples = flat[indices].to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes()
        digest.update(f"{name}{tuple(value.shape)}".encode() + samples)
    return digest.hexdigest()[:16]
