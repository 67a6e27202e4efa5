"""Checkpoints: written atomically, verified when they are read.

A checkpoint is Lightning's dictionary of plain values and tensors, so that `torch.load(weights_only=True)` reads it and
nothing in it can run code. composer adds the key `composer` (`Header`), and stores the model's and the training's
configuration in `hyper_parameters`, each component by its qualified name (see `composer.registry`). It contains all
weights, those of frozen parts too, and what else the parts read from files: restoring reads only the checkpoint.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor

from composer import __version__
from composer.atomic import replacing
from composer.errors import CheckpointError, ComposerError
from composer.model.archive import DamagedError, read_archive
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.unfilled import fill
from composer.parts import Part, Resolved
from composer.plugin import Kind, SlotConfig
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import model_config
from composer.registry import load_registry

log = logging.getLogger(__name__)

FORMAT = 2
SUFFIX = ".ckpt"
OF_TRAINING = ("optimizer_states", "lr_schedulers", "callbacks", "loops")
"""Keys that only resuming the training needs."""

_MODEL = "model."  # prefix of the model's weights in the LightningModule


class Header(TypedDict):
    """A checkpoint's key `composer`.

    Attributes:
        format: `FORMAT`.
        frames: Frames per video in training.
        distributions: Version of each distribution that the model's components come from.
        resolved: `Part.resolved` of each part, by its name in the model.
    """

    format: int
    frames: int
    distributions: dict[str, str]
    resolved: dict[str, Resolved]


class HyperParameters(TypedDict):
    """Sections of a checkpoint's recipe as plain values."""

    model: dict[str, object]
    training: NotRequired[dict[str, object]]


class Checkpoint(TypedDict):
    """The keys of a checkpoint that composer reads; Lightning stores the state of the training in other keys."""

    composer: Header
    hyper_parameters: HyperParameters
    state_dict: dict[str, Tensor]
    global_step: NotRequired[int]


def header(config: ModelConfig, frames: int, model: MultimodalModel) -> Header:
    """Make the key `composer` of a checkpoint.

    Args:
        config: All options of the model.
        frames: Frames per video in training.
        model: The model that was composed from `config`.
    """
    plugins = [load_registry().find(kind, slot.name).plugin for _, kind, slot in _slots(config)]
    distributions = {plugin.distribution: plugin.version for plugin in plugins}
    resolved = {name: part.resolved() for name, part in _parts(model).items()}
    return {
        "format": FORMAT,
        "frames": frames,
        "distributions": {"multimodal-composer": __version__} | distributions,
        "resolved": {name: values for name, values in resolved.items() if values is not None},
    }


def write_checkpoint(checkpoint: Mapping[str, object], path: Path) -> None:
    """Write a checkpoint atomically. Raises DiskFullError."""
    # Given a file, torch raises from the failed write; given a path, its error has no reason.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(checkpoint), file)


def newest(folder: Path | str) -> Path | None:
    """Find the intact checkpoint that was written last, in a folder or below it; None if there is none."""
    return next((path for path, _ in _intact(Path(folder), resume=True)), None)


def read_checkpoint(path: Path | str, *, resume: bool = True) -> Checkpoint:
    """Read a checkpoint. Its tensors are on the CPU, in memory that is mapped to the file.

    Args:
        path: The file, or a folder, which stands for its newest intact checkpoint.
        resume: Whether to read and verify the keys that only resuming the training needs.

    Raises:
        CheckpointError: The file is missing, damaged, refused, or not a checkpoint of composer.
    """
    path, content = _open(Path(path), resume=resume)
    if not {"composer", "state_dict", "hyper_parameters"} <= content.keys():
        raise CheckpointError(f"{path} is not a checkpoint written by `composer fit`: its key 'composer' is missing")
    checkpoint = cast(Checkpoint, content)
    written = checkpoint["composer"]["format"]
    distributions = checkpoint["composer"]["distributions"]
    if written != FORMAT:
        raise CheckpointError(
            f"Checkpoint {path}: got format {written}, expected {FORMAT}: install multimodal-composer "
            f"{distributions.get('multimodal-composer')}, which wrote it, or train again"
        )
    for distribution, version in distributions.items():
        _compare_version(distribution, version)
    return checkpoint


def locate(path: Path | str) -> Path:
    """Find the checkpoint file that `path` names: itself, or a folder's newest one whose weights are intact.

    Raises:
        CheckpointError: There is no such file.
    """
    return _open(Path(path), resume=False)[0]


def load_model(path: Path | str, device: torch.device | str = "cpu") -> MultimodalModel:
    """Load the model of a checkpoint file or of a folder's newest checkpoint, in evaluation mode.

    Raises:
        CheckpointError: As `read_checkpoint` and `restore_model`.
    """
    return restore_model(read_checkpoint(path, resume=False), str(path), device)


def restore_model(
    checkpoint: Checkpoint,
    source: str,
    device: torch.device | str = "cpu",
    config: ModelConfig | None = None,
) -> MultimodalModel:
    """Build the model of a checkpoint around the checkpoint's own tensors, in evaluation mode.

    Args:
        checkpoint: Result of `read_checkpoint`.
        source: The checkpoint's name in errors.
        device: Device of the model.
        config: Replaces the checkpoint's own configuration, to change options that change no weight.

    Raises:
        CheckpointError: As `compose_with`.
    """
    config = config or model_config(checkpoint["hyper_parameters"]["model"])
    return compose_with(config, checkpoint, source).to(device).eval()


def compose_with(config: ModelConfig, checkpoint: Checkpoint, source: str, *, copy: bool = False) -> MultimodalModel:
    """Build the model of a configuration with a checkpoint's weights instead of those that its options name.

    Args:
        config: The checkpoint's configuration, or one that differs in options that change no weight.
        checkpoint: Result of `read_checkpoint`.
        source: The checkpoint's name in errors.
        copy: Whether the weights are copied; otherwise the model uses the checkpoint's own tensors.

    Raises:
        CheckpointError: The weights do not match the model, or a part whose `resolved` is None cannot be built again.
    """
    resolved = _resolved_for(config, checkpoint)
    try:
        model = compose(config, resolved)
    except ComposerError as error:
        again = [f"{kind} from {slot.pretrained!r}" for kind, slot in _read_again(config, resolved)]
        if not again:
            raise
        raise CheckpointError(
            f"Checkpoint {source} cannot build the {' and the '.join(again)} without these weights, so they are needed "
            f"again: {error}"
        ) from error
    weights = model_weights(checkpoint)
    check_architecture(model, weights, source)
    for name, part in _parts(model).items():
        own = part.state_dict()
        values = {key: weights[f"{name}.{key}"].to(value.dtype, copy=copy) for key, value in own.items()}
        if name in resolved:
            fill(part, values)
        else:
            part.load_state_dict(values)
    return model


def model_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Extract the weights of a checkpoint, with the keys of `MultimodalModel.state_dict`."""
    return {
        key.removeprefix(_MODEL): value for key, value in checkpoint["state_dict"].items() if key.startswith(_MODEL)
    }


def check_architecture(model: MultimodalModel, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError, part by part, if `weights` do not match `model`."""
    own = model.state_dict()
    problems: dict[str, list[str]] = {}
    for key in dict.fromkeys((*own, *weights)):
        part = "reducer" if key.startswith("reducers.") else key.partition(".")[0]
        if key not in weights:
            problems.setdefault(part, []).append(f"{key} {tuple(own[key].shape)} is missing from the checkpoint")
        elif key not in own:
            problems.setdefault(part, []).append(f"{key} {tuple(weights[key].shape)} is not in the model")
        elif own[key].shape != weights[key].shape:
            shapes = f"is {tuple(weights[key].shape)} in the checkpoint, {tuple(own[key].shape)} in the model"
            problems.setdefault(part, []).append(f"{key} {shapes}")
    if problems:
        lines = [f"Checkpoint {source} does not match the model's architecture:"]
        for part, differences in problems.items():
            more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
            lines.append(f"  {part}: {'; '.join(differences[:3])}{more}")
        lines.append("Give these parts the options that the checkpoint was trained with, or use another checkpoint")
        raise CheckpointError("\n".join(lines))


def fingerprint(path: Path) -> str:
    """Content hash of a checkpoint file, computed from the names, sizes and checksums of its records."""
    with zipfile.ZipFile(path) as archive:
        records = sorted((info.filename, info.file_size, info.CRC) for info in archive.infolist())
    # The archive's folder has the file's name; without it a renamed copy has the same fingerprint.
    inside = [(name.partition("/")[2], size, checksum) for name, size, checksum in records]
    return hashlib.sha256(repr(inside).encode()).hexdigest()[:16]


@cache
def _compare_version(distribution: str, written: str) -> None:
    """Warn, once per process, if a checkpoint was written with another version of a distribution than is installed."""
    versions = {plugin.distribution: plugin.version for plugin in load_registry().plugins}
    installed = (versions | {"multimodal-composer": __version__}).get(distribution)
    if installed is None:
        log.warning(
            "The checkpoint was written with %s %s, which is not installed: pip install '%s==%s'",
            *(distribution, written, distribution, written),
        )
    elif installed != written:
        log.warning("The checkpoint was written with %s %s; %s is installed", distribution, written, installed)


def _slots(config: ModelConfig) -> Iterator[tuple[str, Kind, SlotConfig]]:
    """Each part's name in the model, its kind and its configuration."""
    yield "encoder", "encoder", config.encoder
    for index, slot in enumerate(config.reducer):
        yield f"reducers.{index}", "reducer", slot
    yield "projector", "projector", config.projector
    yield "backbone", "backbone", config.backbone


def _parts(model: MultimodalModel) -> dict[str, Part]:
    """The parts by their names in the model, which are the prefixes of their weights' keys."""
    reducers = {f"reducers.{index}": cast(Part, reducer) for index, reducer in enumerate(model.reducers)}
    return {"encoder": model.encoder, **reducers, "projector": model.projector, "backbone": model.backbone}


def _resolved_for(config: ModelConfig, checkpoint: Checkpoint) -> dict[str, Resolved]:
    """Stored values of the parts whose component and `pretrained` weights in `config` are the same as in training."""

    def origin(slot: SlotConfig) -> tuple[str, object]:
        return slot.name, getattr(slot, "pretrained", None)

    before = {name: origin(slot) for name, _, slot in _slots(model_config(checkpoint["hyper_parameters"]["model"]))}
    stored = checkpoint["composer"]["resolved"]
    return {name: stored[name] for name, _, slot in _slots(config) if name in stored and before[name] == origin(slot)}


def _read_again(config: ModelConfig, resolved: Mapping[str, Resolved]) -> list[tuple[str, Any]]:
    """Kind and configuration of each part whose `pretrained` weights are read although a checkpoint has its own."""
    slots = [(kind, slot) for name, kind, slot in _slots(config) if name not in resolved]
    return [(f"{kind} {slot.name!r}", slot) for kind, slot in slots if getattr(slot, "pretrained", None) is not None]


def _open(path: Path, *, resume: bool) -> tuple[Path, dict[str, object]]:
    """The file that `path` names, and its content. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}: give a checkpoint file or a run folder")
    if not path.is_dir():
        return path, read_archive(path, without=() if resume else OF_TRAINING)
    for intact in _intact(path, resume=resume):
        return intact
    raise CheckpointError(
        f"There is no complete checkpoint (*{SUFFIX}) in the folder {path}: give another folder, or a checkpoint file"
    )


def _intact(folder: Path, *, resume: bool) -> Iterator[tuple[Path, dict[str, object]]]:
    """The intact checkpoints in a folder and below it with their contents, newest first."""
    files = [(path.stat().st_mtime_ns, path.name, path) for path in folder.rglob(f"*{SUFFIX}")]
    for *_, path in sorted(files, reverse=True):
        try:
            yield path, read_archive(path, without=() if resume else OF_TRAINING)
        except DamagedError as error:
            log.warning("Checkpoint %s is skipped: %s", path, error.reason)
