"""What a checkpoint's preprocessor_config.json says of its pixels."""

import math
from typing import Any, NamedTuple

from composer.errors import CheckpointError
from composer.transform import WHOLE_PATCHES, FrameTransform, Library, Resample, Resize
from composer_plugins.transformers_vision.families import Color, Family

RESAMPLE: dict[int, Resample] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters."""


class Preprocessor(NamedTuple):
    """Pixels as a checkpoint's own processor makes them.

    mean, std: of 0 to 1. resize, size: None if the file does not say; short_side: before a crop.
    """

    mean: Color
    std: Color
    resize: Resize | None = None
    size: int | None = None
    short_side: int | None = None
    resample: Resample = "bicubic"
    like: Library = "transformers"

    def transform(self, patch_size: int, native: int, resize: Resize | None, image_size: int | None) -> FrameTransform:
        """What the recipe asks for (`resize`, `image_size`), else what the file says, else "keep-aspect" at `native`.

        Modes of whole patches round the file's size down to them. A crop at another size keeps its share of the frame.
        """
        mode = resize or self.resize or "keep-aspect"
        size = image_size or self.size or native
        if mode in WHOLE_PATCHES and image_size is None:
            size = size // patch_size * patch_size
        short_side = None
        if mode == "center-crop" and self.short_side is not None and self.size is not None:
            short_side = round(self.short_side * size / self.size)
        return FrameTransform(size, patch_size, mode, self.resample, short_side, self.like)


def read_preprocessor(family: Family, pretrained: str, resize: Resize | None) -> Preprocessor:
    """The preprocessor of a hub name or a local folder; what the file does not say is the family's.

    Raises CheckpointError for a file that cannot be read, for a mean or std that is not of three channels, and, unless
    `resize` replaces it, for a way of resizing that composer does not have.
    """
    import transformers  # whose image processors import torchvision
    from transformers.models.auto.image_processing_auto import get_image_processor_config

    try:
        values = {k: v for k, v in get_image_processor_config(pretrained).items() if v is not None}
        own = getattr(transformers, family.processor)
        kind = getattr(transformers, str(values.get("image_processor_type")), own)
        processor = kind.from_dict({"image_mean": family.mean, "image_std": family.std} | values)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"model.encoder.pretrained: preprocessor_config.json of {pretrained!r} cannot be read: {error}"
        ) from error
    for name in ("image_mean", "image_std"):
        value = getattr(processor, name)
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise CheckpointError(
                f"model.encoder.pretrained: {name} of {pretrained!r} is {value} in its preprocessor_config.json; a "
                "tower takes three channels, so state three numbers there."
            )
    constants = Preprocessor(tuple(processor.image_mean), tuple(processor.image_std))
    return _resized(constants, processor, values, pretrained, resize) if processor.do_resize else constants


def _resized(
    constants: Preprocessor, processor: Any, values: dict[str, Any], pretrained: str, resize: Resize | None
) -> Preprocessor:
    """With the processor's filter, and its sizes if the file says them."""
    where = f"model.encoder.pretrained: preprocessor_config.json of {pretrained!r}"
    number = 2 if processor.resample is None else int(processor.resample)
    if number not in RESAMPLE:
        raise CheckpointError(f"{where}: got resample {number}, expected one of {RESAMPLE}; change it there")
    stated = constants._replace(resample=RESAMPLE[number])
    sizes = {key: values[key] for key in ("size", "crop_size", "do_center_crop", "max_num_patches") if key in values}
    if "size" not in sizes and "max_num_patches" not in sizes:
        return stated
    known = _most_patches(processor) if "max_num_patches" in sizes else _sides(processor)
    if known is None and resize is None:
        raise CheckpointError(
            f"{where}: got {', '.join(f'{key} {value}' for key, value in sizes.items())}, expected a square; set "
            "model.encoder.resize, and model.encoder.image_size if it is not the tower's own"
        )
    return stated._replace(**known or {})


def _most_patches(processor: Any) -> dict[str, Any] | None:
    side = math.isqrt(processor.max_num_patches)
    if side**2 != processor.max_num_patches:
        return None
    return {"resize": "max-patches", "size": side * processor.patch_size}


def _sides(processor: Any) -> dict[str, Any] | None:
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    square = size.height if size.height == size.width else None
    shortest = None if size.longest_edge else size.shortest_edge
    if crop is None:
        if square:
            return {"resize": "squash", "size": square}
        return {"resize": "keep-aspect", "size": shortest} if shortest else None
    if crop.height != crop.width:
        return None
    if square == crop.height:
        return {"resize": "squash", "size": square}
    if shortest and shortest >= crop.height:
        return {"resize": "center-crop", "size": crop.height, "short_side": shortest}
    return None
