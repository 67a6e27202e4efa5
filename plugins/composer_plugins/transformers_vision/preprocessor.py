"""Image preprocessing from a checkpoint's preprocessor_config.json."""

import math
from typing import Any, NamedTuple

from composer.errors import CheckpointError
from composer.transform import WHOLE_PATCHES, FrameTransform, Library, Resample, Resize
from composer_plugins.transformers_vision.families import Color, Family

RESAMPLE: dict[int, Resample] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Filters by Pillow's numbers."""


class Preprocessor(NamedTuple):
    """Preprocessing of a checkpoint.

    Attributes:
        mean: Mean of the pixels, from 0 to 1.
        std: Standard deviation of the pixels, from 0 to 1.
        resize: Mode of resizing; None if the file has none.
        size: Side in pixels; None if the file has none.
        short_side: Short side before a crop, in pixels.
        resample: Filter of resizing.
        like: Library whose rounding is used.
    """

    mean: Color
    std: Color
    resize: Resize | None = None
    size: int | None = None
    short_side: int | None = None
    resample: Resample = "bicubic"
    like: Library = "transformers"

    def transform(self, patch_size: int, native: int, resize: Resize | None, image_size: int | None) -> FrameTransform:
        """Create the frame transform.

        The file's size is rounded down to complete patches in modes that need them. A crop at a different size keeps
        the same fraction of the frame.

        Args:
            patch_size: Side of a patch in pixels.
            native: Default size in pixels.
            resize: Mode of the recipe; None for that of the file, or keep-aspect.
            image_size: Size of the recipe in pixels; None for that of the file, or `native`.

        Returns:
            The transform.
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
    """Read the preprocessor of a checkpoint.

    Args:
        family: Family of the tower, for defaults.
        pretrained: Name on the hub or local folder.
        resize: Mode of the recipe, which overrides that of the file.

    Returns:
        The preprocessor.

    Raises:
        CheckpointError: If the file cannot be read, mean or std do not have three channels, or `resize` is None and
            the file's mode of resizing is not supported.
    """
    import transformers  # its image processors import torchvision
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
                f"model.encoder.pretrained: preprocessor_config.json of {pretrained!r}: {name}: got {value}, "
                "expected three numbers; change it there"
            )
    constants = Preprocessor(tuple(processor.image_mean), tuple(processor.image_std))
    return _add_resizing(constants, processor, values, pretrained, resize) if processor.do_resize else constants


def _add_resizing(
    constants: Preprocessor, processor: Any, values: dict[str, Any], pretrained: str, resize: Resize | None
) -> Preprocessor:
    """Add the processor's filter, and its sizes if the file has them."""
    where = f"model.encoder.pretrained: preprocessor_config.json of {pretrained!r}"
    number = 2 if processor.resample is None else int(processor.resample)
    if number not in RESAMPLE:
        raise CheckpointError(f"{where}: got resample {number}, expected one of {RESAMPLE}; change it there")
    filtered = constants._replace(resample=RESAMPLE[number])
    sizes = {key: values[key] for key in ("size", "crop_size", "do_center_crop", "max_num_patches") if key in values}
    if "size" not in sizes and "max_num_patches" not in sizes:
        return filtered
    options = _from_max_patches(processor) if "max_num_patches" in sizes else _from_sides(processor)
    if options is None and resize is None:
        raise CheckpointError(
            f"{where}: got {', '.join(f'{key} {value}' for key, value in sizes.items())}, expected a square; set "
            "model.encoder.resize, and model.encoder.image_size if it is not the tower's own"
        )
    return filtered._replace(**options or {})


def _from_max_patches(processor: Any) -> dict[str, Any] | None:
    """Resizing by a maximum number of patches; None if it is not a square."""
    side = math.isqrt(processor.max_num_patches)
    if side**2 != processor.max_num_patches:
        return None
    return {"resize": "max-patches", "size": side * processor.patch_size}


def _from_sides(processor: Any) -> dict[str, Any] | None:
    """Resizing by sides in pixels; None if it is not supported."""
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
