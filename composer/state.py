"""What a backbone remembers, as a value: it can be copied, cut, joined, moved, and kept in a file.

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
_SAMPLED = 64  # values of each parameter that a fingerprint reads


class State(ABC):
    """What a backbone remembers of B sequences: a recurrent state of constant size, or a KV cache.

    It is never changed, except one that `Backbone.reserve` made for `Backbone.step`.
    """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name, rows first: [B, ...]. Values are shared, not copied."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The state that holds these, as `tensors` gives them."""

    @property
    def rows(self) -> int:
        """B, the number of sequences."""
        return len(next(iter(self.tensors().values())))

    def clone(self) -> Self:
        """A copy that shares no memory."""
        return self.from_tensors({name: value.clone() for name, value in self.tensors().items()})

    def select(self, rows: Tensor) -> Self:
        """The states of these rows ([b] int64), in this order; rows may repeat."""
        return self.from_tensors({name: value[rows] for name, value in self.tensors().items()})

    def to(self, device: torch.device | str) -> Self:
        """The state on this device."""
        return self.from_tensors({name: value.to(device) for name, value in self.tensors().items()})

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """The rows of all `states` of one model, in their order."""
        held = [state.tensors() for state in states]
        return cls.from_tensors({name: torch.cat([tensors[name] for tensors in held]) for name in held[0]})

    def save(self, path: Path | str, fingerprint: str) -> None:
        """Write a safetensors file, whole or not at all. `fingerprint`: that of the model which made the state."""
        metadata = {"format": FORMAT, "state": type(self).__name__, "fingerprint": fingerprint}
        # Copies, because the parts of a state may share memory, which the format does not allow.
        held = {name: value.detach().cpu().clone().contiguous() for name, value in self.tensors().items()}
        with replacing(Path(path)) as temporary:
            save_file(held, temporary, metadata)

    @classmethod
    def load(cls, path: Path | str, fingerprint: str) -> Self:
        """The state that `save` wrote, on the CPU, for the model of this `fingerprint`.

        Raises CheckpointError where the file is missing, damaged, no state, or another model's.
        """
        if not Path(path).is_file():
            raise CheckpointError(f"There is no state file {path}: give a file that `State.save` wrote.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"State {path} cannot be read: it is truncated, or no state ({error}).") from error
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is no state of this composer: its format is {metadata.get('format')!r}, expected {FORMAT!r}."
            )
        if metadata["state"] != cls.__name__:
            raise CheckpointError(
                f"State {path} is a {metadata['state']}, and this model needs a {cls.__name__}: it was written by "
                "another kind of backbone. Read the text again with this one."
            )
        if metadata["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"State {path} was written by another model (fingerprint {metadata['fingerprint']}, this model's is "
                f"{fingerprint}): load it with the weights it came from, or read the text again."
            )
        return cls.from_tensors(held)


class Unkept(State):
    """In the place of a state that training has no use for and that would cost much. Raises RuntimeError when used."""

    def tensors(self) -> dict[str, Tensor]:
        raise RuntimeError("The state after packed sequences is kept under torch.no_grad() only: read them there.")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        raise RuntimeError("An unkept state holds nothing.")


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits that differ between models: names, shapes, and some values of every parameter and buffer.

    Values are read in bf16, so that a model has the same fingerprint in fp32 and in the bf16 it was stored in.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        flat = value.flatten()
        places = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _SAMPLED), device=flat.device).long()
        sampled = flat[places].to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes()
        digest.update(f"{name}{tuple(value.shape)}".encode() + sampled)
    return digest.hexdigest()[:16]
