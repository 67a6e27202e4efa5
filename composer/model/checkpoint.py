"""Checkpoints: writing one so that it is whole or absent, and reading one back.

A checkpoint is Lightning's dictionary of plain values and tensors, so that `torch.load(weights_only=True)` reads it and
nothing in it can run code. composer adds the key `composer` (see `header`), and keeps the model's and the training's
configuration in `hyper_parameters`, each component by its qualified name (see `composer.registry`). All weights are in
it, those of frozen parts too.
"""

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from composer import __version__
from composer.atomic import replacing
from composer.errors import CheckpointError, ComposerError
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.plugin import SLOTS, Kind
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import model_config
from composer.registry import load_registry, load_target
from composer.transform import FrameTransform

log = logging.getLogger(__name__)

FORMAT = 1
SUFFIX = ".ckpt"
_MODEL = "model."  # where the LightningModule keeps the model


def header(config: ModelConfig, frames: int, transform: FrameTransform) -> dict[str, Any]:
    """A checkpoint's key `composer`: format, frames of a video and their transform in training, distributions that the
    model is made of."""
    chosen: list[tuple[Kind, str]] = [("reducer", reducer.name) for reducer in config.reducer]
    chosen += [
        ("encoder", config.encoder.name),
        ("projector", config.projector.name),
        ("backbone", config.backbone.name),
    ]
    plugins = [load_registry().find(kind, name).plugin for kind, name in chosen]
    distributions = {plugin.distribution: plugin.version for plugin in plugins}
    return {
        "format": FORMAT,
        "frames": frames,
        "transform": asdict(transform),
        "distributions": {"multimodal-composer": __version__} | distributions,
    }


def write_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all, however the process ends. Raises DiskFullError."""
    # Given a file, torch raises from the failed write; given a path it says nothing of why it failed.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(checkpoint), file)


def newest(folder: Path | str) -> Path | None:
    """The checkpoint that was written last, in this folder or below it, and is whole; None where there is none."""
    found = [(path.stat().st_mtime_ns, path.name, path) for path in Path(folder).rglob(f"*{SUFFIX}")]
    for *_, path in sorted(found, reverse=True):
        damage = _damage(path)
        if damage is None:
            return path
        log.warning("Checkpoint %s is left out: %s", path, damage)
    return None


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's dictionary, its tensors on the CPU. A folder stands for its newest whole checkpoint.

    Raises CheckpointError where the file is missing, truncated, refused, or no checkpoint of composer.
    """
    path = locate(path)
    damage = _damage(path)
    if damage is not None:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {damage}. Use another one of its folder.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(
            f"Checkpoint {path} holds more than plain values and tensors, so reading it could run code; it was not "
            f"read ({str(error).splitlines()[0]}). Checkpoints that composer writes are plain."
        ) from error
    if not isinstance(checkpoint, dict) or not {"composer", "state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint that `composer fit` wrote: its key 'composer' is missing.")
    if checkpoint["composer"]["format"] > FORMAT:
        raise CheckpointError(
            f"Checkpoint {path} has format {checkpoint['composer']['format']}, and this composer reads up to {FORMAT}: "
            f"install multimodal-composer {checkpoint['composer']['distributions'].get('multimodal-composer')}."
        )
    distributions = checkpoint["composer"].get("distributions", {})
    for distribution, written in distributions.items():
        _compare_version(distribution, written)
    _qualify(checkpoint["hyper_parameters"].get("model", {}), distributions)
    return checkpoint


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


def _qualify(model: Mapping[str, Any], distributions: Mapping[str, str]) -> None:
    """Qualify bare names, which earlier versions wrote, if several distributions offer them by now."""
    for kind in SLOTS:
        for slot in model.get(kind, ()) if kind == "reducer" else [model.get(kind, {})]:
            matches = load_registry().matches(kind, slot.get("name", ""))
            known = [provider for provider in matches if provider.plugin.distribution in distributions]
            if len(matches) > 1 and len(known) == 1:
                slot["name"] = known[0].qualified_name


def load_model(path: Path | str, device: torch.device | str = "cpu") -> MultimodalModel:
    """The model of a checkpoint file or of a folder's newest checkpoint, in evaluation mode on `device`.

    Raises CheckpointError as `read_checkpoint` does, and where the weights are of another architecture.
    """
    return restore_model(read_checkpoint(path), str(path), device)


def restore_model(
    checkpoint: Mapping[str, Any],
    source: str,
    device: torch.device | str = "cpu",
    config: ModelConfig | None = None,
) -> MultimodalModel:
    """The model of a checkpoint that is read already; `source` names it in errors. Otherwise as `load_model`.

    config: in place of the checkpoint's own, where options that change no weight are to be others.
    """
    config = config or model_config(checkpoint["hyper_parameters"]["model"])
    try:
        model = compose(config)
    except ComposerError as missing:
        model = _without_pretrained(config, model_weights(checkpoint), missing)
        transform = checkpoint.get("composer", {}).get("transform")
        if transform and config.encoder == model_config(checkpoint["hyper_parameters"]["model"]).encoder:
            model.encoder.transform = FrameTransform(**transform)  # which what it was trained from may have determined
    load_weights(model, checkpoint, source)
    return model.to(device).eval()


def _without_pretrained(config: ModelConfig, weights: Mapping[str, Tensor], missing: ComposerError) -> MultimodalModel:
    """The model, where what it was trained from is not at hand: it is not needed if the sizes are known without it.

    Raises `missing`, the error of reading that, where they are not.
    """
    target = load_target(load_registry().find("backbone", config.backbone.name))
    own = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
    sizes = target.sizes_of(own) if hasattr(target, "sizes_of") else {}
    try:
        model = compose(config.without_pretrained(**sizes))
        check_architecture(model, weights, "")
    except ComposerError:
        raise missing from None
    return model


def load_weights(model: MultimodalModel, checkpoint: Mapping[str, Any], source: str) -> None:
    """Copy a checkpoint's weights into `model`; `source` names it in the error.

    Raises CheckpointError where a weight is missing, left over, or of another shape.
    """
    weights = model_weights(checkpoint)
    check_architecture(model, weights, source)
    model.load_state_dict(weights)


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint, with the keys of `MultimodalModel.state_dict`."""
    return {
        key.removeprefix(_MODEL): value for key, value in checkpoint["state_dict"].items() if key.startswith(_MODEL)
    }


def check_architecture(model: MultimodalModel, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError, part by part, where `weights` are not those of a model like `model`."""
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
        lines = [f"Checkpoint {source} is of another architecture than the model:"]
        for part, found in problems.items():
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            lines.append(f"  {part}: {'; '.join(found[:3])}{more}")
        lines.append("Give these parts the options that the checkpoint was trained with, or use another checkpoint.")
        raise CheckpointError("\n".join(lines))


def locate(path: Path | str) -> Path:
    """The checkpoint file that `path` stands for: itself, or a folder's newest whole one. Raises CheckpointError."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}: give a checkpoint file or a run folder.")
    if path.is_file():
        return path
    found = newest(path)
    if found is None:
        raise CheckpointError(f"There is no whole checkpoint (*{SUFFIX}) in the folder {path}.")
    return found


def fingerprint(path: Path) -> str:
    """What tells a checkpoint file from others: a digest of the names, sizes and checksums of the records in it."""
    with zipfile.ZipFile(path) as archive:
        records = sorted((info.filename, info.file_size, info.CRC) for info in archive.infolist())
    # torch names the archive's folder after the file, so that a copy by another name has the same fingerprint.
    inside = [(name.partition("/")[2], size, checksum) for name, size, checksum in records]
    return hashlib.sha256(repr(inside).encode()).hexdigest()[:16]


def _damage(path: Path) -> str | None:
    """What is wrong with a file that should be one of torch's zip archives; None where every checksum is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        return None if broken is None else f"its record {broken} is damaged"
    except zipfile.BadZipFile:
        return "it is truncated, or not a checkpoint"
    except OSError as error:
        return f"{error.strerror}"
