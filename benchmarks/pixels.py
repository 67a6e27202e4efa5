"""Table of differences between our pixels and those of the libraries' processors, by encoder and resize mode.

    python -m benchmarks.pixels

The images are the opaque ones of scikit-image. Differences are in levels of 255.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import skimage
import transformers
from numpy.typing import NDArray
from open_clip.transform import ResizeKeepRatio, center_crop_or_pad, image_transform
from PIL import Image
from torchvision.transforms import Resize as TorchvisionResize

from composer.data.media.image import read_image
from composer.parts import Encoder
from composer.sample import Media
from composer.transform import PAD_VALUE, WHOLE_PATCHES, FrameTransform, Resize
from composer_plugins.openclip import OpenClipConfig
from composer_plugins.openclip.encoder import OpenClipEncoder
from composer_plugins.transformers_vision import TransformersVisionConfig
from composer_plugins.transformers_vision.encoder import TransformersVisionEncoder
from composer_plugins.transformers_vision.families import FAMILIES

Reference = Callable[[Image.Image, FrameTransform], NDArray[np.uint8]]

MODES: tuple[Resize, ...] = get_args(Resize)
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
SQUARE_384, SQUARE_256 = {"height": 384, "width": 384}, {"height": 256, "width": 256}
CROP_224 = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}

CHECKPOINTS: dict[str, tuple[str, dict[str, int], Any]] = {
    "siglip, patch 14 at 384": (
        "siglip",
        {"image_size": 384, "patch_size": 14},
        transformers.SiglipImageProcessor(size=SQUARE_384),
    ),
    "siglip2 at 256, bilinear": (
        "siglip",
        {"image_size": 256, "patch_size": 16},
        transformers.SiglipImageProcessor(size=SQUARE_256, resample=2),
    ),
    "clip at 224": ("clip", {"image_size": 224, "patch_size": 16}, transformers.CLIPImageProcessor(**CROP_224)),
    "dinov2 at 256, cropped to 224": (
        "dinov2",
        {"image_size": 518, "patch_size": 14},
        transformers.BitImageProcessor(**CROP_224 | {"size": {"shortest_edge": 256}}),
    ),
}
"""Family, sizes of the tower, and processor of each checkpoint, by name."""


@dataclass
class Row:
    """Differences of one encoder in one mode from a reference, over all images. default: whether it is the default."""

    encoder: str
    resize: str
    reference: str
    default: bool
    worst: int
    mean: float


def photos() -> list[Path]:
    """List the opaque images of scikit-image."""
    folder = Path(skimage.__file__).parent / "data"
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    return [path for path in paths if not Image.open(path).has_transparency_data]


def compare(paths: list[Path]) -> Iterator[Row]:
    """Compare all encoders, modes and references."""
    for name, default, encoders, references in (*_of_open_clip(), *_of_transformers()):
        for mode, encoder in encoders.items():
            for library, reference in references[mode].items():
                gaps = [_gap(path, encoder.transform, reference) for path in paths]
                worst = max(int(gap.max()) for gap in gaps)
                yield Row(name, mode, library, mode == default, worst, float(np.mean([gap.mean() for gap in gaps])))


def _gap(path: Path, transform: FrameTransform, reference: Reference) -> NDArray[np.int64]:
    ours = read_image(Media("image", str(path)), transform).astype(int)
    return np.abs(ours - reference(Image.open(path).convert("RGB"), transform).astype(int))


def _of_open_clip() -> Iterator[tuple[str, Resize, dict[Resize, Encoder], dict[Resize, dict[str, Reference]]]]:
    names: dict[Resize, str] = {"squash": "squash", "center-crop": "shortest", "pad": "longest"}

    def reference(mode: Resize) -> Reference:
        def transform_image(image: Image.Image, transform: FrameTransform) -> NDArray[np.uint8]:
            if mode in WHOLE_PATCHES:
                scaled = TorchvisionResize(transform.scaled_size(image.height, image.width), 3)  # type: ignore[arg-type]
                return np.asarray(scaled(image))
            steps = image_transform(transform.size, False, resize_mode=names[mode], fill_color=PAD_VALUE).transforms
            for step in steps[:-2]:  # the last two create a tensor and normalize it
                image = step(image)
            return np.asarray(image)

        return transform_image

    for model in ("ViT-SO400M-14-SigLIP-384", "ViT-B-32"):
        tiny = {"model": model, "width": 16, "depth": 1, "heads": 1}
        encoders: dict[Resize, Encoder] = {
            mode: OpenClipEncoder(**OpenClipConfig(**tiny, resize=mode).model_dump()) for mode in MODES
        }
        default = OpenClipEncoder(**OpenClipConfig(**tiny).model_dump()).transform.resize
        yield f"openclip, {model}", default, encoders, {mode: {"open_clip": reference(mode)} for mode in MODES}


def _of_transformers() -> Iterator[tuple[str, Resize, dict[Resize, Encoder], dict[Resize, dict[str, Reference]]]]:
    for name, (family, sizes, processor) in CHECKPOINTS.items():
        with tempfile.TemporaryDirectory() as folder:
            FAMILIES[family].model(FAMILIES[family].config(**TINY, **sizes)).save_pretrained(folder)
            processor.save_pretrained(folder)
            encoders: dict[Resize, Encoder] = {
                mode: TransformersVisionEncoder(**TransformersVisionConfig(pretrained=folder, resize=mode).model_dump())
                for mode in MODES
            }
            options = TransformersVisionConfig(pretrained=folder).model_dump()
            default = TransformersVisionEncoder(**options).transform.resize
        yield f"transformers-vision, {name}", default, encoders, _processors(processor)


def _processors(processor: Any) -> dict[Resize, dict[str, Reference]]:
    def scale(image: Image.Image, **options: Any) -> NDArray[np.uint8]:
        plain = {"do_rescale": False, "do_normalize": False, "return_tensors": "np", "do_center_crop": False}
        pixels: NDArray[np.uint8] = processor(image, **plain | options)["pixel_values"][0]
        return pixels.transpose(1, 2, 0)

    def same_size(image: Image.Image, transform: FrameTransform) -> NDArray[np.uint8]:
        height, width = transform.scaled_size(image.height, image.width)
        return scale(image, size={"height": height, "width": width})

    def crop_image(image: Image.Image, transform: FrameTransform) -> NDArray[np.uint8]:
        crop = {"height": transform.size, "width": transform.size}
        size = {"shortest_edge": transform.short_side or transform.size}
        return scale(image, size=size, crop_size=crop, do_center_crop=True)

    def pad_image(image: Image.Image, transform: FrameTransform) -> NDArray[np.uint8]:
        width, height = ResizeKeepRatio.get_params(image, (transform.size,) * 2, 1.0)[::-1]
        small = Image.fromarray(scale(image, size={"height": height, "width": width}))
        return np.asarray(center_crop_or_pad(small, [transform.size] * 2, fill=PAD_VALUE))

    def llava(image: Image.Image, transform: FrameTransform) -> NDArray[np.uint8]:
        size = {"height": transform.size, "width": transform.size}
        plain = {"do_center_crop": False, "do_rescale": False, "do_normalize": False}
        own = transformers.LlavaImageProcessor(size=size, resample=processor.resample, image_mean=[0.503] * 3, **plain)
        pixels = own(
            image, do_pad=True, do_center_crop=False, do_rescale=False, do_normalize=False, return_tensors="np"
        )
        return np.asarray(pixels["pixel_values"][0].transpose(1, 2, 0))

    name = type(processor).__name__
    return {
        "keep-aspect": {name: same_size},
        "max-patches": {name: same_size},
        "squash": {name: same_size},
        "center-crop": {name: crop_image},
        "pad": {f"{name}, padded by open_clip": pad_image, "LlavaImageProcessor": llava},
    }


def main() -> None:
    paths = photos()
    print(f"{len(paths)} images of scikit-image {skimage.__version__}\n")
    print("| encoder | resize | reference | max | mean |")
    print("|---|---|---|---|---|")
    for row in compare(paths):
        default = " (default)" if row.default else ""
        print(f"| {row.encoder} | {row.resize}{default} | {row.reference} | {row.worst} | {row.mean:.3f} |")


if __name__ == "__main__":
    main()
