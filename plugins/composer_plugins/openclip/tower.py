"""Description of open_clip's vision towers. Does not import open_clip."""

from typing import NamedTuple

from composer.transform import Resample, Resize

Color = tuple[float, float, float]

HALF: Color = (0.5, 0.5, 0.5)


class Tower(NamedTuple):
    """Description of a vision tower and its input.

    Attributes:
        timm_name: Name of the model in timm.
        options: Arguments of timm's VisionTransformer.
        mean: Mean of the pixels, from 0 to 1.
        std: Standard deviation of the pixels, from 0 to 1.
        resize: Mode of resizing.
        resample: Filter of resizing.
    """

    timm_name: str
    options: dict[str, object]
    mean: Color
    std: Color
    resize: Resize
    resample: Resample = "bicubic"

    @property
    def is_siglip(self) -> bool:
        return "siglip" in self.timm_name


def siglip(timm_name: str, options: dict[str, object]) -> Tower:
    """Return a SigLIP tower."""
    # timm builds most SigLIP towers with exact GELU, but all SigLIP weights were trained with the tanh approximation.
    return Tower(timm_name, {**options, "act_layer": "gelu_tanh"}, HALF, HALF, "squash")


TINY = siglip(
    "vit_base_patch16_siglip_224", {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4}
)._replace(resize="keep-aspect")
"""Default tower, without a model name."""
